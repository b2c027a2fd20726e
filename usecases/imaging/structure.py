"""Whether bytes are built as a DICOM data set is, looked at before a library believes them."""

import struct
import zlib

from pydicom.datadict import dictionary_VR

from orrery.errors import OrreryError

LARGEST = 64 * 1024 * 1024
"""bytes of a file, and of what a deflated one may become"""
_ELEMENTS, _DEEPEST = 20_000, 12
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END, _PIXEL_DATA = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0x7FE00010
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())

REASONS = {
    "empty": "the file is empty; send it again",
    "too_large": f"the file, or what it unpacks to, is over {LARGEST} bytes; send one film a file",
    "not_dicom": "the file has no DICM prefix; send a DICOM file (PS3.10)",
    "truncated": "the file ends before what it announces; send it again",
    "malformed": "the file is not built as DICOM says; export it again",
    "transfer_syntax": "the data are not in the transfer syntax that is declared, or nobody here decodes that one; "
    "export it as Explicit VR Little Endian",
    "charset": "the character set is not one of DICOM's; export it in UTF-8 (ISO_IR 192)",
    "wrong_object": "this is no radiograph; send objects of CR, DX or secondary captures of these",
    "modality": "the modality is not CR, DX or RG; send radiographs",
    "multi_frame": "there is more than one frame; send one film a file",
    "colour": "the picture has colours; send MONOCHROME1 or MONOCHROME2",
    "bits": "the bits of a pixel contradict each other; 8 to 16 bits are read",
    "too_many_pixels": "the film has too many pixels; send at most 6000 a side and 25 million",
    "too_small": "the film has fewer than 64 rows or columns; send the original",
    "no_pixels": "there are no pixels; send the film itself",
    "blank": "the film shows one level only; send the original",
    "body_part": "the film is said to show another part of the body; send chest films",
    "age": "the patient's age cannot be; correct the header",
    "undecodable": "the pixels cannot be decoded; export it as Explicit VR Little Endian",
    "zip": "the zip cannot be read; pack it again, stored or deflated",
    "encrypted": "the zip is encrypted; send it without a password",
    "nested_zip": "a file in the zip is a zip itself; send the films in one",
    "too_many_files": "the zip has too many files; send one study a zip",
    "zip_path": "a name in the zip leads out of it; pack it again",
    "too_slow": "decoding the pixels takes too long; export it as Explicit VR Little Endian",
}
"""code -> why, and what to do; a code is what is counted and logged"""


class FileRefused(OrreryError):
    """A file is not taken. Says why by a code and the keyword of an element, never by what the file contains."""

    def __init__(self, code: str, keyword: str = "") -> None:
        super().__init__(f"{REASONS[code]} ({keyword})" if keyword else REASONS[code])
        self.code = code


