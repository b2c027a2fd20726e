"""Alertmanager: the configuration loads, routes by severity, and says one thing when one thing is wrong."""

import re
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from wsgiref.simple_server import make_server

import httpx
import pytest
import yaml
from prefect_runs import running_prefect
from servers import free_port

from cli.alerting import NoPager, write_alertmanager
from orrery.adapters.orchestrator import Orchestrator
from orrery.settings import AlertmanagerSettings, MonitorSettings, PrefectSettings, Settings, child_environment
from services.monitor.__main__ import _Handler, _Server, application
from services.monitor.flows import Orchestration
from services.monitor.metrics import Monitor
from services.monitor.webhook import Webhook

CONFIG = Path(__file__).parents[2] / "infra" / "alertmanager" / "alertmanager.yml"


@pytest.fixture
def amtool() -> str:
    found = shutil.which("amtool")
    if not found:
        pytest.skip("amtool is not on the PATH")
    return found


@contextmanager
def running(config: Path, folder: Path) -> Iterator[httpx.Client]:
    """A running Alertmanager."""
    program = shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")
    if not program:
        pytest.skip("alertmanager is not on the PATH")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*probe.getsockname())
    command = [program, f"--config.file={config}", f"--storage.path={folder}", "--cluster.listen-address="]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log) as process,
        httpx.Client(base_url=f"http://{address}", transport=httpx.HTTPTransport(retries=8)) as client,
    ):
        try:
            client.get("/-/ready").raise_for_status()
            yield client
        finally:
            process.kill()


@pytest.fixture
def alertmanager(tmp_path) -> Iterator[httpx.Client]:
    """A running Alertmanager with our configuration."""
    with running(CONFIG, tmp_path) as client:
        yield client


