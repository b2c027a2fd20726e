"""How each use case stands, as `GET /v1/status` says: what is not known is null, and why is said in words."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from orrery.last_release import LastRelease
from orrery.watching import State

OBJECTIVE = 0.995
"""share of requests that are answered in time, of those that are not the client's fault; slo-rules.yml has it, too"""
MINUTES = 5


class Answering(BaseModel):
    """Who gave the answers of the last minutes."""

    version: str | None
    """None: no model"""
    variant: str
    share: float


class Traffic(BaseModel):
    """Requests of this gateway, as it has counted them since its start."""

    answers_five_minutes: int
    answers: int
    degraded: int
    """of the answers: without model or features"""
    failed: int
    """requests that had no answer"""
    answering: list[Answering]
    """of the last five minutes"""


class Promise(BaseModel):
    """What was promised and kept, since the gateway's start. Prometheus has the thirty days."""

    objective: float = OBJECTIVE
    attained: float
    budget_left: float
    """1: none of the allowed failures were used; below 0: more than all"""


class DriftVerdict(BaseModel):
    """What the watch says of the last window."""

    verdict: State
    sustained: bool
    first: datetime
    last: datetime
    """the window, in event time"""
    watched_at: datetime
    rows: int
    reasons: list[str]


class Standing(BaseModel):
    """One use case."""

    use_case: str
    champion: str | None = None
    champion_seen_at: datetime | None = None
    served: str | None = None
    source: Literal["registry", "cache"] | None = None
    """where what is served came from: cache is the last-good copy"""
    traffic: Traffic
    slo: Promise | None = None
    drift: DriftVerdict | None = None
    label_maturity: float | None = None
    """share of the window's answers whose label has arrived"""
    last_release: LastRelease | None = None
    unknown: dict[str, str] = Field(default_factory=dict)
    """field that is null -> why"""


class Status(BaseModel):
    """Every use case of this gateway."""

    at: datetime
    since: datetime
    """when this gateway started: its counts are of the time since"""
    use_cases: list[Standing]
