"""The monitor: what it shows of Prefect, and what it does while Prefect is away."""

import json
import logging
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import NAMESPACE_DNS, uuid5

import httpx
import pytest
from prefect_api import prefect_client
from running import ROOT, eventually, free_port

from orrery.adapters.database import open_database
from orrery.adapters.watch_log import WatchLog
from orrery.settings import MonitorSettings, PrefectSettings, Settings, child_environment
from orrery.watching import ColumnDrift, Watched
from services.monitor.flows import Prefect
from services.monitor.metrics import Monitor

START = datetime.now(UTC)


def identity(name: str) -> str:
    return str(uuid5(NAMESPACE_DNS, name))


@dataclass
class FakePrefect:
    """The few calls of Prefect's REST API that the monitor makes."""

    deployments: dict[str, dict[str, int]] = field(default_factory=dict)
    """`flow/use_case` -> state's name -> runs"""
    running: dict[str, datetime] = field(default_factory=dict)
    succeeded: dict[str, datetime] = field(default_factory=dict)
    failed: dict[str, datetime] = field(default_factory=dict)
    workers: list[dict[str, object]] | None = field(default_factory=list)
    """None: there is no pool"""
    instead: tuple[int, bytes] | None = None
    """what is answered to everything"""
    hangs: bool = False
    asked: int = 0

    def answer(self, path: str, body: dict) -> tuple[int, bytes]:
        self.asked += 1
        if self.hangs:
            time.sleep(30)
        if self.instead:
            return self.instead
        if path.startswith("/api/work_pools/") and self.workers is None:
            return 404, b'{"detail": "Work pool \\"orrery\\" not found"}'
        rows = self._rows(path, body)
        return 200, json.dumps(rows[body.get("offset", 0) :][: body.get("limit", 200)]).encode()

    def _rows(self, path: str, body: dict) -> list:
        if path == "/api/flows/filter":
            flows = dict.fromkeys(name.partition("/")[0] for name in self.deployments)
            return [{"id": identity(flow), "name": flow, "tags": []} for flow in flows]
        if path == "/api/deployments/filter":
            split = [(name, *name.split("/")) for name in self.deployments]
            return [{"id": identity(name), "name": own, "flow_id": identity(flow)} for name, flow, own in split]
        if path == "/api/work_pools/orrery/workers/filter":
            return self.workers or []
        wanted = body["flow_runs"].get("deployment_id", {}).get("any_")
        if path == "/api/flow_runs/history":
            [counts] = [runs for name, runs in self.deployments.items() if [identity(name)] == wanted]
            return [{"states": [{"state_name": name, "count_runs": count} for name, count in counts.items()]}]
        assert path == "/api/flow_runs/filter"
        moments = {
            ("RUNNING",): self.running, ("COMPLETED",): self.succeeded, ("FAILED", "CRASHED"): self.failed
        }[tuple(body["flow_runs"]["state"]["type"]["any_"])]  # fmt: skip
        return [
            {"deployment_id": identity(name), "start_time": at.isoformat(), "end_time": at.isoformat()}
            for name, at in moments.items()
            if wanted is None or wanted == [identity(name)]
        ]


