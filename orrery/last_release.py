"""What became of the last release of each use case, and why, by the audit log."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from orrery.retraining import PROMOTED, REFUSED, Record, with_decisions

_ROLLBACK = "rollback"
_ENDS = {*PROMOTED, _ROLLBACK, REFUSED}
_WORDS = {_ROLLBACK: "rolled back", REFUSED: "refused", "recovered": "found promoted"}


class LastRelease(BaseModel):
    """A release that ended, or an alias that moved."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    outcome: str
    """promoted, refused, rolled back, or found promoted: an alias that was moved outside, or before a crash"""
    version: str | None
    """the champion since then; None: it was refused"""
    by: str
    cause: str | None
    """the alert that asked for it; None: a schedule or a person did"""
    reasons: tuple[str, ...]
    """of the gate's no, or of the policy's yes to the alert"""


def last_releases(records: Iterable[Record]) -> Mapping[str, LastRelease]:
    """Use case -> its last release, of audit records in their order."""
    return {
        record["subject"]: _ended(record, decided)
        for record, decided in with_decisions(records)
        if record["action"] in _ENDS
    }


def _ended(record: Record, decided: Record) -> LastRelease:
    details = record["details"]
    reasons = details.get("reasons") or decided.get("reasons") or ()
    return LastRelease(
        at=record["at"],
        outcome=_WORDS.get(record["action"], "promoted"),
        version=details.get("champion"),
        by=record["actor"],
        cause=_cause(details, decided),
        reasons=tuple(reasons),
    )


def _cause(details: Record, decided: Record) -> str | None:
    if not decided:
        return details.get("cause") or None
    alert = decided["alert"]
    return " ".join(filter(None, (f"{alert.get('name', '')}:", alert.get("summary", ""))))
