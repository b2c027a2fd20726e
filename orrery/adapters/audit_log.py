"""Who changed what, and when: an append-only file whose every record names the one before it by its hash."""

import getpass
import hashlib
import hmac
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orrery.adapters.locks import exclusive
from orrery.errors import OrreryError
from orrery.settings import Settings

GENESIS = "0" * 64


class AuditBroken(OrreryError):
    """The file is not the chain that was written."""


@dataclass(frozen=True)
class Chain:
    """An unbroken chain: how many records, the last one's hash, and the bytes of a write that a crash cut off."""

    records: int = 0
    head: str = GENESIS
    torn: bytes = b""


def digest(record: dict[str, Any], key: bytes = b"") -> str:
    """The sha256 of a record's canonical JSON, hex; with a key its HMAC, which nobody else can make."""
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return hmac.new(key, canonical, hashlib.sha256).hexdigest() if key else hashlib.sha256(canonical).hexdigest()


def chained(
    chain: Chain, action: str, subject: str, details: dict[str, Any], actor: str, key: bytes = b""
) -> dict[str, Any]:
    """The record that comes after `chain`. Where a torn write will be cut off before it, it says so."""
    record: dict[str, Any] = {
        "sequence": chain.records + 1,
        "at": datetime.now(UTC).isoformat(timespec="microseconds"),
        "actor": actor,
        "action": action,
        "subject": subject,
        "details": details,
        "prev_hash": chain.head,
    }
    if chain.torn:
        record["recovered_bytes"] = len(chain.torn)
    return record | {"hash": digest(record, key)}


def encoded(record: dict[str, Any]) -> bytes:
    """A record as the line that is written."""
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


class Lines:
    """The whole lines of a file from an offset on. `torn` is what follows the last newline, once they are read."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path, self._offset, self.torn = path, offset, b""

    def __iter__(self) -> Iterator[bytes]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            for line in file:  # a record is only written once its newline is
                if not line.endswith(b"\n"):
                    self.torn = line
                    return
                yield line[:-1]


def walk(lines: Lines, after: Chain = Chain(), key: bytes = b"") -> Iterator[dict[str, Any]]:
    """Every whole record that follows `after`, verified on the way. Raises AuditBroken at the first bad one."""
    head = after.head
    for number, line in enumerate(lines, start=after.records + 1):
        record = _parse(line, lines.path, number)
        if record["hash"] != digest({name: value for name, value in record.items() if name != "hash"}, key):
            raise AuditBroken(f"{lines.path} line {number}: the record was changed after it was written")
        if record["prev_hash"] != head or record["sequence"] != number:
            raise AuditBroken(f"{lines.path} line {number}: a record before it was removed, added or moved")
        head = record["hash"]
        yield record


def followed(lines: Lines, after: Chain = Chain(), key: bytes = b"") -> Chain:
    """The whole chain from `after` to its end. Raises AuditBroken naming the first bad record."""
    chain = after
    for record in walk(lines, after, key):
        chain = Chain(record["sequence"], record["hash"])
    return replace(chain, torn=lines.torn)


def _parse(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict) or not record.keys() >= {"hash", "prev_hash", "sequence"}:
        raise AuditBroken(f"{path} line {number}: this is not a record")
    return record


def _actor() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"


class AuditLog:
    """The audit log of one installation: JSON lines at `<home>/audit.jsonl`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.path: Path = settings.home.absolute() / "audit.jsonl"

    def append(self, action: str, subject: str, details: dict[str, Any], actor: str = "") -> dict[str, Any]:
        """Write one record to the disk and return it. A torn tail is cut off first, and the record says so."""
        with exclusive(self._settings, "audit"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            chain = self.verify()
            record = chained(chain, action, subject, details, actor or _actor())
            with self.path.open("ab") as file:
                if chain.torn:
                    file.truncate(self.path.stat().st_size - len(chain.torn))
                file.write(encoded(record))
                file.flush()
                os.fsync(file.fileno())
        return record

    def records(self) -> Iterator[dict[str, Any]]:
        """Every whole record, oldest first, verified on the way. Raises AuditBroken at the first bad one."""
        return walk(Lines(self.path))

    @property
    def state(self) -> tuple[int, int] | None:
        """Something that changes with the file: its size and when it was written. None: nothing was ever written."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_size, found.st_mtime_ns

    def verify(self) -> Chain:
        """Walk the whole chain. Raises AuditBroken naming the first bad record.

        Records removed from the end leave a sound chain: keep `records` and `head` elsewhere to notice that.
        """
        return followed(Lines(self.path))
