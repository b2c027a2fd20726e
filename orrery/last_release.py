"""What became of the last release of each use case, and why, by the audit log."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from orrery.retraining import PROMOTED, REFUSED

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


def last_releases(records: Iterable[Mapping[str, Any]]) -> Mapping[str, LastRelease]:
    """Use case -> its last release, of audit records in their order."""
    asked: dict[str, Mapping[str, Any]] = {}
    found: dict[str, LastRelease] = {}
    for record in records:
        details = record["details"]
        if "alert" in details and "cause" in details:
            asked[details["cause"]] = details
        elif record["action"] in _ENDS:
            found[record["subject"]] = _ended(record, asked.get(details.get("cause", "")))
    return found


def _ended(record: Mapping[str, Any], asked: Mapping[str, Any] | None) -> LastRelease:
    details = record["details"]
    reasons = details.get("reasons") or (asked or {}).get("reasons") or ()
    return LastRelease(
        at=record["at"],
        outcome=_WORDS.get(record["action"], "promoted"),
        version=details.get("champion"),
        by=record["actor"],
        cause=_cause(details, asked),
        reasons=tuple(reasons),
    )


def _cause(details: Mapping[str, Any], asked: Mapping[str, Any] | None) -> str | None:
    if asked is None:
        return details.get("cause") or None
    return " ".join(filter(None, (f"{asked['alert'].get('name', '')}:", asked["alert"].get("summary", ""))))
