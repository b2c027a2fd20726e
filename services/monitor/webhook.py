"""`POST /alerts`: Alertmanager's word that an alert fires, handed to Prefect as a run of `respond`, once an alert."""

import hmac
import logging
import re
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from prometheus_client import Counter
from pydantic import AwareDatetime, BaseModel, ValidationError

from orrery.adapters.orchestrator import Orchestrator, OrchestratorUnavailable, RunRefused, UnknownDeployment
from orrery.retraining import Alert

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_log = logging.getLogger(__name__)
MOST_BYTES = 256 * 1_024
_READ_ANYWAY = 1_024 * 1_024
_LONGEST = 500
"""characters of a text that a run carries"""
_USE_CASE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_UNDECIDED = {"FAILED", "CRASHED"}
_THINK_AGAIN_SECONDS = 600
"""an alert that started nothing and is said again is decided anew, once in so long"""
_DECLINED = "Declined"
"""name of the state of a run that started nothing"""
Outcome = Literal["forwarded", "repeated", "ignored", "unknown", "forged", "refused", "failed"]


class _Alert(BaseModel):
    status: str
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    startsAt: AwareDatetime  # noqa: N815  Alertmanager's name
    fingerprint: str


class _Notification(BaseModel):
    version: Literal["4"]
    alerts: list[_Alert]


class _Refused(Exception):
    """A request that is answered with a status and a sentence."""

    def __init__(self, status: HTTPStatus, sentence: str, outcome: Outcome = "refused") -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.outcome = status, sentence, outcome


class Webhook:
    """The WSGI application of `/alerts`. Whoever sends must know the token; it is read anew each time."""

    def __init__(
        self,
        prefect: Orchestrator,
        token_file: Path,
        received: Counter,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._prefect, self._token_file, self._received, self._clock = prefect, token_file, received, clock

    def __call__(self, environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        try:
            outcomes = self._handle(environ, self._admit(environ))
            status, said = HTTPStatus.OK, ", ".join(outcomes) or "no alerts"
        except _Refused as refused:
            self._count(refused.outcome)
            status, said = refused.status, refused.sentence
            _log.warning("alerts: %d %s", status, said)
        headers = [("Content-Type", "text/plain; charset=utf-8")]
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("Allow", "POST"))
        start(f"{status.value} {status.phrase}", headers)
        return [f"{said}\n".encode()]

    def _admit(self, environ: "WSGIEnvironment") -> int:
        """How many bytes to read. Raises _Refused."""
        try:
            _only_post(environ)
            self._authenticate(environ.get("HTTP_AUTHORIZATION", ""))
            return _bounded(environ)
        except _Refused:
            _discard(environ)
            raise

    def _handle(self, environ: "WSGIEnvironment", length: int) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for alert in _notification(environ, length).alerts:
            outcomes.append(self._forward(alert))
            self._count(outcomes[-1])
        return outcomes

    def _authenticate(self, header: str) -> None:
        try:
            token = self._token_file.read_bytes().strip()
        except OSError:
            token = b""
        if not token:
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"there is no token in {self._token_file}", "failed")
        scheme, _, given = header.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token):
            raise _Refused(HTTPStatus.UNAUTHORIZED, "this is not the token that alerts are sent with", "forged")

    def _forward(self, alert: _Alert) -> Outcome:
        """Have Prefect make the run. Raises _Refused when it is to be sent again."""
        if alert.status != "firing" or alert.labels.get("respond") != "retrain" or "use_case" not in alert.labels:
            return "ignored"
        use_case = alert.labels["use_case"]
        if not _USE_CASE.fullmatch(use_case):
            _log.warning("an alert names %r, which is no use case", use_case[:_LONGEST])
            return "unknown"
        try:
            return self._run(use_case, _asking(alert))
        except UnknownDeployment as error:
            _log.warning("an alert of %s starts nothing: %s", use_case, error)
            return "unknown"
        except RunRefused as error:
            _log.warning("an alert of %s starts nothing: %s", use_case, error)
            return "refused"
        except OrchestratorUnavailable as error:
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"send it again: {error}", "failed") from error

    def _run(self, use_case: str, alert: Alert) -> Outcome:
        deployment, key = f"respond/{use_case}", alert.cause(use_case)
        parameters = {"use_case": use_case, "alert": alert.model_dump(mode="json")}
        made = self._prefect.start(deployment, parameters, key)
        if not made.fresh and (made.state in _UNDECIDED or made.name == _DECLINED):
            # it fires still, and has started nothing yet: by now there may be more labels
            again = int(self._clock() // _THINK_AGAIN_SECONDS)
            made = self._prefect.start(deployment, parameters, f"{key} again {again}")
        return "forwarded" if made.fresh else "repeated"

    def _count(self, outcome: Outcome) -> None:
        self._received.labels(outcome).inc()


def _asking(alert: _Alert) -> Alert:
    """What is handed on: known names only, since Prefect looks for templates in mappings."""
    said = {**alert.annotations, **alert.labels}
    texts = {name: said.get(name, "")[:_LONGEST] for name in ("severity", "summary", "first", "last")}
    name, fingerprint = (text[:_LONGEST] for text in (said.get("alertname", ""), alert.fingerprint))
    return Alert(name=name, started_at=alert.startsAt, fingerprint=fingerprint, **texts)


def _notification(environ: "WSGIEnvironment", length: int) -> _Notification:
    try:
        return _Notification.model_validate_json(environ["wsgi.input"].read(length))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        sentence = f"this is no notification of Alertmanager's (version 4): {where}: {first['msg']}"
        raise _Refused(HTTPStatus.BAD_REQUEST, sentence[:_LONGEST]) from error
    except OSError as error:
        raise _Refused(HTTPStatus.REQUEST_TIMEOUT, "the body did not come") from error


def _only_post(environ: "WSGIEnvironment") -> None:
    if environ["REQUEST_METHOD"] != "POST":
        raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, "alerts are sent by POST")


def _bounded(environ: "WSGIEnvironment") -> int:
    length = _length(environ)
    if length is None:
        raise _Refused(HTTPStatus.LENGTH_REQUIRED, "say how long the body is, by Content-Length")
    if length > MOST_BYTES:
        raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a notification has at most {MOST_BYTES:,} bytes")
    return length


def _length(environ: "WSGIEnvironment") -> int | None:
    text = environ.get("CONTENT_LENGTH") or ""
    return int(text) if re.fullmatch(r"[0-9]{1,12}", text) else None


def _discard(environ: "WSGIEnvironment") -> None:
    """Read what the client still sends, up to a point: it would not see the answer otherwise."""
    left = min(_length(environ) or 0, _READ_ANYWAY)
    with suppress(OSError):
        while left > 0 and (part := environ["wsgi.input"].read(min(left, 65_536))):
            left -= len(part)
