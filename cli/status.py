"""`orrery status`: what runs, what is served, how fresh it is."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

import usecases
from cli.console import emit, say
from cli.gateway import CatalogueDown, GatewayDown, GatewayRefused, alias, ask_gateway
from cli.keys import NoClientKey
from cli.platform import healthy
from cli.services import Service, services
from cli.standing import reasons, rows, standings
from cli.supervisor import State, Supervisor
from orrery.settings import Settings, settings

UNKNOWN = "unknown"


@dataclass(frozen=True)
class ServiceStatus:
    """One service as it is now."""

    service: str
    state: str
    healthy: bool
    uptime_seconds: float | None
    """None: it runs elsewhere"""
    url: str
    log: str | None


@dataclass(frozen=True)
class ModelStatus:
    """What the catalogue says and what the gateway serves. None: there is none."""

    use_case: str
    champion: str | None
    previous: str | None
    served: str | None
    source: str | None
    """where the gateway got it: registry, or the last-good copy"""
    trained_to: str | None
    matches: bool | None
    """None: nobody could say"""


@dataclass(frozen=True)
class Freshness:
    """How old what a use case stands on is. None: there is none yet."""

    use_case: str
    data_version: str | None
    data_prepared_at: datetime | None
    features_as_of: datetime | None
    last_prediction_at: datetime | None


def status(as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False) -> None:
    """Services, models, freshness, and how each use case stands: traffic, promise, drift, labels, last release.

    The exit status is 1 when a service is down or something else is served than the champion.

    Example: orrery status --json
    """
    configured = settings()
    running = list(service_states(configured))
    if not any(each.healthy for each in running):
        say("the platform is not running; `orrery up` starts it, or `make up` in containers")
    models = list(model_states(configured))
    fresh = [freshness(configured, name) for name in usecases.names()]
    told, why = standings(configured)
    if as_json:
        found = {"home": configured.home.absolute(), "services": running, "models": models, "freshness": fresh}
        emit({**found, "use_cases": told, "use_cases_unknown": why or None}, as_json)
    else:
        emit([_shown(each) for each in running], as_json, title="Services")
        emit([_shown(each) for each in models], as_json, title="\nModels")
        emit([_shown(each) for each in fresh], as_json, title="\nFreshness")
        emit(rows(told) if told else f"\nUse cases: {why}", as_json, title="\nUse cases, since the gateway's start")
        for reason in reasons(told or ()):
            emit(reason, as_json)
    sound = all(each.healthy for each in running) and all(each.matches is not False for each in models)
    raise typer.Exit(0 if sound else 1)


def service_states(configured: Settings) -> Iterator[ServiceStatus]:
    """Every service of these settings, as supervisord and its own health answer say."""
    supervisor = Supervisor(configured.home)
    known = supervisor.states() if configured.embedded and supervisor.alive() else {}
    for service in services(configured):
        if service.command:
            yield _here(service, known.get(service.name), supervisor)
        else:
            answers = healthy(service)
            state = "answers" if answers else "silent"
            yield ServiceStatus(service.name, state, answers, None, service.url, None)


def _here(service: Service, state: State | None, supervisor: Supervisor) -> ServiceStatus:
    return ServiceStatus(
        service=service.name,
        state=state.state.lower() if state else "down",
        # something else may answer at that address
        healthy=state is not None and state.up and healthy(service),
        uptime_seconds=state.uptime_seconds if state else 0.0,
        url=service.url,
        log=str(supervisor.home / "logs" / f"{service.name}.log"),
    )


def model_states(configured: Settings) -> Iterator[ModelStatus]:
    """Each use case's champion beside what is served; `unknown` where nobody answers."""
    try:
        served = {model["use_case"]: model for model in ask_gateway(configured, "/v1/models")["models"]}
    except (GatewayDown, GatewayRefused, NoClientKey) as error:
        say(str(error))
        served = {name: {"version": UNKNOWN, "source": None} for name in usecases.names()}
    for name in usecases.names():
        champion, previous = (_version(configured, name, each) for each in ("champion", "previous"))
        now = served.get(name, {})
        version = now.get("version")
        matches = None if UNKNOWN in {champion, version} else champion == version
        yield ModelStatus(name, champion, previous, version, now.get("source"), now.get("trained_to"), matches)


def _version(configured: Settings, use_case: str, name: str) -> str | None:
    try:
        found = alias(configured, use_case, name)
    except CatalogueDown:
        return UNKNOWN
    return str(found["version"]) if found else None


def freshness(configured: Settings, use_case: str) -> Freshness:
    """The versions and times of a use case's data, features and traffic."""
    from orrery.preparation import data_versions

    data = data_versions(configured).current(use_case)
    return Freshness(
        use_case=use_case,
        data_version=data.short if data else None,
        data_prepared_at=data.created_at if data else None,
        features_as_of=materialized(configured, use_case),
        last_prediction_at=_last_prediction(configured, use_case),
    )


def materialized(configured: Settings, use_case: str) -> datetime | None:
    """The moment up to which all online views of a use case are; None before all of them are there."""
    from orrery.adapters.online_store import materialized_until

    serving = usecases.serving(use_case)
    return materialized_until(configured, {key.view for key in serving.keys(serving.example)})


def _last_prediction(configured: Settings, use_case: str) -> datetime | None:
    from orrery.adapters.database import open_database
    from orrery.adapters.prediction_log import LogReader, LogUnavailable

    try:
        latest = LogReader(open_database(configured.log_url, configured.log.durable)).latest(use_case)
    except LogUnavailable:  # the first gateway makes the tables
        return None
    return None if latest is None else datetime.fromtimestamp(latest.record.recorded_at / 1e6, UTC)


def _shown(row: Any) -> dict[str, Any]:
    """A row for a person: no log paths, moments to the minute, durations in words."""
    values = {name: value for name, value in asdict(row).items() if name != "log"}
    if (seconds := values.pop("uptime_seconds", None)) is not None:
        values["uptime"] = str(timedelta(seconds=round(seconds)))
    return {
        name.replace("_", " "): f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else value
        for name, value in values.items()
    }