@pytest.fixture
def prefect() -> Iterator[FakePrefect]:
    """A Prefect with one deployment, over a real socket; its address is `.url`."""
    fake = FakePrefect({"release/a": {"Promoted": 2, "Refused": 1, "Late": 1}})

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, content = fake.answer(self.path, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    fake.url = f"http://127.0.0.1:{server.server_port}/api"  # type: ignore[attr-defined]
    yield fake
    server.shutdown()
    server.server_close()


@pytest.fixture
def configured(settings: Settings, prefect: FakePrefect) -> Settings:
    """Settings of a monitor that asks the fake often."""
    own = MonitorSettings(port=free_port(), poll_seconds=0.05)
    return settings.model_copy(update={"prefect": PrefectSettings(url=prefect.url), "monitor": own})


@pytest.fixture
def monitor(configured: Settings) -> Iterator[Monitor]:
    """A monitor that looks when the test tells it to."""
    with Prefect(configured) as asked:
        yield Monitor(asked.look, configured.prefect.pool)


def shown(monitor: Monitor, name: str, **labels: str) -> float | None:
    return monitor.registry.get_sample_value(name, labels)


def test_runs_are_counted_by_state_of_each_deployment(monitor, prefect):
    prefect.deployments["materialize/b"] = {"Completed": 7}
    prefect.succeeded["release/a"] = START
    prefect.failed["materialize/b"] = START
    monitor.poll()

    assert shown(monitor, "flow_runs", flow="release", use_case="a", state="Promoted") == 2
    assert shown(monitor, "flow_runs", flow="release", use_case="a", state="Late") == 1
    assert shown(monitor, "flow_runs", flow="materialize", use_case="b", state="Completed") == 7
    success = "flow_run_last_success_timestamp_seconds"
    assert shown(monitor, success, flow="release", use_case="a") == pytest.approx(START.timestamp())
    assert shown(monitor, success, flow="materialize", use_case="b") is None
    failure = "flow_run_last_failure_timestamp_seconds"
    assert shown(monitor, failure, flow="materialize", use_case="b") == pytest.approx(START.timestamp())
    assert shown(monitor, failure, flow="release", use_case="a") is None
    assert shown(monitor, "monitor_last_success_timestamp_seconds") == pytest.approx(time.time(), abs=5)
    assert shown(monitor, "monitor_errors_total", dep="prefect") == 0


def test_the_oldest_running_run_has_an_age(monitor, prefect):
    monitor.poll()
    assert shown(monitor, "flow_run_running_seconds", flow="release", use_case="a") == 0

    prefect.running["release/a"] = datetime.now(UTC) - timedelta(hours=3)
    monitor.poll()
    age = shown(monitor, "flow_run_running_seconds", flow="release", use_case="a")
    assert age == pytest.approx(3 * 3600, abs=5)


def test_the_newest_heartbeat_counts_and_only_workers_online(monitor, prefect):
    old = START - timedelta(days=1)
    prefect.workers = [
        {"status": "OFFLINE", "last_heartbeat_time": old.isoformat()},
        {"status": "ONLINE", "last_heartbeat_time": START.isoformat()},
        {"status": "OFFLINE", "last_heartbeat_time": None},
    ]
    monitor.poll()

    assert shown(monitor, "flow_workers_online", pool="orrery") == 1
    heartbeat = shown(monitor, "flow_worker_last_heartbeat_timestamp_seconds", pool="orrery")
    assert heartbeat == pytest.approx(START.timestamp())


def test_a_pool_that_no_worker_has_made_yet_has_none(monitor, prefect):
    prefect.workers = None
    monitor.poll()

    assert shown(monitor, "flow_workers_online", pool="orrery") == 0
    assert shown(monitor, "flow_worker_last_heartbeat_timestamp_seconds", pool="orrery") is None
    assert shown(monitor, "monitor_errors_total", dep="prefect") == 0


def test_the_series_of_a_deployment_go_with_it(monitor, prefect):
    monitor.poll()
    prefect.deployments = {"release/b": {}}
    monitor.poll()

    deployed = {
        sample.labels["use_case"]
        for family in monitor.registry.collect()
        for sample in family.samples
        if "use_case" in sample.labels
    }
    assert deployed == {"b"}


def test_more_deployments_than_prefect_gives_at_once_are_all_there(monitor, prefect):
    prefect.deployments = {f"release/u{number}": {"Completed": 1} for number in range(401)}
    monitor.poll()

    assert shown(monitor, "flow_runs", flow="release", use_case="u400", state="Completed") == 1


@pytest.mark.parametrize("instead", [(503, b"{}"), (404, b"{}"), (200, b"<html>"), (200, b'[{"id": 1}]')])
def test_without_an_answer_the_last_one_is_shown_and_its_age_told(monitor, prefect, caplog, instead):
    monitor.poll()
    before = shown(monitor, "monitor_last_success_timestamp_seconds")
    prefect.instead = instead
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            monitor.poll()

        assert shown(monitor, "monitor_errors_total", dep="prefect") == 3
        assert shown(monitor, "monitor_last_success_timestamp_seconds") == before
        assert shown(monitor, "flow_runs", flow="release", use_case="a", state="Promoted") == 2
        assert len([line for line in caplog.messages if "what was last seen is shown" in line]) == 1

        prefect.instead = None
        monitor.poll()
        monitor.poll()
    assert shown(monitor, "monitor_last_success_timestamp_seconds") > before
    assert caplog.messages.count("Prefect answers again") == 1


def test_before_the_first_answer_nothing_is_claimed(configured):
    nowhere = configured.model_copy(update={"prefect": PrefectSettings(url=f"http://127.0.0.1:{free_port()}/api")})
    with Prefect(nowhere) as prefect:
        monitor = Monitor(prefect.look, "orrery")
        monitor.poll()

    assert shown(monitor, "monitor_errors_total", dep="prefect") == 1
    assert shown(monitor, "monitor_last_success_timestamp_seconds") is None
    assert shown(monitor, "flow_workers_online", pool="orrery") is None


@pytest.fixture
def process(configured: Settings, tmp_path) -> Iterator[subprocess.Popen[bytes]]:
    """A monitor as a process of its own."""
    with (tmp_path / "monitor.log").open("wb") as output:
        started = subprocess.Popen(
            [sys.executable, "-m", "services.monitor"],
            cwd=ROOT,
            env=child_environment(configured, {}),
            stdout=output,
            stderr=output,
        )
    yield started
    started.kill()
    started.wait()


def page(configured: Settings, path: str) -> httpx.Response | None:
    try:
        return httpx.get(f"{configured.monitor_url}{path}")
    except httpx.TransportError:
        return None


def test_the_process_serves_and_stops_when_it_is_asked_to(process, configured):
    eventually(lambda: (answer := page(configured, "/metrics")) and 'state="Promoted"' in answer.text)
    assert page(configured, "/healthz").text == "ok\n"
    assert page(configured, "/nothing").status_code == 404
    assert "process_resident_memory_bytes" in page(configured, "/metrics").text

    process.send_signal(signal.SIGTERM)
    assert process.wait(2) == 0


def test_the_process_shows_what_the_watch_has_found_and_keeps_it_when_it_can_no_longer_be_read(process, configured):
    engine = open_database(configured.log_url, durable=False)
    hour = timedelta(hours=1)
    column = ColumnDrift("amount", psi=0.3, threshold=0.1, missing=0.02, outside=0.01, importance=0.8)
    found = Watched("a", START - hour, START, "1", "drift", rows=5_000, degraded=3, inputs=(column,), sustained=True)
    WatchLog(engine).write(found, START)
    expected = 'drift_score{feature="amount",method="psi_ref_bins",use_case="a"} 0.3\n'
    eventually(lambda: (answer := page(configured, "/metrics")) and expected in answer.text)
    assert 'drift_sustained{use_case="a"} 1.0\n' in page(configured, "/metrics").text

    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE watched_windows SET found = '{}'")
    failures = re.compile(r'monitor_errors_total{dep="log"} [1-9]')
    eventually(lambda: failures.search(page(configured, "/metrics").text))
    assert expected in page(configured, "/metrics").text
    engine.dispose()


def test_the_process_answers_and_stops_while_prefect_hangs(process, configured, prefect, tmp_path):
    prefect.hangs = True
    eventually(lambda: prefect.asked and page(configured, "/healthz"))
    assert page(configured, "/metrics").status_code == 200

    process.send_signal(signal.SIGTERM)
    assert process.wait(2) == 0


def test_what_the_process_logs_are_json_lines(process, configured, prefect, tmp_path):
    prefect.instead = (503, b"")
    several = re.compile(r'dep="prefect"} ([5-9]|\d\d+)\.0')
    eventually(lambda: (answer := page(configured, "/metrics")) and several.search(answer.text))
    [line] = (tmp_path / "monitor.log").read_text().splitlines()

    assert json.loads(line)["level"] == "WARNING"


def test_the_monitor_is_light():
    heavy = "{'prefect', 'mlflow', 'fastapi', 'numpy', 'pandas'}"
    code = f"import sys, services.monitor.__main__; sys.exit(str({heavy} & set(sys.modules) or ''))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.stderr.strip() == ""


@pytest.mark.slow
def test_a_real_prefect_is_understood(configured):
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        with prefect_test_harness(server_startup_timeout=120):
            url = PREFECT_API_URL.value()
            with Prefect(configured.model_copy(update={"prefect": PrefectSettings(url=url)})) as prefect:
                monitor = Monitor(prefect.look, "orrery")
                monitor.poll()
                assert shown(monitor, "flow_workers_online", pool="orrery") == 0
                _make_history(url)
                monitor.poll()

    release = {"flow": "release", "use_case": "a"}
    assert shown(monitor, "flow_runs", **release, state="Promoted") == 1
    assert shown(monitor, "flow_runs", **release, state="Running") == 1
    assert shown(monitor, "flow_run_last_success_timestamp_seconds", **release) == pytest.approx(time.time(), abs=60)
    assert shown(monitor, "flow_run_last_failure_timestamp_seconds", **release) == pytest.approx(time.time(), abs=60)
    assert 0 < shown(monitor, "flow_run_running_seconds", **release) < 60
    assert shown(monitor, "flow_workers_online", pool="orrery") == 1
    heartbeat = shown(monitor, "flow_worker_last_heartbeat_timestamp_seconds", pool="orrery")
    assert heartbeat == pytest.approx(time.time(), abs=60)
    assert shown(monitor, "monitor_errors_total", dep="prefect") == 0


def _make_history(url: str) -> None:
    """One run promoted, two ended without a verdict, one running, and one worker."""
    with prefect_client(url) as http:

        def post(path: str, **body: object) -> dict:
            answer = http.post(path, json=body)
            return answer.json() if answer.content else {}

        post("/work_pools/", name="orrery", type="process")
        post("/work_pools/orrery/workers/heartbeat", name="local")
        deployment = post("/deployments/", name="a", flow_id=post("/flows/", name="release")["id"])["id"]
        ends = [("COMPLETED", "Promoted"), ("FAILED", "Failed"), ("CRASHED", "Crashed"), ("RUNNING", "Running")]
        for last in ({"type": kind, "name": name} for kind, name in ends):
            run = post(f"/deployments/{deployment}/create_flow_run")["id"]
            for state in ({"type": "PENDING", "name": "Pending"}, {"type": "RUNNING", "name": "Running"}, last):
                post(f"/flow_runs/{run}/set_state", state=state)
