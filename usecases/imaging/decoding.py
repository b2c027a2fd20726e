"""Pixels of a film as they are stored: native ones are read here, compressed ones by a process that may die."""

import atexit
import json
import queue
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from pydicom import encaps, uid
from pydicom.dataset import Dataset

from orrery.usecase import Array
from usecases.imaging.structure import FileRefused

MOST_SIDE, LEAST_SIDE, MOST_PIXELS = 6000, 64, 25_000_000
SECONDS, DECODERS, LIFE = 15.0, 2, 200
"""the longest that decoding one film may take, processes side by side, and films that one of them decodes"""
NATIVE = frozenset(
    {
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
    }
)
FRAMES: Mapping[str, frozenset[int]] = {
    uid.JPEGBaseline8Bit: frozenset({0xC0}),
    uid.JPEGExtended12Bit: frozenset({0xC0, 0xC1}),
    uid.JPEGLossless: frozenset({0xC3}),
    uid.JPEGLosslessSV1: frozenset({0xC3}),
    uid.JPEGLSLossless: frozenset({0xF7}),
    uid.JPEGLSNearLossless: frozenset({0xF7}),
    uid.JPEG2000Lossless: frozenset({0x51}),
    uid.JPEG2000: frozenset({0x51}),
    uid.RLELossless: frozenset(),
}
"""compressed transfer syntax -> the markers of frame headers that it allows"""
_END, _PADDING = b"\xff\xd9", 64
"""how every JPEG ends, and the bytes that may follow"""
_KEYWORDS = (
    "Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """How the pixels of a film lie (PS3.3 C.7.6.3)."""

    meaning: str
    """PhotometricInterpretation"""
    rows: int
    columns: int
    samples: int
    allocated: int
    bits: int
    high: int
    signed: int

    @classmethod
    def of(cls, dataset: Dataset) -> "Layout":
        """Raises FileRefused for an element that is missing or no number."""
        numbers = [dataset.get(keyword) for keyword in _KEYWORDS]
        if numbers[0] is None and "PixelData" not in dataset:
            raise FileRefused("no_pixels")
        for keyword, number in zip(_KEYWORDS, numbers, strict=True):
            if not isinstance(number, int):
                raise FileRefused("malformed", keyword)
        return cls(str(dataset.get("PhotometricInterpretation")), *numbers)

    @property
    def type(self) -> np.dtype[np.generic]:
        return np.dtype(f"{'i' if self.signed else 'u'}{self.allocated // 8}")

    def check(self, size: int, syntax: str) -> None:
        """Refuse what is no grey film of a sane size whose pixels take `size` bytes. Raises FileRefused."""
        if self.samples != 1 or self.meaning not in {"MONOCHROME1", "MONOCHROME2"}:
            raise FileRefused("colour")
        if max(self.rows, self.columns) > MOST_SIDE or self.rows * self.columns > MOST_PIXELS:
            raise FileRefused("too_many_pixels")
        if min(self.rows, self.columns) < LEAST_SIDE:
            raise FileRefused("too_small")
        sane = self.allocated in {8, 16} and 8 <= self.bits <= self.allocated and self.signed in {0, 1}
        if not sane or self.high != self.bits - 1:
            raise FileRefused("bits")
        if not size:
            raise FileRefused("no_pixels")
        if syntax in NATIVE and size < self.rows * self.columns * self.type.itemsize:
            raise FileRefused("truncated", "PixelData")

    def trimmed(self, values: Array) -> Array:
        """Without what lies above the bits of a pixel (overlays once did), the sign extended."""
        spare = self.allocated - self.bits
        return np.right_shift(np.left_shift(values, spare), spare) if spare else values


def native(data: bytes, layout: Layout, syntax: str, *, words: bool) -> Array:
    """Uncompressed stored values, shape (rows, columns); `words`: written as 16-bit words (OW)."""
    count, turned = layout.rows * layout.columns, syntax == uid.ExplicitVRBigEndian
    if turned and words and layout.allocated == 8:  # two pixels a word, the words turned
        data = np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype("<u2").tobytes()
    found = np.frombuffer(data, layout.type.newbyteorder(">" if turned else "<"), count=count)
    return found.astype(layout.type).reshape(layout.rows, layout.columns)


def decoded(data: bytes, layout: Layout, syntax: str) -> Array:
    """Compressed stored values, shape (rows, columns). Raises FileRefused, also when the decoder dies or takes long."""
    try:
        frame = encaps.get_frame(data, 0, number_of_frames=1)
        announced = _announced(frame, syntax, layout)
    except (IndexError, ValueError, struct.error):
        raise FileRefused("undecodable") from None
    if announced != (layout.rows, layout.columns, 1):
        raise FileRefused("undecodable")
    if syntax != uid.RLELossless and _END not in frame[-_PADDING:]:  # decoders would fill up what is missing
        raise FileRefused("truncated", "PixelData")
    question = {**asdict(layout), "syntax": str(syntax)}
    plain = _pool().decode(question, frame, layout.rows * layout.columns * layout.type.itemsize)
    return np.frombuffer(plain, layout.type).reshape(layout.rows, layout.columns)


def _announced(frame: bytes, syntax: str, layout: Layout) -> tuple[int, int, int]:
    """Rows, columns and samples that a code stream announces itself. Raises FileRefused if it is of another syntax."""
    if syntax == uid.RLELossless:
        segments = struct.unpack_from("<I", frame)[0]
        return layout.rows, layout.columns, segments // (layout.allocated // 8)
    if syntax in uid.JPEG2000TransferSyntaxes:
        start = frame.find(b"\xff\x4f\xff\x51", 0, 512)
        if start < 0:
            raise FileRefused("transfer_syntax")
        right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
        return bottom - top, right - left, struct.unpack_from(">H", frame, start + 40)[0]
    marker, at = _frame_header(frame)
    if marker not in FRAMES[syntax]:
        raise FileRefused("transfer_syntax")
    rows, columns, samples = struct.unpack_from(">HHB", frame, at + 5)
    return rows, columns, samples


def _frame_header(frame: bytes) -> tuple[int, int]:
    """The first SOFn of a JPEG and where it stands. Raises FileRefused if this is none, ValueError if it has none."""
    if frame[:2] != b"\xff\xd8":
        raise FileRefused("transfer_syntax")
    at = 2
    while True:
        at = frame.index(b"\xff", at)
        marker = frame[at + 1]
        if (0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}) or marker == 0xF7:
            return marker, at
        at += 1 if marker in {0x00, 0xFF} else 2 + struct.unpack_from(">H", frame, at + 2)[0]


class _Decoder:
    """One process that decodes film after film."""

    def __init__(self) -> None:
        self._left = LIFE
        self._process = subprocess.Popen(  # noqa: S603 - our own file, our own interpreter
            [sys.executable, "-I", str(Path(__file__).with_name("decoder.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )

    @property
    def usable(self) -> bool:
        return self._left > 0 and self._process.poll() is None

    def decode(self, question: Mapping[str, object], frame: bytes, size: int) -> bytes:
        """`size` bytes. Raises FileRefused."""
        self._left -= 1
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(SECONDS, give_up)
        timer.start()
        try:
            said, answer = self._ask(json.dumps(question).encode(), frame, size)
        except OSError:  # it died while we were writing
            said, answer = b"", b""
        finally:
            timer.cancel()
        if late.is_set():
            self._left = 0
            raise FileRefused("too_slow")
        if said != b"\1" or len(answer) != size:
            self._left = self._left if said == b"\0" else 0  # it says itself that it cannot, or it is broken
            raise FileRefused("undecodable")
        return answer

    def _ask(self, question: bytes, frame: bytes, size: int) -> tuple[bytes, bytes]:
        to, back = self._process.stdin, self._process.stdout
        assert to is not None
        assert back is not None
        to.write(struct.pack("<II", len(question), len(frame)) + question)
        to.write(frame)
        to.flush()
        said = back.read(1)
        return said, back.read(size) if said == b"\1" else b""

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()  # closes its pipes and waits


class _Pool:
    """At most `DECODERS` processes, started when needed, replaced when broken or old."""

    def __init__(self) -> None:
        self._free: queue.LifoQueue[_Decoder | None] = queue.LifoQueue()
        for _ in range(DECODERS):
            self._free.put(None)

    def decode(self, question: Mapping[str, object], frame: bytes, size: int) -> bytes:
        decoder = self._free.get()
        try:
            if decoder is None or not decoder.usable:
                _stop(decoder)
                decoder = None  # should no other start
                decoder = _Decoder()
            return decoder.decode(question, frame, size)
        finally:
            self._free.put(decoder)

    def stop(self) -> None:
        for _ in range(DECODERS):
            _stop(self._free.get())
            self._free.put(None)


def _stop(decoder: _Decoder | None) -> None:
    if decoder is not None:
        decoder.stop()


@cache
def _pool() -> _Pool:
    pool = _Pool()
    atexit.register(pool.stop)
    return pool
