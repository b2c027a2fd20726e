"""`POST /alerts` of the monitor over real sockets: what it starts and refuses, and that it starts nothing twice."""

import json
import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from wsgiref.simple_server import make_server

import httpx
import pytest
from prefect_runs import FakeRuns, running_prefect
from running import free_port

from orrery.adapters.orchestrator import Orchestrator
from orrery.settings import PrefectSettings, Settings
from services.monitor.__main__ import _Handler, _Server, application
from services.monitor.flows import Orchestration
from services.monitor.metrics import OUTCOMES, Monitor
from services.monitor.webhook import MOST_BYTES, Webhook

TOKEN = "a-token-of-this-test-that-nobody-else-knows"
CAUSE = "a/f1/2024-06-01T12:00:00.123456+00:00"


@dataclass
class Alerts:
    """A running monitor: its `/alerts`, its counters, its token's file."""

    monitor: Monitor
    settings: Settings
    now: float = 6_000.0
    http: httpx.Client = field(init=False)

    def post(self, content: object, token: str = TOKEN, **headers: str) -> httpx.Response:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.http.post("/alerts", content=body, headers={"Authorization": f"Bearer {token}", **headers})

    def counted(self) -> dict[str, float]:
        """What is not 0."""
        values = {
            outcome: self.monitor.registry.get_sample_value("alerts_received_total", {"outcome": outcome})
            for outcome in OUTCOMES
        }
        assert None not in values.values()
        return {outcome: value for outcome, value in values.items() if value}


@pytest.fixture
def prefect() -> Iterator[FakeRuns]:
    with running_prefect("respond/a", "respond/b") as fake:
        yield fake


@pytest.fixture
def alerts(settings: Settings, prefect: FakeRuns) -> Iterator[Alerts]:
    own = settings.model_copy(update={"prefect": PrefectSettings(url=prefect.url)})
    own.alerts_token.parent.mkdir(parents=True)
    own.alerts_token.write_text(f"{TOKEN}\n")
    monitor = Monitor(lambda: Orchestration((), 0, None), "pool")
    made = Alerts(monitor, own)
    with Orchestrator(own) as orchestrator:
        webhook = Webhook(orchestrator, own.alerts_token, monitor.alerts, lambda: made.now)
        server = make_server("127.0.0.1", 0, application(monitor.registry, webhook), _Server, _Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}", timeout=10) as made.http:
            yield made
        server.shutdown()
        server.server_close()


def alert(use_case: str = "a", fingerprint: str = "f1", status: str = "firing", **labels: str) -> dict:
    """As Alertmanager writes it, with Go's nanoseconds."""
    return {
        "status": status,
        "labels": {
            "alertname": "InputDrift",
            "severity": "ticket",
            "respond": "retrain",
            "use_case": use_case,
            **labels,
        },
        "annotations": {
            "summary": "Inputs of {{ a }} drift.",
            "runbook": "x",
            "first": "2024-05-30",
            "last": "2024-05-31",
        },
        "startsAt": "2024-06-01T14:00:00.123456789+02:00",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus",
        "fingerprint": fingerprint,
    }


def notification(*alerts: dict) -> dict:
    return {"version": "4", "groupKey": "{}", "receiver": "orrery", "status": "firing", "alerts": alerts}


def test_an_alert_makes_one_run_that_knows_of_it(alerts, prefect):
    answer = alerts.post(notification(alert()))

    assert (answer.status_code, answer.text) == (200, "forwarded\n")
    assert list(prefect.runs) == [("respond/a", CAUSE)]
    [run] = prefect.made("respond/a")
    assert run["parameters"] == {
        "use_case": "a",
        "alert": {
            "name": "InputDrift",
            "started_at": "2024-06-01T14:00:00.123456+02:00",
            "fingerprint": "f1",
            "severity": "ticket",
            "summary": "Inputs of {{ a }} drift.",
            "first": "2024-05-30",
            "last": "2024-05-31",
        },
    }
    assert alerts.counted() == {"forwarded": 1}


def test_said_again_it_starts_nothing(alerts, prefect):
    for _ in range(3):
        assert alerts.post(notification(alert())).status_code == 200
    assert len(prefect.runs) == 1
    assert alerts.counted() == {"forwarded": 1, "repeated": 2}

    another = alert() | {"startsAt": "2024-06-02T12:00:00Z"}
    alerts.post(notification(another))
    assert len(prefect.runs) == 2


