"""`orrery replay`: a use case's own past, sent to the gateway as clients would have."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

import usecases
from cli.console import emit, say, screen
from cli.drift_option import Drift, drifted
from cli.gateway import check_gateway
from cli.keys import client_key
from cli.label_delay import LabelDelay, delayed
from cli.tally import Online, Tally
from cli.traffic import Event, Pace, React, Target, by_rate, by_speed, send
from orrery.errors import OrreryError
from orrery.settings import Settings, settings
from orrery.usecase import Serving, Training

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


class NothingToReplay(OrreryError):
    """The window holds no event."""


class WrongPace(OrreryError):
    """A pace is a rate or a speed, not both."""


@dataclass(frozen=True)
class Script:
    """What will be sent, and the truth that the data set knows of it."""

    events: Sequence[Event]
    truth: dict[str, float]
    """identity -> label"""


def replay(
    use_case: Annotated[str, typer.Argument(help="whose past")],
    first: Annotated[datetime, typer.Option("--from", help="first event time, UTC", formats=FORMATS)],
    last: Annotated[datetime, typer.Option("--to", help="event time to stop before, UTC", formats=FORMATS)],
    rate: Annotated[float | None, typer.Option(min=0.01, help="events a second  (default 50)")] = None,
    speed: Annotated[float | None, typer.Option(min=0.01, help="event time, so many times as fast")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="predictions at most")] = None,
    drift: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE@DATE: the world changes on that day; repeatable")
    ] = None,
    label_delay: Annotated[
        str | None, typer.Option(help="7d, lognormal or lognormal:MEDIAN,SIGMA: how long each label takes")
    ] = None,
    clients: Annotated[
        bool, typer.Option("--clients/--no-clients", help="simulated clients react, where the use case has them")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="the result as JSON")] = False,
) -> None:
    """Send past events to the gateway in event order; labels follow when they arrived.

    A label of a request from before the window counts where the gateway can use it, and is no error where it cannot.

    Simulated clients click on what they are shown; what these clicks teach the online store, no data set knows, so
    `orrery parity` holds for replays without them. The exit status is 1 when an event failed.

    --drift changes the rows on their way, from its day on; what there is to choose from, a wrong name tells, and the
    use case's model card.

    --label-delay has labels arrive later or sooner than the data set says: all after 7d (or 36h, 90m), or each after a
    time of its own, log-normal around the use case's delay with a sigma of 0.5, unless lognormal:MEDIAN,SIGMA says
    otherwise. A label takes as long in each replay. What the store learns then, no data set knows either.

    Example: orrery replay fraud --from 2018-09-12 --to 2018-09-13 --rate 100 --drift amount=1.3@2018-09-12
    """
    if rate and speed:
        raise WrongPace("give --rate or --speed, not both")
    start = first.replace(tzinfo=UTC)
    training = usecases.training(use_case)
    changes = [Drift.read(each, training) for each in drift or ()]
    delay = LabelDelay.read(label_delay, training) if label_delay else None
    script = read_script(settings(), use_case, start, last.replace(tzinfo=UTC), limit, changes, delay)
    pace = by_speed(speed, start) if speed else by_rate(rate or 50.0)
    result = run(settings(), use_case, script, pace, clients=clients)
    emit(result, as_json, title=f"replay of {use_case}")
    raise typer.Exit(1 if result["errors"] else 0)


def read_script(
    configured: Settings,
    use_case: str,
    first: datetime,
    last: datetime,
    limit: int | None,
    changes: Sequence[Drift] = (),
    delay: LabelDelay | None = None,
) -> Script:
    """The events of [first, last): requests of that time, and labels that arrive in it, also of earlier requests.

    Raises GatewayDown before any data is read, NothingToReplay for an empty window.
    """
    check_gateway(configured)
    serving, training = usecases.serving(use_case), usecases.training(use_case)
    earliest = first - (delay.longest if delay else training.label_delay)
    said = training.requests(drifted(_rows(configured, use_case, earliest, last), changes, training))
    script = write_script(serving, delayed(said, delay, serving) if delay else said, first, last, limit)
    if not script.events:
        raise NothingToReplay(f"{use_case} has no event from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}")
    return script


def write_script(
    serving: Serving, said: Sequence[tuple[datetime, Any, Any]], first: datetime, last: datetime, limit: int | None
) -> Script:
    """Cut the window out of a history of (moment, kind, body), and give each event the keys that order it."""
    keys = {serving.identity(body): frozenset(serving.keys(body)) for _, kind, body in said if kind == "predict"}
    truth = {serving.identity(body): serving.label(body) for _, kind, body in said if kind == "feedback"}
    events: list[Event] = []
    predictions = 0
    for moment, kind, body in said:
        if not first <= moment < last:
            continue
        predictions += kind == "predict"
        if limit is not None and predictions > limit:
            break
        identity = serving.identity(body)
        touched = keys.get(identity, frozenset()) | frozenset(serving.keys(body)) | {identity}
        events.append(Event(moment, kind, identity, touched, body.model_dump_json()))
    return Script(events, truth)


def run(configured: Settings, use_case: str, script: Script, pace: Pace, *, clients: bool = False) -> dict[str, Any]:
    """Send a script with a live display and return the counts of `Tally.result`. `clients`: they react to answers."""
    serving, training = usecases.serving(use_case), usecases.training(use_case)
    tally = Tally(script.truth, serving.monitored_output, len(script.events), _online(serving, training))
    target = Target(f"{configured.gateway_url}/v1/{use_case}/", client_key(configured))
    react = _reacting(serving, training) if clients and training.react else lambda *_: ()
    asyncio.run(_watched(send(script.events, pace, target, tally, react), tally))
    return tally.result()


def _online(serving: Serving, training: Training) -> Online | None:
    worth = training.online
    if worth is None:
        return None
    return lambda answers, told: worth(answers, [serving.feedback.model_validate_json(body) for body in told])


def _reacting(serving: Serving, training: Training) -> React:
    """The simulated clients of a use case, as events."""

    def react(event: Event, answer: dict[str, Any]) -> list[Event]:
        assert training.react is not None
        said = training.react(serving.request.model_validate_json(event.body), answer)
        return [
            Event(serving.label_arrival(body), "feedback", serving.identity(body), event.keys, body.model_dump_json())
            for body in said
        ]

    return react


async def _watched(sending: Any, tally: Tally) -> None:
    if screen().is_terminal:
        from rich.live import Live

        with Live(tally, console=screen(), refresh_per_second=3):
            await sending
        return
    task = asyncio.create_task(sending)
    while not (await asyncio.wait({task}, timeout=5.0))[0]:
        say(tally.line())
    task.result()


def _rows(configured: Settings, use_case: str, first: datetime, last: datetime) -> "pd.DataFrame":
    """Raw rows of [first, last), as the training half reads them."""
    import pandas as pd

    from orrery.preparation import prepared

    moment = usecases.training(use_case).moment
    return pd.read_parquet(prepared(use_case, configured).path, filters=[(moment, ">=", first), (moment, "<", last)])
