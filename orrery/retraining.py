"""Whether an alert may start a retraining: the policy, and what it is asked about."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from orrery.watch_settings import RetrainSettings

STARTED, SUGGESTED, DECLINED, APPROVED = (
    f"retrain {word}" for word in ("started", "suggested", "declined", "approved")
)
REFUSED = "release refused"
"""actions of the audit log"""
PROMOTED = frozenset({"promote", "recovered"})
"""those after which another version serves, by a release"""
PERIOD = timedelta(days=30)
"""of the budget; and the longest that doubling makes a cool-down"""
_MOST_DOUBLINGS = 30
Verdict = Literal["start", "suggest", "decline"]
Record = Mapping[str, Any]
"""of the audit log, or its details"""


class Alert(BaseModel):
    """What an alert says that asks for a retraining."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    started_at: AwareDatetime
    fingerprint: str
    """of its labels"""
    severity: str = ""
    summary: str = ""
    first: str = ""
    last: str = ""
    """the window it is about, where it names one"""

    def cause(self, use_case: str) -> str:
        """The key of what it causes: said again, or by another replica, the same alert has the same one."""
        return f"{use_case}/{self.fingerprint}/{self.started_at.astimezone(UTC).isoformat()}"


@dataclass(frozen=True)
class Facts:
    """What the policy must know of a use case."""

    now: datetime
    starts: tuple[datetime, ...]
    """when alerts started releases"""
    refusals: int
    """of these releases by the gate, in a row, up to the latest verdict"""
    labels: int
    """events since then that have a label and are old enough to be learned from"""
    since: datetime | None
    """when the trouble began, or without one the champion's data ended; None: there is no champion"""
    running: int
    """releases that run or are due to"""


@dataclass(frozen=True)
class Decision:
    """What the policy says."""

    verdict: Verdict
    reasons: tuple[str, ...]
    """of a decline: what stands against it; else what was asked, and found good"""


def decide(facts: Facts, policy: RetrainSettings) -> Decision:
    """Start, suggest or decline. Looks at nothing but its arguments."""
    asked = [_policy(policy), _cooldown(facts, policy), _budget(facts, policy), _labels(facts, policy), _alone(facts)]
    against = tuple(reason for good, reason in asked if not good)
    if against:
        return Decision("decline", against)
    return Decision("start" if policy.policy == "auto" else "suggest", tuple(reason for _, reason in asked))


def history(records: Iterable[Mapping[str, Any]], use_case: str) -> tuple[tuple[datetime, ...], int]:
    """When alerts started releases of a use case, and how many of these were refused in a row, by the audit log."""
    starts: dict[str, datetime] = {}
    refused: set[str] = set()
    for record in records:
        if record["subject"] != use_case:
            continue
        action, cause = record["action"], str(record["details"].get("cause", ""))
        if action in {STARTED, APPROVED}:
            starts.setdefault(cause, datetime.fromisoformat(record["at"]))
        elif action in PROMOTED:
            refused.clear()
        elif action == REFUSED and cause in starts:
            refused.add(cause)
    return tuple(starts.values()), len(refused)


def with_decisions(records: Iterable[Record]) -> Iterator[tuple[Record, Record]]:
    """Audit records in their order, each with the details of the last decision on its cause; empty: it has none."""
    decisions: dict[str, Record] = {}
    for record in records:
        details = record["details"]
        if "alert" in details:
            decisions[details["cause"]] = details
        yield record, decisions.get(details.get("cause", ""), {})


def caused(records: Iterable[Record], use_case: str, digest: str) -> dict[str, Any]:
    """What led to the release of the bundle with that digest, by the audit log; empty: it was never promoted.

    Where an alert asked for it: the alert, the policy's reasons and the window of traffic that was watched last.
    """
    for record, decided in with_decisions(records):
        details = record["details"]
        if (record["action"], record["subject"], details.get("digest")) == ("promote", use_case, digest):
            about = {"promoted_at": record["at"], "actor": record["actor"], "before": details.get("before")}
            return about | {name: decided[name] for name in ("alert", "window", "reasons") if decided.get(name)}
    return {}


def cooldown_minutes(refusals: int, policy: RetrainSettings) -> float:
    """After so many refusals in a row."""
    doubled = policy.cooldown_minutes * 2.0 ** min(refusals, _MOST_DOUBLINGS)
    return max(policy.cooldown_minutes, min(doubled, PERIOD.total_seconds() / 60))


def _policy(policy: RetrainSettings) -> tuple[bool, str]:
    return policy.policy != "off", f"the policy is {policy.policy}"


def _cooldown(facts: Facts, policy: RetrainSettings) -> tuple[bool, str]:
    if not facts.starts:
        return True, "no release was started by an alert before"
    asked = cooldown_minutes(facts.refusals, policy)
    gone = (facts.now - max(facts.starts)).total_seconds() / 60
    each = f"{_span(policy.cooldown_minutes)}, doubled by each of {facts.refusals} refusals in a row, at most 30 days"
    why = f"a cool-down of {_span(asked)}{f' ({each})' if facts.refusals else ''}"
    return gone >= asked, f"the last release that an alert started was {_span(gone)} ago; {why} is asked"


def _budget(facts: Facts, policy: RetrainSettings) -> tuple[bool, str]:
    spent = sum(facts.now - start < PERIOD for start in facts.starts)
    return spent < policy.budget, f"alerts started {spent} of at most {policy.budget} releases in thirty days"


def _labels(facts: Facts, policy: RetrainSettings) -> tuple[bool, str]:
    since = f"since {facts.since:%Y-%m-%d %H:%M}" if facts.since else "in all"
    found = f"{facts.labels:,} labelled events {since} that a candidate would learn from"
    return facts.labels >= policy.labels, f"{found}; {policy.labels:,} are asked"


def _alone(facts: Facts) -> tuple[bool, str]:
    return facts.running == 0, f"{facts.running} releases of the use case run or are due to"


def _span(minutes: float) -> str:
    """A duration in words."""
    for unit, size in (("days", 1_440), ("hours", 60)):
        if abs(minutes) >= 2 * size:
            return f"{minutes / size:,.1f} {unit}"
    return f"{minutes:,.1f} minutes"