def test_replicas_that_say_it_at_once_start_one(alerts, prefect):
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: alerts.post(notification(alert())), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(prefect.runs) == 1


def test_two_alerts_of_one_notification_are_each_handed_on(alerts, prefect):
    others = [alert("b", "f2"), alert("a", "f3"), alert("a", "f3")]
    assert alerts.post(notification(alert(), *others)).text == "forwarded, forwarded, forwarded, repeated\n"
    assert [name for name, _ in prefect.runs] == ["respond/a", "respond/b", "respond/a"]


def test_what_asks_for_nothing_starts_nothing(alerts, prefect):
    silent = alert()
    del silent["labels"]["use_case"]
    content = notification(alert(status="resolved"), alert(respond="page"), silent)
    assert alerts.post(content).status_code == 200
    assert alerts.post(notification()).text == "no alerts\n"
    assert prefect.asked == []
    assert alerts.counted() == {"ignored": 3}


@pytest.mark.parametrize(("state", "name"), [("COMPLETED", "Declined"), ("FAILED", "Failed"), ("CRASHED", "Crashed")])
def test_an_alert_that_started_nothing_is_thought_over_again_when_it_is_said_again_later(alerts, prefect, state, name):
    alerts.post(notification(alert()))
    prefect.made("respond/a")[0].update(state_type=state, state_name=name)
    said = []
    for seconds in (0, 300, 299, 3_600):
        alerts.now += seconds
        said.append(alerts.post(notification(alert())).text.strip())
    assert said == ["forwarded", "repeated", "repeated", "forwarded"]
    assert len({json.dumps(run["parameters"]) for run in prefect.made("respond/a")}) == 1


@pytest.mark.parametrize(
    ("state", "name"), [("COMPLETED", "Started"), ("CANCELLED", "Cancelled"), ("RUNNING", "Running")]
)
def test_an_alert_that_was_answered_is_not(alerts, prefect, state, name):
    alerts.post(notification(alert()))
    prefect.made("respond/a")[0].update(state_type=state, state_name=name)
    assert alerts.post(notification(alert())).text == "repeated\n"
    assert len(prefect.runs) == 1


@pytest.mark.parametrize(
    "header", ["Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer", "", "Bearer t\u00f6"]
)
def test_forged_alerts_are_refused_and_counted(alerts, prefect, caplog, header):
    with caplog.at_level(logging.INFO):
        answer = alerts.http.post(
            "/alerts", json=notification(alert()), headers={"Authorization": header.encode("latin-1")}
        )
    assert answer.status_code == 401
    assert prefect.asked == []
    assert alerts.counted() == {"forged": 1}
    assert TOKEN not in caplog.text + answer.text
    assert "wrong" not in caplog.text


def test_a_new_token_counts_at_once_and_none_lets_nobody_in(alerts, prefect):
    alerts.settings.alerts_token.write_text("another")
    assert alerts.post(notification(alert())).status_code == 401
    assert alerts.post(notification(alert()), token="another").status_code == 200
    for nothing in ("", " \n"):
        alerts.settings.alerts_token.write_text(nothing)
        assert alerts.post(notification(alert())).status_code == 503
    alerts.settings.alerts_token.unlink()
    assert alerts.post(notification(alert())).status_code == 503
    assert alerts.counted() == {"forged": 1, "forwarded": 1, "failed": 3}


@pytest.mark.parametrize("instead", [(503, b"{}"), (500, b""), (429, b"{}"), (200, b"<html>"), (200, b"[]")])
def test_while_prefect_is_away_it_is_to_be_sent_again(alerts, prefect, instead):
    prefect.instead = instead
    answer = alerts.post(notification(alert(), alert("b", "f2")))
    assert answer.status_code == 503
    assert answer.text.startswith("send it again: Prefect")
    prefect.instead = None
    assert alerts.post(notification(alert(), alert("b", "f2"))).text == "forwarded, forwarded\n"
    assert alerts.counted() == {"failed": 1, "forwarded": 2}


