"""Who changed what, and when: an append-only file whose every record names the one before it by its hash."""

import getpass
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
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

    records: int
    head: str
    torn: bytes = b""


def digest(record: dict[str, Any]) -> str:
    """The sha256 of a record's canonical JSON, hex."""
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


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
            record: dict[str, Any] = {
                "sequence": chain.records + 1,
                "at": datetime.now(UTC).isoformat(timespec="microseconds"),
                "actor": actor or _actor(),
                "action": action,
                "subject": subject,
                "details": details,
                "prev_hash": chain.head,
            }
            if chain.torn:
                record["recovered_bytes"] = len(chain.torn)
            record["hash"] = digest(record)
            self._write(record, torn=len(chain.torn))
        return record

    def records(self) -> Iterator[dict[str, Any]]:
        """Every whole record, oldest first, verified on the way. Raises AuditBroken at the first bad one."""
        return self._walk(self._read()[0])

    def verify(self) -> Chain:
        """Walk the whole chain. Raises AuditBroken naming the first bad record.

        Records removed from the end leave a sound chain: keep `records` and `head` elsewhere to notice that.
        """
        lines, torn = self._read()
        found = list(self._walk(lines))
        return Chain(len(found), found[-1]["hash"] if found else GENESIS, torn)

    def _read(self) -> tuple[list[bytes], bytes]:
        """Whole lines, and what follows the last newline: a record is only written once its newline is."""
        *lines, torn = (self.path.read_bytes() if self.path.exists() else b"").split(b"\n")
        return lines, torn

    def _walk(self, lines: list[bytes]) -> Iterator[dict[str, Any]]:
        head = GENESIS
        for number, line in enumerate(lines, start=1):
            record = self._parse(line, number)
            if record["hash"] != digest({name: value for name, value in record.items() if name != "hash"}):
                raise AuditBroken(f"{self.path} line {number}: the record was changed after it was written")
            if record["prev_hash"] != head or record["sequence"] != number:
                raise AuditBroken(f"{self.path} line {number}: a record before it was removed, added or moved")
            head = record["hash"]
            yield record

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or not record.keys() >= {"hash", "prev_hash", "sequence"}:
            raise AuditBroken(f"{self.path} line {number}: this is not a record")
        return record

    def _write(self, record: dict[str, Any], torn: int) -> None:
        with self.path.open("ab") as file:
            if torn:
                file.truncate(self.path.stat().st_size - torn)
            file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
