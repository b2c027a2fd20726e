"""The steps of the demo for one use case, each by the same parts that a person would call."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import usecases
from cli.console import progress, say, screen, table
from orrery.errors import OrreryError
from orrery.settings import Settings

if TYPE_CHECKING:
    from cli.flow_runs import Outcome
    from cli.replay import Script

SERVED_SECONDS = 30.0
"""the longest a gateway may take to serve a new champion; it follows within two seconds"""


_CLIENTS_SHARE = 10
"""of the predictions, one in so many more is shown to simulated clients"""


class DemoFailed(OrreryError):
    """One step of the story did not happen."""


class NotServed(OrreryError):
    """The gateway does not serve the champion."""


class ParityBroken(OrreryError):
    """A model saw other features than the feature store computes offline."""


@dataclass(frozen=True)
class Told:
    """What the story of one use case came to."""

    data_version: str
    model_version: str
    gate: str
    test: dict[str, float]
    served: dict[str, Any]
    parity: dict[str, int]


class Story:
    """The steps of one use case, in order; each does nothing that is done already."""

    def __init__(self, configured: Settings, use_case: str, predictions: int) -> None:
        self.configured, self.use_case, self.predictions = configured, use_case, predictions
        self.training = usecases.training(use_case)

    def tell(self) -> Told:
        """Data, release, online store, replay, lineage, parity. Raises DemoFailed naming the step and its log."""
        data_version = self._do("data", "supervisor", self.data)
        outcome = self._do("train, gate, promote", "worker", self.release)
        self._do("online store", "worker", self.materialize)
        facts = outcome.tables["facts"][0]
        self._do("serve", "gateway", lambda: self.wait_served(str(facts["version"])))
        script = self._do("events", "gateway", self.script)
        served = self._do("replay", "gateway", lambda: self.replay(script))
        self._do("lineage", "gateway", lambda: self.lineage(served["telling_prediction"]))
        parity = self._do("parity", "gateway", lambda: self.parity(script, served["degraded"]))
        clicked = self._do("clients", "gateway", lambda: self.clients(script)) if self.training.react else {}
        measured = {row["metric"]: row["candidate"] for row in outcome.tables["metrics"]}
        return Told(
            data_version=data_version,
            model_version=str(facts["version"]),
            gate="passed",
            test=measured,
            served={name: served[name] for name in ("predictions", "errors", "p50_ms", "p99_ms")} | clicked,
            parity=parity,
        )

    def _do(self, step: str, log: str, work: Callable[[], Any]) -> Any:
        with announced(f"{self.use_case}: {step}", self.configured, log):
            return work()

    def data(self) -> str:
        """The built-in data set, prepared; returns its version."""
        from orrery.preparation import prepare
        from orrery.usecase import SourceRequest

        built_in = SourceRequest(next(iter(self.training.sources)))
        with progress() as show:
            snapshot = prepare(self.use_case, self.training, built_in, self.configured, show)
        counts = ", ".join(f"{count:,} {what}" for what, count in snapshot.counts.items())
        say(f"  version {snapshot.data_version[:8]}: {counts}")
        return snapshot.data_version

    def release(self) -> "Outcome":
        """A release of what was known when the replay starts. Raises DemoFailed when the gate refuses."""
        outcome = self._flow(
            "release", {"as_of": self.training.replay_from.isoformat(), "days": self.training.train_days}
        )
        if outcome.name == "Refused":
            raise DemoFailed(f"the gate refused the model: {outcome.message}")
        say(f"  {outcome.message}  {outcome.url}")
        return outcome

    def materialize(self) -> None:
        """The online store, as of the start of the replay. What it has learned since then would stay anyway."""
        from cli.status import materialized

        serving = usecases.serving(self.use_case)
        if not serving.keys(serving.example):
            say("  nothing is stored for it")
            return
        known = materialized(self.configured, self.use_case)
        if known and known >= self.training.replay_from:
            say(f"  as of {known:%Y-%m-%d %H:%M} already")
            return
        self._flow("materialize", {"end": self.training.replay_from.isoformat()})

    def _flow(self, flow: str, parameters: dict[str, Any]) -> "Outcome":
        from cli.flow_runs import run

        with progress() as show:
            outcome = run(
                self.configured, f"{flow}/{self.use_case}", {"use_case": self.use_case, **parameters}, show, say
            )
        if not outcome.completed:
            raise DemoFailed(f"{outcome.name}: {outcome.message} ({outcome.url})")
        return outcome

    def wait_served(self, version: str) -> None:
        """Until the gateway answers with the champion. Raises NotServed."""
        from orrery.releasing import served_version, wait_until_served

        seen, _ = wait_until_served(self.use_case, version, self.configured, SERVED_SECONDS)
        if seen != "serving":
            serves = served_version(self.configured, self.use_case) or "none"
            raise NotServed(f"the gateway serves version {serves} of {self.use_case}, not {version}")

    def script(self) -> "Script":
        """The first events after the training window."""
        from cli.replay import read_script

        start = self.training.replay_from
        return read_script(self.configured, self.use_case, start, self._last_moment(start), self.predictions)

    def replay(self, script: "Script") -> dict[str, Any]:
        """The events over HTTP. Raises DemoFailed when one of them failed."""
        return self._replayed(script, clients=False)

    def clients(self, script: "Script") -> dict[str, Any]:
        """The events after those of `script`, to whose answers simulated clients react: what these were worth."""
        from cli.replay import read_script

        later = script.events[-1].moment + timedelta(microseconds=1)
        most = max(self.predictions // _CLIENTS_SHARE, 1)
        script = read_script(self.configured, self.use_case, later, datetime.now(UTC), most)
        worth: dict[str, Any] = self._replayed(script, clients=True)["online"]
        return worth

    def _replayed(self, script: "Script", *, clients: bool) -> dict[str, Any]:
        from cli.replay import run
        from cli.traffic import by_rate

        counted = run(self.configured, self.use_case, script, by_rate(self.training.replay_rate), clients=clients)
        if counted["errors"]:
            raise DemoFailed(f"{counted['errors']} of {len(script.events)} events failed: {counted['reasons']}")
        shown = {name: counted[name] for name in ("predictions", "degraded", "labels", "rate", "p50_ms", "p99_ms")}
        if clients or not self.training.react:  # else nobody was there to click
            shown |= counted["online"]
        screen().print(table({name.replace("_", " "): value for name, value in shown.items()}))
        return counted

    def _last_moment(self, start: datetime) -> datetime:
        """Just after the last of the rows to replay."""
        import pandas as pd

        from orrery.preparation import current

        path, name = current(self.use_case, self.configured).path, self.training.moment
        moments = pd.read_parquet(path, columns=[name], filters=[(name, ">=", start)])[name]
        last: datetime = moments.nsmallest(self.predictions).max().to_pydatetime()
        return last + timedelta(microseconds=1)

    def lineage(self, prediction_id: str) -> None:
        """Where the last prediction came from."""
        from cli.lineage import trace, tree

        screen().print(tree(trace(self.configured, prediction_id)))

    def parity(self, script: "Script", degraded: int) -> dict[str, int]:
        """What the model saw of the replayed events against the feature store's own. Raises ParityBroken.

        Degraded answers may come from rules alone, so up to that many events have nothing to compare.
        """
        from cli.parity import compared

        sent = {event.identity: event.moment for event in script.events if event.kind == "predict"}
        last = max(sent.values()) + timedelta(microseconds=1)
        found = compared(self.configured, self.use_case, min(sent.values()), last, sent.keys())
        if found.mismatches or found.rows + degraded < len(sent):
            worst = f"; for instance {found.worst[0]}" if found.worst else ""
            raise ParityBroken(f"{found.mismatches} of {found.rows} rows differ, {len(sent)} were sent{worst}")
        return {"rows": found.rows, "mismatches": found.mismatches}


@contextmanager
def announced(name: str, configured: Settings, log: str) -> Iterator[None]:
    """Say what begins, and, if it fails, which step it was and where to look."""
    say(f"[bold]{name}[/]")
    began = time.monotonic()
    try:
        yield
    except OrreryError as error:
        path = configured.home.absolute() / "logs" / f"{log}.log"
        raise DemoFailed(f"the demo ended at `{name}`: {error}; see {path}") from error
    say(f"  {time.monotonic() - began:.1f} s")