def test_a_prefect_that_is_dead_is_to_be_waited_for(alerts, settings):
    nowhere = settings.model_copy(update={"prefect": PrefectSettings(url=f"http://127.0.0.1:{free_port()}/api")})
    with Orchestrator(nowhere) as orchestrator:
        environ = {"REQUEST_METHOD": "POST", "HTTP_AUTHORIZATION": f"Bearer {TOKEN}"}
        body = json.dumps(notification(alert())).encode()
        said = []
        answer = Webhook(orchestrator, alerts.settings.alerts_token, alerts.monitor.alerts)(
            {**environ, "CONTENT_LENGTH": str(len(body)), "wsgi.input": BytesIO(body)},
            lambda status, headers: said.append(status),
        )
    assert said == ["503 Service Unavailable"]
    assert b"does not answer" in b"".join(answer)


@pytest.mark.parametrize("use_case", ["nothing", "../flows", "A", "", "a/b", "a" * 300])
def test_an_unknown_use_case_is_said_once_and_not_sent_for_ever(alerts, prefect, caplog, use_case):
    with caplog.at_level(logging.WARNING):
        answer = alerts.post(notification(alert(use_case), alert("b")))
    assert (answer.status_code, answer.text) == (200, "unknown, forwarded\n")
    assert len(caplog.records) == 1
    assert [name for name, _ in prefect.runs] == ["respond/b"]


def test_what_prefect_will_never_take_is_not_sent_for_ever(alerts, prefect):
    prefect.instead = (409, b'{"detail": "Error creating flow run: Validation failed"}')
    assert alerts.post(notification(alert())).text == "refused\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "the body: Invalid JSON"),
        (b"", "the body: Invalid JSON"),
        (b"[" * 100_000, "the body: "),
        (b"[]", "the body: "),
        (b"\xff\xfe", "the body: "),
        (notification() | {"version": "3"}, "version: "),
        ({"version": "4"}, "alerts: Field required"),
        (notification({"status": "firing"}), "alerts.0.labels: Field required"),
        (notification(alert() | {"startsAt": "yesterday"}), "alerts.0.startsAt: "),
        (notification(alert() | {"startsAt": "2024-06-01T12:00:00"}), "alerts.0.startsAt: "),
        (notification(alert() | {"labels": {"respond": {"__prefect_kind": "jinja"}}}), "alerts.0.labels.respond: "),
    ],
)
def test_what_is_no_notification_is_refused_with_the_reason(alerts, prefect, content, said):
    answer = alerts.post(content)
    assert answer.status_code == 400
    assert answer.text.startswith(f"this is no notification of Alertmanager's (version 4): {said}")
    assert prefect.asked == []
    assert alerts.counted() == {"refused": 1}


@pytest.mark.parametrize("size", [MOST_BYTES + 1, 3 * MOST_BYTES])
def test_a_body_too_large_is_refused_unread(alerts, prefect, size):
    answer = alerts.post(b" " * size)
    assert (answer.status_code, answer.text) == (413, "a notification has at most 262,144 bytes\n")
    assert alerts.counted() == {"refused": 1}
    padded = json.dumps(notification(alert())).encode().ljust(MOST_BYTES)
    assert alerts.post(padded).status_code == 200


def test_a_body_of_no_length_is_refused(alerts):
    def parts() -> Iterator[bytes]:
        yield b"{}"

    answer = alerts.http.post("/alerts", content=parts(), headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 411


def test_a_body_that_never_comes_holds_nobody_up(alerts, monkeypatch):
    monkeypatch.setattr(_Handler, "timeout", 0.2)
    with socket.create_connection((alerts.http.base_url.host, alerts.http.base_url.port)) as lazy:
        lazy.sendall(f"POST /alerts HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 9\r\n\r\n{{".encode())
        lazy.settimeout(5)
        assert lazy.recv(100).startswith(b"HTTP/1.0 408")


def test_only_post_is_for_alerts_and_the_rest_stays_as_it_is(alerts):
    answer = alerts.http.get("/alerts")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert alerts.http.post("/alert").status_code == 404
    assert alerts.http.get("/healthz").text == "ok\n"
    assert 'alerts_received_total{outcome="forged"} 0.0' in alerts.http.get("/metrics").text


def test_long_texts_are_cut(alerts, prefect):
    long = alert(alertname="x" * 2_000)
    long["annotations"] = {"summary": "y" * 2_000, "__prefect_kind": "jinja"}
    assert alerts.post(notification(long)).status_code == 200
    [run] = prefect.made("respond/a")
    assert {name: len(text) for name, text in run["parameters"]["alert"].items() if len(text) > 40} == {
        "name": 500, "summary": 500
    }  # fmt: skip
    assert "__prefect_kind" not in json.dumps(run)
