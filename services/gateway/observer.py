"""Keeps in memory what `GET /v1/status` tells, so that it is told at once while everything around is dead."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from orrery.adapters.audit_log import AuditBroken, AuditLog
from orrery.adapters.prediction_log import LogUnavailable
from orrery.adapters.watch_log import WatchLog
from orrery.last_release import LastRelease, last_releases
from orrery.prediction import Predictor
from orrery.telemetry import CLASSES, Ends
from orrery.watching import Watched
from services.gateway.follower import Follower
from services.gateway.standing import MINUTES, OBJECTIVE, Answering, DriftVerdict, Promise, Standing, Status, Traffic

_COUNT_SECONDS, _READ_SECONDS = 10.0, 5.0
_SPAN = timedelta(minutes=MINUTES)
_ANSWERS = ("ok", "fallback")
_NOT_YET = "not read yet; ask again in a moment"


@dataclass
class _Seen:
    """What was last read of the watch and of the releases, and why it could not be."""

    windows: Mapping[str, tuple[datetime, Watched]] = field(default_factory=dict)
    no_windows: str = _NOT_YET
    releases: Mapping[str, LastRelease] = field(default_factory=dict)
    no_releases: str = _NOT_YET


class Observer:
    """Reads in the background. What cannot be read any more is not told as if it were of now."""

    def __init__(
        self,
        predictors: Mapping[str, Predictor],
        followers: Mapping[str, Follower],
        watch: WatchLog,
        audit: AuditLog,
        clock: Callable[[], datetime],
    ) -> None:
        self._predictors, self._followers = predictors, followers
        self._watch, self._audit, self._clock = watch, audit, clock
        self._since = clock()
        self._seen = _Seen()
        self._counted: deque[tuple[datetime, Mapping[str, Ends]]] = deque([(self._since, self._ends())])
        self._audited: tuple[int, int] | None = None

    def tasks(self) -> list[Coroutine[Any, Any, None]]:
        """What runs beside the requests, for ever."""
        return [self._count(), self._read()]

    def status(self) -> Status:
        """How every use case stands now, from memory."""
        now, ends = self._clock(), self._ends()
        before = self._before(now)
        told = [self._standing(name, ends[name], before[name]) for name in self._predictors]
        return Status(at=now, since=self._since, use_cases=told)

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(_COUNT_SECONDS)
            self.count()

    async def _read(self) -> None:
        while True:
            reading = asyncio.ensure_future(asyncio.to_thread(self.look))
            try:
                await asyncio.shield(reading)
            except asyncio.CancelledError:  # the thread goes on: its connection is given back before the pool ends
                await asyncio.wait({reading}, timeout=_READ_SECONDS)
                raise
            await asyncio.sleep(_READ_SECONDS)

    def count(self) -> None:
        """Note the counts of this moment, and forget those that nobody needs to count from."""
        now = self._clock()
        self._counted.append((now, self._ends()))
        while self._counted[1][0] <= now - _SPAN:
            self._counted.popleft()

    def look(self) -> None:
        """Read the watch's log and the audit log once."""
        seen = self._seen
        try:
            seen.windows, seen.no_windows = self._watch.newest(), "it was never watched"
        except (LogUnavailable, LookupError, TypeError, ValueError) as error:
            seen.windows, seen.no_windows = {}, _sentence(error)
        try:
            self._look_at_releases()
        except (AuditBroken, OSError, LookupError, TypeError, ValueError) as error:
            seen.releases, seen.no_releases, self._audited = {}, _sentence(error), None

    def _look_at_releases(self) -> None:
        seen, state = self._seen, self._audit.state
        if state is None:
            seen.releases = {}
            seen.no_releases = "the audit log is not in the gateway's home; `orrery status` reads it where flows run"
        elif state != self._audited:
            seen.releases, seen.no_releases = last_releases(self._audit.records()), "nothing was released yet"
        self._audited = state

    def _ends(self) -> Mapping[str, Ends]:
        return {name: predictor.metrics.ends() for name, predictor in self._predictors.items()}

    def _before(self, now: datetime) -> Mapping[str, Ends]:
        """The counts of five minutes ago, or of the start."""
        return next((ends for at, ends in reversed(self._counted) if at <= now - _SPAN), self._counted[0][1])

    def _standing(self, name: str, ends: Ends, before: Ends) -> Standing:
        served, follower = self._predictors[name].served, self._followers[name]
        window, release = self._seen.windows.get(name), self._seen.releases.get(name)
        quality = window[1].quality if window else None
        known = {
            "champion": follower.champion,
            "served": served.version if served else None,
            "slo": _promise(ends),
            "drift": _verdict(*window) if window else None,
            "label_maturity": quality.maturity if quality else None,
            "last_release": release,
        }
        why = {
            "champion": "no version is the champion" if follower.asked_at else "the registry has not answered yet",
            "served": "no model is loaded; rules answer",
            "slo": "nothing was asked since the start",
            "drift": self._seen.no_windows,
            "label_maturity": "no label of the window is known of" if window else self._seen.no_windows,
            "last_release": self._seen.no_releases if not self._seen.releases else "nothing was released yet",
        }
        return Standing(
            use_case=name,
            champion_seen_at=follower.asked_at,
            source=served.source if served else None,
            traffic=_traffic(ends, before),
            unknown={each: why[each] for each, value in known.items() if value is None},
            **known,
        )


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, LogUnavailable | AuditBroken) else repr(error)


def _traffic(ends: Ends, before: Ends) -> Traffic:
    lately = {key: count - before.get(key, 0) for key, count in ends.items() if key[2] in _ANSWERS}
    by = {(version, variant): 0.0 for version, variant, _ in lately}
    for (version, variant, _), count in lately.items():
        by[version, variant] += count
    total = sum(by.values())
    shares = [
        Answering(version=version or None, variant=variant, share=count / total)
        for (version, variant), count in sorted(by.items())
        if count
    ]
    return Traffic(
        answers_five_minutes=round(total),
        answers=_ended(ends, _ANSWERS),
        degraded=_ended(ends, ("fallback",)),
        failed=_ended(ends, [name for name, kind in CLASSES.items() if kind == "bad"]),
        answering=shares,
    )


def _ended(ends: Ends, outcomes: Sequence[str]) -> int:
    return round(sum(count for (_, _, outcome), count in ends.items() if outcome in outcomes))


def _promise(ends: Ends) -> Promise | None:
    good, bad = (_ended(ends, [name for name, kind in CLASSES.items() if kind == which]) for which in ("good", "bad"))
    if not good + bad:
        return None
    failing = bad / (good + bad)
    return Promise(attained=1 - failing, budget_left=1 - failing / (1 - OBJECTIVE))


def _verdict(at: datetime, window: Watched) -> DriftVerdict:
    return DriftVerdict(
        verdict=window.state,
        sustained=window.sustained,
        first=window.first,
        last=window.last,
        watched_at=at,
        rows=window.rows,
        reasons=list(window.reasons),
    )
