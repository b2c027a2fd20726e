"""What comes in a body: a film, several, or a study in a zip. Kept in memory only, and never more than has room."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from orrery.errors import OrreryError

LARGEST_BODY = 256 * 1024 * 1024
MOST_FILMS = 500
"""in one upload"""
_MOST_AT_ONCE, _MOST_HELD = 16, 512 * 1024 * 1024
"""requests, and the bytes of them all"""
_SECONDS = 120.0
"""in which a body must have come"""
_JSON_BYTES = 65_536
KINDS = ("application/json", "multipart/form-data", "application/dicom", "application/zip")
"""what is read for a prediction"""
_WORDS = {"true": True, "1": True, "false": False, "0": False}


class UploadRefused(OrreryError):
    """A body that is not taken: an HTTP status, a code to count by, and what to do."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Part:
    """One part of a multipart body. Its file name is not looked at: it may name a person."""

    kind: str
    name: str
    content: bytes


@dataclass(frozen=True)
class Upload:
    """The files of one body. `zipped`: the only one is a study in a zip."""

    files: tuple[bytes, ...]
    zipped: bool
    explain: bool


@dataclass
class Room:
    """Heavy requests at once, and their bytes in memory. Who finds no room is sent away, quickly."""

    inside: int = 0
    held: int = 0

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Callable[[int], None]]:
        """Room for one request; call what it gives with each number of bytes it keeps. Raises UploadRefused."""
        if self.inside >= _MOST_AT_ONCE:
            raise _full()
        mine = 0

        def hold(size: int) -> None:
            nonlocal mine
            if self.held + size > _MOST_HELD:
                raise _full()
            mine += size
            self.held += size

        self.inside += 1
        try:
            yield hold
        finally:
            self.inside -= 1
            self.held -= mine


@dataclass
class _Parts:
    """A multipart body (RFC 2046) as it comes."""

    boundary: bytes
    most: int
    parts: list[Part] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._name, self._value, self._headers, self._ended = b"", b"", dict[bytes, bytes](), False
        self._parser = MultipartParser(
            self.boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        )

    def write(self, data: bytes) -> None:
        self._parser.write(data)

    def all(self) -> list[Part]:
        """Every part of a body that came to its end. Raises UploadRefused."""
        if not self._ended:
            raise UploadRefused(400, "truncated", "the body ends before its last boundary; send it again")
        return self.parts

    def _begin(self) -> None:
        if len(self.parts) >= self.most:
            raise UploadRefused(413, "too_many", f"send at most {MOST_FILMS} films in one upload")
        self._headers, self._content = {}, bytearray()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._content += memoryview(data)[start:end]

    def _end(self) -> None:
        kind, _ = parse_options_header(self._headers.get(b"content-type"))
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        name = options.get(b"name", b"").decode("latin-1")
        self.parts.append(Part(kind.decode("latin-1"), name, bytes(self._content)))

    def _finish(self) -> None:
        self._ended = True


def kind_of(request: Request) -> tuple[str, dict[bytes, bytes]]:
    """The media type of a body, in lower case, and its parameters."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    return kind.decode("latin-1"), options


async def json_body(request: Request) -> bytes:
    """A body that is one event. Raises UploadRefused."""
    content = bytearray()
    await _poured(request, content.extend, lambda _: None, _JSON_BYTES)
    return bytes(content)


async def parts_of(request: Request, hold: Callable[[int], None], most: int) -> list[Part]:
    """At most `most` parts of a multipart body. Raises UploadRefused."""
    boundary = kind_of(request)[1].get(b"boundary")
    if not boundary:
        raise UploadRefused(400, "no_boundary", "the content type of a multipart body names its boundary")
    try:
        parts = _Parts(boundary, most)
        await _poured(request, parts.write, hold, LARGEST_BODY)
    except FormParserError:
        raise UploadRefused(400, "malformed", "the body is no multipart body (RFC 2046)") from None
    return parts.all()


async def upload_of(request: Request, hold: Callable[[int], None]) -> Upload:
    """What a client uploads to be scored. Raises UploadRefused."""
    kind, _ = kind_of(request)
    explain = _flag(request.query_params.get("explain", "false"))
    if kind == "multipart/form-data":
        return await _form(request, hold, explain)
    if kind not in KINDS:
        raise UploadRefused(415, "media_type", f"send one of {', '.join(KINDS)}")
    content = bytearray()
    await _poured(request, content.extend, hold, LARGEST_BODY)
    return Upload((bytes(content),), kind == "application/zip", explain)


async def _form(request: Request, hold: Callable[[int], None], explain: bool) -> Upload:
    files: list[bytes] = []
    for part in await parts_of(request, hold, MOST_FILMS + 1):
        match part.name:
            case "file":
                files.append(part.content)
            case "explain":
                explain = _flag(part.content.decode("latin-1"))
            case _:
                raise UploadRefused(422, "unknown_field", "the fields of the form are `file` and `explain`")
    if not files:
        raise UploadRefused(422, "no_file", "there is no field `file`; send a DICOM file or a zip of a study in it")
    return Upload(tuple(files), len(files) == 1 and _is_zip(files[0]), explain)


async def _poured(request: Request, sink: Callable[[bytes], object], hold: Callable[[int], None], most: int) -> None:
    """Pass a body on as it comes."""
    size = 0
    try:
        async with asyncio.timeout(_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > most:
                    raise UploadRefused(413, "too_large", f"a body may have {most} bytes")
                hold(len(chunk))
                sink(chunk)
    except TimeoutError:
        raise UploadRefused(408, "too_slow", f"a body must come within {_SECONDS:.0f} seconds") from None
    except ClientDisconnect:
        raise UploadRefused(400, "gone", "the client went away before its body had come") from None


def _is_zip(data: bytes) -> bool:
    return data[:2] == b"PK" and data[128:132] != b"DICM"


def _flag(text: str) -> bool:
    if text.lower() not in _WORDS:
        raise UploadRefused(422, "explain", "explain is true or false")
    return _WORDS[text.lower()]


def _full() -> UploadRefused:
    return UploadRefused(503, "busy", "too many films are in work; send it again in a few seconds")
