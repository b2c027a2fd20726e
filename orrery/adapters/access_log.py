"""Who used what, at the rate of requests: an audit log under a secret key, with an anchor that tells where it ends."""

import hmac
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from orrery.adapters.audit_log import AuditBroken, Chain, Lines, chained, digest, encoded, followed, walk
from orrery.adapters.locks import Busy

ANCHOR_SUFFIX = ".head"
_LOCK_SECONDS = 10.0
_ANCHOR_BYTES = 256
"""written in place and in one piece, which a killed process cannot leave halfway"""


@dataclass(frozen=True)
class _Anchor:
    """Where the log ended when it was last written: records, their last hash, bytes."""

    records: int
    head: str
    size: int


@dataclass(frozen=True)
class _Entry:
    """What one caller wants to be written, and where the record will be put."""

    what: tuple[str, str, dict[str, Any], str]
    written: "Future[dict[str, Any]]"


class AccessLog:
    """JSON lines at `path`, their end in `<path>.head`. Any thread and process may append; each append costs the same.

    Whoever lacks `key` can neither change, forge nor remove a record unnoticed; an older copy of both files together
    is only told by who kept `records` and `head` elsewhere.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        self.path, self._key = path, key
        self._anchor: _Anchor | None = None
        self._waiting: list[_Entry] = []
        self._queue, self._writer = threading.Lock(), threading.Lock()

    def append(self, action: str, subject: str, details: dict[str, Any], actor: str) -> dict[str, Any]:
        """Write one record to the disk and return it. Records that wait together share one write.

        Raises AuditBroken when the log was cut or its anchor is gone, Busy, OSError.
        """
        json.dumps(details)  # what is no JSON fails here, for its own caller only
        entry = _Entry((action, subject, details, actor), Future())
        with self._queue:
            self._waiting.append(entry)
        with self._writer:
            if not entry.written.done():
                self._write_waiting()
        return entry.written.result()

    def _write_waiting(self) -> None:
        with self._queue:
            batch, self._waiting = self._waiting, []
        try:
            with _locked(self.path):
                records = self._write(batch)
        except BaseException as error:
            for entry in batch:
                entry.written.set_exception(error)
            raise
        for entry, record in zip(batch, records, strict=True):
            entry.written.set_result(record)

    def _write(self, batch: list[_Entry]) -> list[dict[str, Any]]:
        size = self.path.stat().st_size if self.path.exists() else 0
        chain = self._known(size)
        sound = size - len(chain.torn)
        records, lines = [], bytearray()
        for entry in batch:
            record = chained(chain, *entry.what, self._key)
            chain = Chain(record["sequence"], record["hash"])
            records.append(record)
            lines += encoded(record)
        with _opened(self.path) as file:
            file.truncate(sound)
            file.seek(sound)
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        self._anchor = _Anchor(chain.records, chain.head, sound + len(lines))
        _write_anchor(self.path, self._anchor, self._key)
        return records

    def _known(self, size: int) -> Chain:
        """The end of the log: what this process wrote last, unless somebody else wrote or failed to since."""
        if self._anchor is not None and self._anchor.size == size:
            return Chain(self._anchor.records, self._anchor.head)
        if size == 0 and not _anchor_of(self.path).exists():
            _write_anchor(self.path, _Anchor(0, Chain().head, 0), self._key)
        anchor = _read_anchor(self.path, self._key)
        if size < anchor.size:
            raise _cut(self.path, anchor)
        return followed(Lines(self.path, anchor.size), Chain(anchor.records, anchor.head), self._key)


def verify(path: Path, key: bytes) -> Chain:
    """Walk the whole log. Raises AuditBroken naming the first bad record, or saying that the end was cut off.

    A log may be longer than its anchor says, by what a killed process had written: its hashes show whose it is.
    """
    with _locked(path):
        anchor = _read_anchor(path, key)
        lines, chain = Lines(path), Chain()
        for record in walk(lines, key=key):
            chain = Chain(record["sequence"], record["hash"])
            if chain.records == anchor.records and chain.head != anchor.head:
                raise AuditBroken(f"{path} line {chain.records}: this is not the record that was written there")
        if chain.records < anchor.records:
            raise _cut(path, anchor, chain.records)
        return Chain(chain.records, chain.head, lines.torn)


def _cut(path: Path, anchor: _Anchor, found: int | None = None) -> AuditBroken:
    where = f" line {found + 1}" if found is not None else ""
    return AuditBroken(
        f"{path}{where}: records were cut off the end, there were {anchor.records}; keep the file and its "
        f"{ANCHOR_SUFFIX} as evidence, and move both away to go on"
    )


def _anchor_of(path: Path) -> Path:
    return path.with_name(path.name + ANCHOR_SUFFIX)


def _write_anchor(path: Path, anchor: _Anchor, key: bytes) -> None:
    values = asdict(anchor)
    text = json.dumps(values | {"hmac": digest(values, key)})
    with _opened(_anchor_of(path)) as file:
        file.write(text.ljust(_ANCHOR_BYTES - 1).encode() + b"\n")
        if anchor.records == 0:
            file.flush()
            os.fsync(file.fileno())  # later ones may be lost with the power: the log is then longer, and says so itself


def _read_anchor(path: Path, key: bytes) -> _Anchor:
    try:
        values = json.loads(_anchor_of(path).read_bytes())
        shown = values.pop("hmac")
        anchor = _Anchor(**values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise AuditBroken(f"{_anchor_of(path)} is gone or no anchor: nobody can tell where {path} ended") from None
    if not hmac.compare_digest(shown, digest(values, key)):
        raise AuditBroken(f"{_anchor_of(path)} was changed, or belongs to another installation's log")
    return anchor


def _opened(path: Path) -> BinaryIO:
    """A file to be written in place, for its owner's eyes only."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = path.with_name(path.name + ".lock")
    try:
        with FileLock(lock, timeout=_LOCK_SECONDS):
            yield
    except Timeout as error:
        raise Busy(f"another process holds {lock}; try again when it has ended") from error
