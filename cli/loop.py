"""`orrery loop`: a changed world, and what the platform makes of it without hands, told from its audit log."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import usecases
from cli.console import emit, progress, say
from cli.drift_option import Drift
from cli.loop_plot import draw
from cli.timeline import LoopBroken, Story, better, by_champion
from orrery.adapters.audit_log import AuditLog
from orrery.adapters.database import open_database
from orrery.adapters.watch_log import WatchLog
from orrery.retraining import DECLINED, REFUSED, STARTED, SUGGESTED
from orrery.settings import Settings, settings
from orrery.watching import Watched

if TYPE_CHECKING:
    from cli.flow_runs import Outcome

DAY = timedelta(days=1)
_RATE = 220.0
_SETTLE_SECONDS = 240.0
"""the longest that alert, decision and release may take once the labels are there"""
_LOOK_SECONDS = 2.0
_MOST_WINDOWS = 400
_WARM_DAYS, _TRAIN_DAYS = 75, 30
"""event time before the first champion: features look back thirty days, labels are late, and a week judges"""
PROMOTED = "promote"
_TOLD = (STARTED, DECLINED, SUGGESTED, REFUSED, PROMOTED)


def loop(
    use_case: Annotated[str, typer.Argument(help="one that says how served requests become raw rows")] = "fraud",
    change: Annotated[str, typer.Option(help="NAME=VALUE of the drift")] = "amount=1.6",
    quiet_days: Annotated[int, typer.Option(min=3, help="days of event time before the change")] = 5,
    most_days: Annotated[int, typer.Option(min=1, help="days after it in which a new champion must serve")] = 40,
    days_after: Annotated[int, typer.Option(min=1, help="days that the new champion serves, labels awaited")] = 3,
    refused: Annotated[bool, typer.Option("--refused", help="the gate is to refuse what the alert starts")] = False,
    out: Annotated[Path, typer.Option(help="folder of the timeline and its picture")] = Path("build/loop"),
    as_json: Annotated[bool, typer.Option("--json", help="the timeline as JSON")] = False,
) -> None:
    """Stationary traffic, then a drift: alert, release, gate, a better champion, and no hand on it.

    Uses a small set of the use case's own and an installation of its own: set ORRERY_HOME, as `make loop` does. Writes
    timeline.json and a picture of it into --out. The exit status is 1 when a step of the loop did not happen.

    With --refused the change is one that nothing can be learned from, such as wrong-labels=0.4: the champion stays.

    Example: ORRERY_HOME=var/loop orrery loop fraud --change amount=1.6
    """
    from cli.demo import started

    configured = settings()
    told = _Loop(configured, use_case, change, out)
    started(configured)
    found = told.run(change, quiet_days, most_days, days_after, refused)
    told.story.timeline.write_text(json.dumps(found, indent=1) + "\n")
    if as_json:
        emit(found, as_json)
        return
    emit(found["live"] or found["timeline"][-1], as_json, title="\nWhat it came to")
    say(f"{found['seconds']} s; {told.story.timeline} and its picture; `orrery monitor {use_case}` shows every window")


class _Loop:
    """One run of the story."""

    def __init__(self, configured: Settings, use_case: str, change: str, out: Path) -> None:
        self.configured, self.use_case, self.story = configured, use_case, Story(out)
        self.training = usecases.training(use_case)
        if self.training.collected is None:
            raise LoopBroken(f"{use_case} does not learn from what was served; choose a use case that does")
        Drift.read(f"{change}@1970-01-01", self.training)  # what is no change is told before anything starts
        self._engine = open_database(configured.log_url, configured.log.durable)
        if any(self._audited()):
            raise LoopBroken(f"{configured.home} has had releases of {use_case}; set ORRERY_HOME to a new folder")
        self._told = 0
        self._watching: str | None = None

    def run(self, change: str, quiet_days: int, most_days: int, days_after: int, refused: bool) -> dict[str, Any]:
        from cli.flow_runs import FlowRuns

        with FlowRuns(self.configured) as self.runs:
            start = self._first_champion()
            drift = Drift.read(f"{change}@{start + quiet_days * DAY:%Y-%m-%d}", self.training)
            day = start
            for day in _days(start, drift.since):
                self._serve(day, ())
            self._wait_watched(day)
            self._expect_silence()
            self.story.tell("the world changes", drift=change, on=f"{drift.since:%Y-%m-%d}")
            last = self._until_verdict(drift, most_days, REFUSED if refused else PROMOTED)
            if refused:
                return self._unchanged()
            enough = last + days_after * DAY + self.training.label_delay + 2 * DAY
            for day in _days(last, enough):
                self._serve(day, (drift,))
            self._wait_watched(day)
            draw(self._windows(_MOST_WINDOWS), drift.since, self.training.gate.compare[0], self.story.picture)
            live = self._compare(drift)
        return self._result(live)

    def _unchanged(self) -> dict[str, Any]:
        """The refusal's end: the champion of before serves."""
        served = self._served()
        if served != self.story.champion:
            raise LoopBroken(f"version {served} serves after a refusal, and not {self.story.champion}")
        self.story.tell("the champion is unchanged", version=served)
        return self._result({})

    def _result(self, live: Mapping[str, Any]) -> dict[str, Any]:
        seconds = round(time.monotonic() - self.story.began)
        return {"use_case": self.use_case, "seconds": seconds, "timeline": self.story.moments, "live": live}

    def _first_champion(self) -> datetime:
        """A champion trained on the small set, served with its features; returns where its data end."""
        as_of = self._data()
        about = {"use_case": self.use_case}
        outcome = self._flow("release", about | {"as_of": as_of.isoformat(), "days": _TRAIN_DAYS})
        if outcome.name != "Promoted":
            raise LoopBroken(f"no first champion: {outcome.name} {outcome.message} ({outcome.url})")
        self._flow("materialize", about | {"end": as_of.isoformat()})
        self.story.champion = str(outcome.tables["facts"][0]["version"])
        self._told = len(list(self._audited()))
        self.story.tell("first champion", version=self.story.champion, as_of=f"{as_of:%Y-%m-%d}")
        return as_of

    def _data(self) -> datetime:
        from orrery.building import span_of
        from orrery.preparation import prepare
        from orrery.usecase import SourceRequest

        small = SourceRequest(next(iter(self.training.sources)), sample=True)
        with progress() as show:
            snapshot = prepare(self.use_case, self.training, small, self.configured, show)
        first, _ = span_of(usecases.case(self.use_case), snapshot)
        return first.replace(hour=0, minute=0, second=0, microsecond=0) + _WARM_DAYS * DAY

    def _flow(self, flow: str, parameters: Mapping[str, Any]) -> "Outcome":
        from cli.flow_runs import run

        with progress() as show:
            outcome = run(self.configured, f"{flow}/{self.use_case}", parameters, show, say)
        if not outcome.completed:
            raise LoopBroken(f"{flow} ended as {outcome.name}: {outcome.message} ({outcome.url})")
        return outcome

    def _serve(self, day: datetime, drifts: Sequence[Drift]) -> None:
        """A day of traffic, and the labels that arrive on it; then the watch is asked to look."""
        from cli.replay import read_script, run
        from cli.traffic import by_rate

        script = read_script(self.configured, self.use_case, day, day + DAY, None, drifts)
        sent = run(self.configured, self.use_case, script, by_rate(_RATE))
        if sent["errors"]:
            raise LoopBroken(f"{sent['errors']} events of {day:%Y-%m-%d} failed: {sent['reasons']}")
        self._tell_new()
        self._look()

    def _look(self) -> None:
        """What the schedule does every few minutes, here once a day of event time; never two at once."""
        if self._watching is None or self.runs.ended(self._watching):
            self._watching = self.runs.trigger(f"watch/{self.use_case}", {"use_case": self.use_case})

    def _wait_watched(self, day: datetime) -> None:
        """Until every window that ends with `day` has been judged."""
        ends = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < ends:
            if any(each.last >= day for each in self._windows(1)):
                return
            self._look()
            time.sleep(_LOOK_SECONDS)
        raise LoopBroken(
            f"the watch has not judged the windows until {day:%Y-%m-%d}; see {self.runs.url(self._watching or '')}"
        )

    def _expect_silence(self) -> None:
        windows = self._windows(_MOST_WINDOWS)
        loud = [each for each in windows if each.sustained]
        if loud or any(record["action"].startswith("retrain") for record in self._audited()):
            raise LoopBroken(f"an alarm without a cause: {loud[0].reasons if loud else 'a retraining was asked for'}")
        states = ", ".join(sorted({each.state for each in windows}))
        self.story.tell("stationary traffic, no alarm", windows=len(windows), states=states)

    def _until_verdict(self, drift: Drift, most_days: int, wanted: str) -> datetime:
        """Serve day after day of the changed world until the release of an alert ends as `wanted`; the next day."""
        for day in _days(drift.since, drift.since + most_days * DAY):
            self._serve(day, (drift,))
            if self._verdicts()[-1:] == [STARTED]:
                self._settle()
            if wanted in self._verdicts():
                return day + DAY
        raise LoopBroken(f"{most_days} days of the change have led to no `{wanted}`: {self._verdicts() or 'no alert'}")

    def _verdicts(self) -> list[str]:
        """What releases that alerts started have come to, or that they are under way."""
        actions = [record["action"] for record in self._audited() if record["action"] in {STARTED, REFUSED, PROMOTED}]
        return actions[actions.index(STARTED) :] if STARTED in actions else []

    def _settle(self) -> None:
        """Give the release that was started the time it takes."""
        ends = time.monotonic() + _SETTLE_SECONDS
        while self._verdicts()[-1] == STARTED:
            if time.monotonic() > ends:
                raise LoopBroken(f"the release that an alert started has no verdict after {_SETTLE_SECONDS:.0f} s")
            time.sleep(_LOOK_SECONDS)
        self._tell_new()

    def _served(self) -> str:
        from orrery.releasing import served_version

        return served_version(self.configured, self.use_case) or self.story.champion

    def _tell_new(self) -> None:
        """What the audit log has since it was last looked at, in its words."""
        for record in list(self._audited())[self._told :]:
            self._told += 1
            if record["action"] not in _TOLD:
                continue
            details = record["details"]
            alert = details.get("alert") or {}
            self.story.tell(
                record["action"],
                alert=alert.get("name", ""),
                summary=alert.get("summary", ""),
                window=(details.get("window") or {}).get("first", "")[:10],
                version=details.get("champion", ""),
                reasons="; ".join(details.get("reasons", [])),
            )
            if record["action"] == PROMOTED:
                self.story.successor = self.story.successor or str(details["champion"])

    def _compare(self, drift: Drift) -> dict[str, dict[str, float]]:
        live = by_champion(self._windows(_MOST_WINDOWS), drift.since, self.story.champion, self.story.successor)
        for name, values in live.items():
            self.story.tell(f"live quality, {name}", **values)
        return better(live, self.training.gate.compare[0])

    def _windows(self, most: int) -> list[Watched]:
        return [each for _, each in WatchLog(self._engine).latest(self.use_case, most)][::-1]

    def _audited(self) -> Iterator[dict[str, Any]]:
        return (record for record in AuditLog(self.configured).records() if record["subject"] == self.use_case)


def _days(first: datetime, last: datetime) -> Iterator[datetime]:
    while first < last:
        yield first
        first += DAY