def test_the_configuration_loads(amtool):
    done = subprocess.run([amtool, "check-config", str(CONFIG)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("severity", ["page", "ticket", "none"])
@pytest.mark.parametrize(("respond", "receivers"), [([], "ui"), (["respond=retrain"], "orrery,ui")])
def test_every_alert_reaches_people_and_one_that_asks_for_a_retraining_the_monitor_too(
    amtool, severity, respond, receivers
):
    command = [amtool, "config", "routes", "test", f"--config.file={CONFIG}", f"--verify.receivers={receivers}"]
    labels = [f"severity={severity}", *respond]
    done = subprocess.run([*command, *labels], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_retraining_is_asked_for_at_once_and_again_each_hour():
    root = yaml.safe_load(CONFIG.read_text())["route"]
    retrain = {**root, **root["routes"][0]}

    assert (retrain["matchers"], retrain["receiver"]) == (["respond = retrain"], "orrery")
    assert retrain["continue"] is True
    assert (retrain["group_wait"], retrain["repeat_interval"]) == ("5s", "1h")


def test_a_page_is_said_sooner_and_more_often_than_a_ticket():
    root = yaml.safe_load(CONFIG.read_text())["route"]
    _, page, ticket, _ = ({**root, **route} for route in root["routes"])

    assert root["group_by"] == ["alertname", "use_case"]
    assert (page["matchers"], ticket["matchers"]) == (["severity = page"], ["severity = ticket"])
    assert (page["group_wait"], page["repeat_interval"]) == ("10s", "1h")
    assert (ticket["group_wait"], ticket["repeat_interval"]) == ("30s", "1d")


def test_the_configuration_of_orrery_up_has_our_address_and_a_token_for_its_owner(amtool, settings: Settings):
    settings = settings.model_copy(update={"monitor": MonitorSettings(port=8123)})
    write_alertmanager(settings)
    written = settings.home / "alertmanager" / "alertmanager.yml"
    done = subprocess.run([amtool, "check-config", str(written)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    content = yaml.safe_load(written.read_text())
    assert content["route"] == yaml.safe_load(CONFIG.read_text())["route"]
    [hook] = next(each for each in content["receivers"] if each["name"] == "orrery")["webhook_configs"]
    assert hook["url"] == "http://127.0.0.1:8123/alerts"
    token = Path(hook["http_config"]["authorization"]["credentials_file"])
    assert token == settings.alerts_token == settings.home / "secrets" / "alerts.token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    known = token.read_text()
    assert len(known) >= 32
    assert known not in written.read_text()

    write_alertmanager(settings)
    assert token.read_text() == known
    token.write_text("\n")  # a first start that was cut off
    write_alertmanager(settings)
    assert len(token.read_text()) >= 32


def test_people_are_told_at_the_webhook_of_a_file(amtool, settings: Settings, tmp_path):
    file = tmp_path / "pager"
    settings = settings.model_copy(update={"alertmanager": AlertmanagerSettings(pager_file=str(file))})
    for content in (None, "", "ftp://x", "\n"):
        if content is not None:
            file.write_text(content)
        with pytest.raises(NoPager, match="ORRERY_ALERTMANAGER__PAGER_FILE"):
            write_alertmanager(settings)
    file.write_text("https://hooks.example/secret\n")
    write_alertmanager(settings)
    written = settings.home / "alertmanager" / "alertmanager.yml"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    people = {each["name"]: each for each in yaml.safe_load(written.read_text())["receivers"]}["ui"]
    assert people == {"name": "ui", "webhook_configs": [{"url": "https://hooks.example/secret"}]}
    done = subprocess.run([amtool, "check-config", str(written)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_gateway_that_is_down_says_so_once(alertmanager):
    labels = [
        {"alertname": "GatewayDown", "severity": "page", "job": "gateway"},
        {"alertname": "PredictionsDegraded", "severity": "page", "use_case": "a"},
        {"alertname": "WorkerDown", "severity": "ticket", "pool": "p"},
    ]
    alertmanager.post("/api/v2/alerts", json=[{"labels": each} for each in labels]).raise_for_status()

    expected = {"GatewayDown": "active", "PredictionsDegraded": "suppressed", "WorkerDown": "active"}
    deadline = time.monotonic() + 30
    while (seen := _states(alertmanager)) != expected:
        assert time.monotonic() < deadline, seen
        time.sleep(0.2)


def test_an_alert_becomes_a_run_of_prefect_although_prefect_is_away_at_first(settings: Settings, tmp_path):
    labels = {"alertname": "DriftSustained", "severity": "ticket", "use_case": "a"}
    with (
        running_prefect("respond/a") as prefect,
        Orchestrator(settings.model_copy(update={"prefect": PrefectSettings(url=prefect.url)})) as orchestrator,
    ):
        prefect.instead = (503, b"{}")
        received = Monitor(lambda: Orchestration((), 0, None), "pool")
        webhook = Webhook(orchestrator, settings.alerts_token, received.alerts)
        server = make_server("127.0.0.1", 0, application(received.registry, webhook), _Server, _Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        write_alertmanager(settings.model_copy(update={"monitor": MonitorSettings(port=server.server_port)}))
        config = settings.home / "alertmanager" / "alertmanager.yml"
        config.write_text(config.read_text().replace("group_wait: 5s", "group_wait: 0s"))
        with running(config, tmp_path) as alertmanager:
            told = [{"labels": labels | {"respond": "retrain"}}, {"labels": labels}]
            alertmanager.post("/api/v2/alerts", json=told).raise_for_status()
            _wait(lambda: _count(received, "failed"))
            prefect.instead = None
            _wait(lambda: prefect.runs)
        server.shutdown()
        server.server_close()
    [run] = prefect.made("respond/a")
    assert run["parameters"]["alert"]["name"] == "DriftSustained"
    assert _count(received, "forwarded") == 1
    assert _count(received, "forged") == 0


KILLS = [("asked", "name/respond/a"), ("asked", "/create_flow_run"), ("done", "/create_flow_run"),
         ("answered", "/create_flow_run")]  # fmt: skip


@pytest.mark.parametrize(("moment", "path"), KILLS)
def test_a_monitor_killed_at_any_moment_loses_no_alert_and_starts_nothing_twice(
    settings: Settings, tmp_path, moment, path
):
    """SIGKILL between Alertmanager's word and Prefect's; once the monitor is back, Alertmanager says it again."""
    killed = threading.Event()
    with running_prefect("respond/a") as prefect:
        where = MonitorSettings(port=free_port())
        own = settings.model_copy(update={"prefect": PrefectSettings(url=prefect.url), "monitor": where})
        write_alertmanager(own)
        config = own.home / "alertmanager" / "alertmanager.yml"
        config.write_text(config.read_text().replace("group_wait: 5s", "group_wait: 0s"))
        with running(config, tmp_path) as alertmanager, monitor_process(own) as first:

            def kill(at: str, asked: str) -> None:
                if (at, killed.is_set()) == (moment, False) and asked.endswith(path):
                    first.kill()
                    first.wait()
                    killed.set()

            prefect.at = kill
            labels = {"alertname": "DriftSustained", "severity": "ticket", "use_case": "a", "respond": "retrain"}
            alertmanager.post("/api/v2/alerts", json=[{"labels": labels}]).raise_for_status()
            assert killed.wait(30)
            _wait(lambda: _notifications(alertmanager, "failed") > 0 or prefect.runs)
            with monitor_process(own):
                _wait(
                    lambda: (
                        prefect.runs and _notifications(alertmanager, "sent") > _notifications(alertmanager, "failed")
                    )
                )
    assert len(prefect.made("respond/a")) == 1


@contextmanager
def monitor_process(settings: Settings) -> Iterator["subprocess.Popen[bytes]"]:
    """The monitor as a process of its own, once it answers."""
    with subprocess.Popen([sys.executable, "-m", "services.monitor"], env=child_environment(settings, {})) as process:
        try:
            with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:
                client.get(f"{settings.monitor_url}/healthz").raise_for_status()
            yield process
        finally:
            process.kill()


def _notifications(alertmanager: httpx.Client, outcome: str) -> float:
    """Of those to webhooks: how often Alertmanager tried (`sent`), or gave one up for the moment (`failed`)."""
    name = {"sent": "requests", "failed": "requests_failed"}[outcome]
    said = alertmanager.get("/metrics").text
    found = re.search(rf'^alertmanager_notification_{name}_total{{integration="webhook"}} (\d+)', said, re.M)
    return float(found[1]) if found else 0.0


def _count(monitor: Monitor, outcome: str) -> float:
    return monitor.registry.get_sample_value("alerts_received_total", {"outcome": outcome}) or 0.0


def _wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def _states(alertmanager: httpx.Client) -> dict[str, str]:
    found = alertmanager.get("/api/v2/alerts").json()
    return {alert["labels"]["alertname"]: alert["status"]["state"] for alert in found}
