"""The files of a study in a zip: unpacked one by one in memory, their names never used."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath, PureWindowsPath

from usecases.imaging.structure import LARGEST, FileRefused

MOST_FILES, MOST_BYTES = 500, 256 * 1024 * 1024
_END, _LOCATOR_64, _MEMBER = b"PK\x05\x06", b"PK\x06\x07", b"PK\x03\x04"
_ENTRY_BYTES = 1024
"""of the directory; a name and its extras take less"""


def members(data: bytes, *, most_files: int = MOST_FILES, most_bytes: int = MOST_BYTES) -> Iterator[bytes]:
    """The content of each file in a zip. Raises FileRefused, before the first one where the directory tells.

    `most_bytes` is of all of them unpacked; what the directory says of sizes is believed only where it holds.
    """
    _check_directory(data, most_files)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _check(entries, most_files, most_bytes)
            for entry in entries:
                content = archive.read(entry)
                if content.startswith(_MEMBER):
                    raise FileRefused("nested_zip")
                yield content
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, RuntimeError, ValueError):
        raise FileRefused("zip") from None


def _check_directory(data: bytes, most_files: int) -> None:
    """Look at the size of the directory before the library reads all of it."""
    at = data.rfind(_END, max(0, len(data) - 65_557))
    if at < 0 or len(data) < at + 22:
        raise FileRefused("zip")
    _, count, size = struct.unpack_from("<HHI", data, at + 8)
    if max(count, size // _ENTRY_BYTES) > 2 * most_files or data[max(0, at - 20) : at].startswith(_LOCATOR_64):
        raise FileRefused("too_many_files")


def _check(entries: list[zipfile.ZipInfo], most_files: int, most_bytes: int) -> None:
    if len(entries) > most_files:
        raise FileRefused("too_many_files")
    if not entries:
        raise FileRefused("empty")
    if sum(entry.file_size for entry in entries) > most_bytes or max(entry.file_size for entry in entries) > LARGEST:
        raise FileRefused("too_large")
    for entry in entries:
        if entry.flag_bits & 0x1:
            raise FileRefused("encrypted")
        if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise FileRefused("zip")
        unix, windows = PurePosixPath(entry.filename), PureWindowsPath(entry.filename)
        if unix.is_absolute() or windows.is_absolute() or windows.drive or ".." in (*unix.parts, *windows.parts):
            raise FileRefused("zip_path")
