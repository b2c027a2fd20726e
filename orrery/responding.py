"""What an alert that asks for a retraining leads to: one decision in the audit log, and at most one release."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine

from orrery.adapters.audit_log import AuditLog
from orrery.adapters.database import open_database
from orrery.adapters.locks import exclusive
from orrery.adapters.manifests import manifests
from orrery.adapters.orchestrator import BUSY_WAITS, FlowRun, Orchestrator
from orrery.adapters.prediction_log import LogReader
from orrery.adapters.registry import CHAMPION, Registry, Version
from orrery.adapters.watch_log import WatchLog
from orrery.moments import EPOCH, micros, moment
from orrery.retraining import (
    APPROVED,
    DECLINED,
    PROMOTED,
    STARTED,
    SUGGESTED,
    Alert,
    Decision,
    Facts,
    Verdict,
    decide,
    history,
)
from orrery.settings import Settings
from orrery.usecase import Training
from orrery.watching import Watched

ACTIONS: Mapping[Verdict, str] = {"start": STARTED, "suggest": SUGGESTED, "decline": DECLINED}
_VERDICTS = {action: verdict for verdict, action in ACTIONS.items()}
_WAIT_SECONDS = 120.0
_LOOKED_BACK = 400
"""windows"""


@dataclass(frozen=True)
class Response:
    """What was decided of an alert."""

    cause: str
    verdict: Verdict
    reasons: tuple[str, ...]
    parameters: Mapping[str, Any]
    """of the release"""


@dataclass(frozen=True)
class Suggestion:
    """A release that an alert asks for and a person must approve."""

    at: datetime
    response: Response
    alert: Mapping[str, Any]
    approved_by: str | None


@dataclass(frozen=True)
class Approved:
    """Who approved a suggestion first, and the release that it became."""

    by: str
    run: FlowRun


def respond(use_case: str, alert: Alert, training: Training, settings: Settings, flow_run: str, actor: str) -> Response:
    """Decide of an alert and write it down. What was started or suggested stays; a decline is thought over again.

    Raises LogUnavailable, and what the catalogue, Prefect and the audit log raise: without facts nothing is decided.
    """
    audit, cause = AuditLog(settings), alert.cause(use_case)
    known = _recorded(audit, use_case, cause)
    if known is not None and known.verdict != "decline":
        return known
    decision, parameters, window = _judged(use_case, alert, training, settings)
    if known is None or decision.verdict != "decline":
        details = {
            "cause": cause,
            "alert": alert.model_dump(mode="json"),
            "reasons": list(decision.reasons),
            "window": window,
            "parameters": parameters,
            "flow_run": flow_run,
            "key": release_key(cause),
        }
        audit.append(ACTIONS[decision.verdict], use_case, details, actor)
    return Response(cause, decision.verdict, decision.reasons, parameters)


def waiting(use_case: str, settings: Settings) -> Alert | None:
    """The alert that was declined last, unless a release was started, suggested or promoted since."""
    latest: Alert | None = None
    for record in AuditLog(settings).records():
        if record["subject"] == use_case and record["action"] in {*_VERDICTS, *PROMOTED}:
            declined = record["action"] == DECLINED
            latest = Alert.model_validate(record["details"]["alert"]) if declined else None
    return latest


def ask_again(use_case: str, alert: Alert, newest: datetime, training: Training, settings: Settings) -> FlowRun | None:
    """Have a declined alert decided anew, at most once a window, of which `newest` is the end of the last.

    None: the policy would decline again.
    """
    if would_say(use_case, training, settings).verdict == "decline":
        return None
    parameters = {"use_case": use_case, "alert": alert.model_dump(mode="json")}
    with Orchestrator(settings, BUSY_WAITS) as orchestrator:
        return orchestrator.start(f"respond/{use_case}", parameters, f"{alert.cause(use_case)} {newest.isoformat()}")


def ensure_release(use_case: str, cause: str, parameters: Mapping[str, Any], settings: Settings) -> FlowRun:
    """The one release that a cause has, made unless it is there."""
    with Orchestrator(settings, BUSY_WAITS) as orchestrator:
        return orchestrator.start(f"release/{use_case}", parameters, release_key(cause))


def release_key(cause: str) -> str:
    """Prefect makes one run of it."""
    return f"release {cause}"


@contextmanager
def one_at_a_time(use_case: str, settings: Settings) -> Iterator[None]:
    """Two alerts of a use case are decided after each other. Raises Busy."""
    with exclusive(settings, f"respond-{use_case}", _WAIT_SECONDS):
        yield


def known_facts(use_case: str, training: Training, settings: Settings) -> Facts:
    """What the policy must know now."""
    starts, refusals = history(AuditLog(settings).records(), use_case)
    with _database(settings) as engine:
        log = LogReader(engine)
        champion = Registry(settings).find(use_case, CHAMPION)
        seen = trouble(use_case, engine, champion.version) if champion else None
        since = seen or _as_of(champion, settings)
        newest = log.latest(use_case)
        learned = (newest.record.event_time if newest else 0) - micros(
            EPOCH + training.label_delay + training.held_back
        )
        labels = log.labelled(use_case, micros(since or EPOCH), learned)
    with Orchestrator(settings, BUSY_WAITS) as orchestrator:
        running = orchestrator.going_on(f"release/{use_case}")
    return Facts(datetime.now(UTC), starts, refusals, labels, since, running)


def trouble(use_case: str, engine: Engine, version: str | None = None) -> datetime | None:
    """Since when what was watched shows a trouble of the version, or of the one that answers; None: it shows none."""
    return troubled_since([each for _, each in WatchLog(engine).latest(use_case, _LOOKED_BACK)], version)


def troubled_since(windows: Sequence[Watched], version: str | None = None) -> datetime | None:
    """Since when windows, the newest first, drift or part from their estimate; None: the newest that can tell does not.

    Windows that say nothing, for lack of rows or of labels, neither end a trouble nor begin one. What another version
    answered is no trouble of `version`, which without one is that of the newest window.
    """
    since, serving = None, version or next((window.version for window in windows if window.version), None)
    for window in windows:
        if window.version not in {None, serving}:
            break
        parted = window.quality is not None and bool(window.quality.parted)
        if window.state == "drift" or parted:
            since = window.first
        elif window.state == "stable" and (window.quality is None or window.quality.mature):
            break
    return since


def _as_of(champion: Version | None, settings: Settings) -> datetime | None:
    """When the data of the champion ended; None: there is no champion."""
    return manifests(settings)(champion.run_id, champion.digest).as_of if champion else None


def suggestion(use_case: str, settings: Settings) -> Suggestion | None:
    """The latest suggestion, approved or not; None once the champion has changed since."""
    latest: dict[str, Any] | None = None
    approved_by: str | None = None
    for record in AuditLog(settings).records():
        if record["subject"] != use_case:
            continue
        if record["action"] == SUGGESTED or record["action"] in PROMOTED:
            latest, approved_by = record if record["action"] == SUGGESTED else None, None
        elif record["action"] == APPROVED and latest and record["details"]["cause"] == latest["details"]["cause"]:
            approved_by = record["actor"]
    if latest is None:
        return None
    return Suggestion(datetime.fromisoformat(latest["at"]), _response(latest), latest["details"]["alert"], approved_by)


def approve(use_case: str, found: Suggestion, settings: Settings) -> Approved:
    """Start what was suggested, in the name of who runs this; approved again, it is the same run."""
    response, by = found.response, found.approved_by
    if by is None:
        details = {
            "cause": response.cause,
            "parameters": dict(response.parameters),
            "suggested_at": found.at.isoformat(),
            "key": release_key(response.cause),
        }
        by = AuditLog(settings).append(APPROVED, use_case, details)["actor"]
    return Approved(by, ensure_release(use_case, response.cause, response.parameters, settings))


def would_say(use_case: str, training: Training, settings: Settings) -> Decision:
    """What the policy would say of an alert now. A use case whose events are few asks for fewer labels."""
    policy, enough = settings.retrain, training.watching.labels
    if enough is not None:
        policy = policy.model_copy(update={"labels": min(policy.labels, enough)})
    return decide(known_facts(use_case, training, settings), policy)


def _recorded(audit: AuditLog, use_case: str, cause: str) -> Response | None:
    """The last decision of that cause."""
    mine = (record for record in audit.records() if record["subject"] == use_case and record["action"] in _VERDICTS)
    found = [record for record in mine if record["details"]["cause"] == cause]
    return _response(found[-1]) if found else None


def _response(record: Mapping[str, Any]) -> Response:
    details = record["details"]
    verdict = _VERDICTS[record["action"]]
    return Response(details["cause"], verdict, tuple(details["reasons"]), details["parameters"])


def _judged(
    use_case: str, alert: Alert, training: Training, settings: Settings
) -> tuple[Decision, dict[str, Any], dict[str, Any] | None]:
    """The decision, the parameters of the release, and the last window of traffic that was watched."""
    decision = would_say(use_case, training, settings)
    with _database(settings) as engine:
        newest = LogReader(engine).latest(use_case)
        watched = WatchLog(engine).latest(use_case)
    parameters: dict[str, Any] = {"use_case": use_case, "cause": alert.cause(use_case)}
    if newest is not None:
        parameters["as_of"] = moment(newest.record.event_time).isoformat()
    if training.collected is not None:
        parameters["source"] = "log"
    return decision, parameters, _window(watched[0][1]) if watched else None


def _window(seen: Watched) -> dict[str, Any]:
    first, last = seen.first.isoformat(), seen.last.isoformat()
    about = {"version": seen.version, "state": seen.state, "rows": seen.rows, "reasons": list(seen.reasons)}
    return {"first": first, "last": last, **about}


@contextmanager
def _database(settings: Settings) -> Iterator[Engine]:
    engine = open_database(settings.log_url, settings.log.durable)
    try:
        yield engine
    finally:
        engine.dispose()
