"""Alertmanager: the configuration loads, routes by severity, and says one thing when one thing is wrong."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

CONFIG = Path(__file__).parents[2] / "infra" / "alertmanager" / "alertmanager.yml"


@pytest.fixture
def amtool() -> str:
    found = shutil.which("amtool")
    if not found:
        pytest.skip("amtool is not on the PATH")
    return found


@pytest.fixture
def alertmanager(tmp_path) -> Iterator[httpx.Client]:
    """A running Alertmanager with our configuration."""
    program = shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")
    if not program:
        pytest.skip("alertmanager is not on the PATH")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*probe.getsockname())
    command = [program, f"--config.file={CONFIG}", f"--storage.path={tmp_path}", "--cluster.listen-address="]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log) as process,
        httpx.Client(base_url=f"http://{address}", transport=httpx.HTTPTransport(retries=8)) as client,
    ):
        try:
            client.get("/-/ready").raise_for_status()
            yield client
        finally:
            process.kill()


def test_the_configuration_loads(amtool):
    done = subprocess.run([amtool, "check-config", str(CONFIG)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("severity", ["page", "ticket", "none"])
def test_every_alert_reaches_a_receiver(amtool, severity):
    command = [amtool, "config", "routes", "test", f"--config.file={CONFIG}", "--verify.receivers=ui"]
    done = subprocess.run([*command, f"severity={severity}"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_page_is_said_sooner_and_more_often_than_a_ticket():
    root = yaml.safe_load(CONFIG.read_text())["route"]
    page, ticket = ({**root, **route} for route in root["routes"])

    assert root["group_by"] == ["alertname", "use_case"]
    assert (page["matchers"], ticket["matchers"]) == (["severity = page"], ["severity = ticket"])
    assert (page["group_wait"], page["repeat_interval"]) == ("10s", "1h")
    assert (ticket["group_wait"], ticket["repeat_interval"]) == ("30s", "1d")


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


def _states(alertmanager: httpx.Client) -> dict[str, str]:
    found = alertmanager.get("/api/v2/alerts").json()
    return {alert["labels"]["alertname"]: alert["status"]["state"] for alert in found}
