"""What to read next: by priority, and nobody waits beyond the most that their priority allows."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from pydantic import BaseModel

from usecases.imaging.answers import Decision, Priority
from usecases.imaging.ledger import Allowance, Ledger

_EARLY = 0.75
"""of the most: from here on a film goes before those of a higher priority, and there is time left to read it"""
MOST: Mapping[Priority, timedelta] = {
    "stat": timedelta(minutes=30),
    "high": timedelta(hours=1),
    "routine": timedelta(hours=4),
}
"""how long films of a priority may wait"""
ALLOWANCES: Mapping[str, Allowance] = {
    priority: Allowance(rank, _EARLY * most, most) for rank, (priority, most) in enumerate(MOST.items())
}


class Waiting(BaseModel):
    """A film that waits for a reader. All names are pseudonyms."""

    film_id: str
    study_id: str
    study_complete: bool
    """nothing more of the study is to come, as the sender's silence says"""
    prediction_id: str | None
    priority: Priority
    decision: Decision
    state: str
    code: str
    waited_seconds: float
    overdue: bool
    """has waited for longer than its priority allows"""


def worklist(ledger: Ledger, now: datetime, limit: int) -> list[Waiting]:
    """The next `limit` films to read, in order.

    Films that have waited for three quarters of the most come first, by the time they have left; then all others by
    priority, then by arrival.
    """
    complete = ledger.completed()
    return [
        Waiting.model_validate(
            vars(row.ending)
            | {
                "film_id": row.film_id,
                "study_id": row.study_id,
                "study_complete": row.study_id in complete,
                "waited_seconds": (now - row.received_at).total_seconds(),
                "overdue": now - row.received_at > ALLOWANCES[str(row.ending.priority)].most,
            }
        )
        for row in ledger.unread(ALLOWANCES, now, limit)
    ]