def inflated(data: bytes) -> bytes:
    """What deflated bytes hold, never more than `LARGEST`. Raises FileRefused."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = unpacker.decompress(data, LARGEST + 1)
    except zlib.error:
        raise FileRefused("transfer_syntax") from None
    if len(plain) > LARGEST:
        raise FileRefused("too_large")
    if not unpacker.eof:
        raise FileRefused("truncated")
    return plain


def end_of_meta(data: bytes) -> int:
    """Where the file meta information (group 2) ends that begins at byte 132. Raises FileRefused."""
    scan, at = _Scan(data, little=True), 132
    while data[at : at + 2] == b"\x02\x00":
        at = scan.element(at, len(data), implicit=False, depth=0)
    return at


def check(data: bytes, *, implicit: bool, little: bool, encapsulated: bool) -> None:
    """Walk every element that a reader would, and no value. Raises FileRefused."""
    if len(data) < 8:
        raise FileRefused("truncated")
    scan = _Scan(data, little=little, encapsulated=encapsulated)
    first = scan.tag(0, len(data)) >> 16
    if first > 0x00FF or (implicit and data[4:6] in _SHORT | _LONG):  # the other byte order, or explicit
        raise FileRefused("transfer_syntax")
    scan.elements(0, len(data), implicit=implicit, depth=0)


class _Scan:
    """A position is the index of a byte; every method returns the one behind what it walked over."""

    def __init__(self, data: bytes, *, little: bool, encapsulated: bool = False) -> None:
        self.data, self.encapsulated, self.left = data, encapsulated, _ELEMENTS
        order = "<" if little else ">"
        self._tag, self._half, self._whole = (struct.Struct(order + code) for code in ("HH", "H", "I"))

    def tag(self, at: int, end: int) -> int:
        if at + 8 > end:
            raise FileRefused("truncated")
        self.left -= 1
        if self.left < 0:
            raise FileRefused("malformed")
        group, element = self._tag.unpack_from(self.data, at)
        return int(group) << 16 | int(element)

    def elements(self, at: int, end: int, *, implicit: bool, depth: int, closing: bool = False) -> int:
        """All until `end`, or with `closing` until the end of an item."""
        while at < end:
            if closing and self.tag(at, end) == _ITEM_END:
                return at + 8
            at = self.element(at, end, implicit=implicit, depth=depth)
        if closing:
            raise FileRefused("truncated")
        return at

    def element(self, at: int, end: int, *, implicit: bool, depth: int) -> int:
        tag = self.tag(at, end)
        kind, length, at = self._header(tag, at + 4, end, implicit)
        pixels = tag == _PIXEL_DATA and depth == 0
        if pixels and (length == _UNDEFINED) != self.encapsulated:
            raise FileRefused("transfer_syntax")
        if length == _UNDEFINED:
            if kind not in {b"SQ", b"UN"} and not pixels:
                raise FileRefused("malformed")
            return self._items(at, end, implicit=implicit or kind == b"UN", depth=depth + 1, fragments=pixels)
        if at + length > end:
            raise FileRefused("truncated")
        if kind == b"SQ":
            self._items(at, at + length, implicit=implicit, depth=depth + 1, known=True)
        return at + length

    def _header(self, tag: int, at: int, end: int, implicit: bool) -> tuple[bytes, int, int]:
        """Value representation, length, and where the value begins."""
        if implicit:
            length = int(self._whole.unpack_from(self.data, at)[0])
            return _implied(tag, undefined=length == _UNDEFINED), length, at + 4
        kind = self.data[at : at + 2]
        if kind in _SHORT:
            return kind, int(self._half.unpack_from(self.data, at + 2)[0]), at + 4
        if kind not in _LONG:
            raise FileRefused("transfer_syntax")
        if at + 8 > end:
            raise FileRefused("truncated")
        return kind, int(self._whole.unpack_from(self.data, at + 4)[0]), at + 8

    def _items(
        self, at: int, end: int, *, implicit: bool, depth: int, fragments: bool = False, known: bool = False
    ) -> int:
        """The items of a sequence, whose length is `known` or that ends by a delimiter, or fragments of pixels."""
        if depth > _DEEPEST:
            raise FileRefused("malformed")
        while at < end:
            tag = self.tag(at, end)
            length = int(self._whole.unpack_from(self.data, at + 4)[0])
            at += 8
            if tag == _SEQUENCE_END:
                return at
            if tag != _ITEM or (fragments and length == _UNDEFINED):
                raise FileRefused("malformed")
            if length == _UNDEFINED:
                at = self.elements(at, end, implicit=implicit, depth=depth, closing=True)
                continue
            if at + length > end:
                raise FileRefused("truncated")
            if not fragments:
                self.elements(at, at + length, implicit=implicit, depth=depth)
            at += length
        if not known:
            raise FileRefused("truncated")
        return at


def _implied(tag: int, *, undefined: bool) -> bytes:
    try:
        return dictionary_VR(tag).encode()
    except KeyError:
        return b"SQ" if undefined else b"UN"
