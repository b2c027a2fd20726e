"""The platform on this machine: what it runs, how it starts, stops, and mends itself."""

import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import usecases
from cli import platform
from cli.platform import PortInUse, RunsElsewhere, ServiceFailed, SettingsChanged, bring_up, healthy, manager, start
from cli.services import AlertmanagerMissing, PrometheusMissing, Service, TorchserveMissing, here, services
from cli.supervisor import ProcessManagerFailed, Supervisor, port_free
from cli.supervisor_config import NotConfigurable, config
from orrery import torchserve_settings
from orrery.settings import (
    AlertmanagerSettings,
    GatewaySettings,
    MlflowSettings,
    PrometheusSettings,
    Settings,
    child_environment,
    variables,
)
from orrery.torchserve_settings import TorchserveSettings


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def configured() -> Iterator[Settings]:
    """Settings with a home whose path is short enough for a socket; whatever runs there is stopped afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="orrery-"))
    yield Settings(home=folder)
    supervisor = Supervisor(folder)
    if supervisor.alive():
        supervisor.stop(20)
    supervisor.heal()
    shutil.rmtree(folder)


@pytest.fixture
def trivial() -> tuple[Service, ...]:
    """Two web servers, the second after the first."""

    def server(name: str, port: int, after: tuple[str, ...]) -> Service:
        command = (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1")
        health = f"http://127.0.0.1:{port}/pyproject.toml"
        return Service(
            name, "files", command, health, {"SIGN": f"100 % {name}"}, "[project]", "", "127.0.0.1", port, "X", after
        )

    return server("one", _free_port(), ()), server("two", _free_port(), ("one",))


def _processes(supervisor: Supervisor) -> list[psutil.Process]:
    return [psutil.Process(state.pid) for state in supervisor.states().values() if state.pid]


def test_every_port_is_a_setting(settings):
    known = {name: default for name, default, _ in variables()}
    table = here(settings)

    assert len({service.name for service in table}) == len(table)
    for service in table:
        assert set(service.after) < {other.name for other in table}
        assert service.health.startswith("http")
        if service.port:
            assert known[service.setting] == service.port
            assert f":{service.port}" in service.health
            ours = service.command[-1].startswith("services.")
            assert ours or any(str(service.port) in part for part in service.command)


def test_what_runs_elsewhere_is_not_started(home):
    elsewhere = Settings(
        mlflow=MlflowSettings(url="http://catalogue:5000"),
        gateway=GatewaySettings(url="http://gateway:8000"),
        prometheus=PrometheusSettings(enabled="never"),
        alertmanager=AlertmanagerSettings(enabled="never"),
        torchserve=TorchserveSettings(enabled="never"),
    )
    assert [service.name for service in here(elsewhere)] == ["prefect", "worker", "monitor"]
    assert elsewhere.embedded


def test_where_all_runs_elsewhere_nothing_is_started_and_all_is_shown(home):
    opened = ("mlflow", "gateway", "prometheus", "alertmanager", "grafana")
    urls = {name: {"url": f"http://{name}:1"} for name in (*opened, "monitor", "torchserve")}
    for number, name in enumerate(opened):
        urls[name]["public_url"] = f"http://127.0.0.1:{number}"
    containers = Settings.model_validate({**urls, "prefect": {"url": "http://prefect:4200/api"}})
    table = services(containers)

    assert here(containers) == ()
    assert {service.name for service in table} == {*urls, "prefect", "worker"}
    assert {service.url for service in table} >= {"http://127.0.0.1:0", "http://prefect:4200", "http://127.0.0.1:4"}
    with pytest.raises(RunsElsewhere, match="elsewhere"):
        start(containers)


def test_prometheus_that_must_be_there(home, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(PrometheusMissing, match="PATH"):
        services(Settings(prometheus=PrometheusSettings(enabled="always")))
    assert "prometheus" not in {service.name for service in services(Settings())}


def test_alertmanager_that_must_be_there(home, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(AlertmanagerMissing, match="PATH"):
        services(Settings(alertmanager=AlertmanagerSettings(enabled="always")))
    assert "alertmanager" not in {service.name for service in services(Settings())}


@pytest.mark.parametrize("program", ["alertmanager", "prometheus-alertmanager"])
def test_alertmanager_runs_where_it_is_found_by_either_name(home, monkeypatch, program):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name == program else None)
    [found] = [service for service in here(Settings()) if service.name == "alertmanager"]
    assert found.command[0] == f"/usr/bin/{program}"
    assert "--cluster.listen-address=" in found.command
    never = Settings(alertmanager=AlertmanagerSettings(enabled="never"))
    assert "alertmanager" not in {service.name for service in services(never)}


@pytest.mark.parametrize(
    ("changed", "there"),
    [
        ({"torchserve": {"enabled": "always"}}, True),
        ({"torchserve": {"enabled": "never"}}, False),
        ({"torchserve": {"enabled": "never", "url": "http://torchserve:7080"}}, True),
        ({}, True),
        ({"gateway": {"model_server": "in_process"}}, False),
    ],
)
def test_torchserve_runs_when_a_use_case_asks_for_it(home, monkeypatch, changed, there):
    asking = SimpleNamespace(runtime="model_server")
    monkeypatch.setattr(usecases, "serving", lambda name: asking)
    assert ("torchserve" in {service.name for service in services(Settings.model_validate(changed))}) is there
    asking.runtime = "in_process"
    explicit = "torchserve" in changed
    found = {service.name for service in services(Settings.model_validate(changed))}
    assert ("torchserve" in found) is (there and explicit)


def test_torchserve_that_must_be_there(home, monkeypatch):
    monkeypatch.setattr(torchserve_settings, "find_spec", lambda name: None)
    with pytest.raises(TorchserveMissing, match="make setup"):
        services(Settings.model_validate({"torchserve": {"enabled": "always"}}))
    assert "torchserve" not in {service.name for service in services(Settings())}


@pytest.mark.slow
def test_torchserve_is_a_service_that_ends_whole(configured):
    ports = {name: _free_port() for name in ("port", "management_port", "metrics_port")}
    asked = Settings.model_validate({"home": configured.home, "torchserve": {"enabled": "always", **ports}})
    table = tuple(service for service in here(asked) if service.name == "torchserve")
    supervisor = manager(asked, table)
    bring_up(table, supervisor)
    (server,) = _processes(supervisor)
    processes = [server, *server.children(recursive=True)]

    assert server.name() == "java"
    assert server.cwd() == str(configured.home / "torchserve")
    supervisor.stop(20)
    assert not any(process.is_running() for process in processes)
    assert "Model server started" in (configured.home / "logs" / "torchserve.log").read_text()


def test_children_get_every_setting_and_absolute_folders(home):
    environment = child_environment(Settings(home=Path("somewhere")), {"EXTRA": "1"})

    assert environment["ORRERY_HOME"] == str(Path("somewhere").absolute())
    assert environment["ORRERY_DATA__ROOT"] == str(Path("somewhere/data").absolute())
    assert {name for name, _, _ in variables()} <= set(environment)
    assert environment["EXTRA"] == "1"


def test_the_configuration_changes_with_the_settings(trivial, tmp_path):
    one = config(trivial, tmp_path, {"ORRERY_X": "1", "OTHER": "1"}, tmp_path)

    assert config(trivial, tmp_path, {"ORRERY_X": "1", "OTHER": "2"}, tmp_path) == one
    assert config(trivial, tmp_path, {"ORRERY_X": "2"}, tmp_path) != one
    with pytest.raises(NotConfigurable, match="quotes"):
        config(trivial, Path('/a"b'), {}, tmp_path)


def test_a_port_in_use_is_named_before_anything_starts(configured, trivial):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", trivial[1].port))
        taken.listen()
        assert not port_free("127.0.0.1", trivial[1].port)
        with pytest.raises(PortInUse, match=rf"{trivial[1].port} .* two .* X"):
            manager(configured, trivial)
    assert not Supervisor(configured.home).alive()


def test_a_home_too_deep_for_a_socket(trivial, tmp_path):
    with pytest.raises(ProcessManagerFailed, match="shorter ORRERY_HOME"):
        manager(Settings(home=tmp_path / ("deep" * 30)), trivial)


def test_up_twice_and_down(configured, trivial, capfd):
    supervisor = manager(configured, trivial)
    bring_up(trivial, supervisor)
    processes = _processes(supervisor)

    assert all(healthy(service) for service in trivial)
    assert processes[0].environ()["SIGN"] == "100 % one"
    assert processes[0].environ()["ORRERY_HOME"] == str(configured.home)

    bring_up(trivial, manager(configured, trivial))
    assert "already running: one, two" in capfd.readouterr().err
    assert _processes(supervisor) == processes

    other = Settings(home=configured.home, environment="another")
    with pytest.raises(SettingsChanged, match="orrery down"):
        manager(other, trivial)

    supervisor.stop(20)
    assert not supervisor.alive()
    assert not any(process.is_running() for process in processes)
    assert list((configured.home / "logs").glob("*.log"))


def test_a_killed_service_comes_back(configured, trivial):
    supervisor = manager(configured, trivial)
    bring_up(trivial, supervisor)
    first = supervisor.states()["one"].pid
    process = psutil.Process(first)
    process.kill()
    psutil.wait_procs([process], timeout=5)
    bring_up(trivial, supervisor)

    assert supervisor.states()["one"].pid != first


def test_what_a_killed_supervisor_left_is_cleared_away(configured, trivial):
    supervisor = manager(configured, trivial)
    bring_up(trivial, supervisor)
    left = _processes(supervisor)
    os.kill(int(supervisor.pidfile.read_text()), signal.SIGKILL)

    done = supervisor.heal()
    assert "2 processes" in done[0]
    assert "supervisor.pid" in done[1]
    assert not any(process.is_running() for process in left)
    assert supervisor.heal() == []
    bring_up(trivial, manager(configured, trivial))


def test_a_service_that_ends_names_its_log(configured):
    broken = Service("broken", "ends", (sys.executable, "-c", "raise SystemExit(3)"), "http://127.0.0.1:9/")
    supervisor = manager(configured, (broken,))
    with pytest.raises(ServiceFailed, match=r"broken .*logs/broken.log"):
        bring_up((broken,), supervisor)


def test_a_service_that_never_gets_well_is_given_up(configured, monkeypatch):
    monkeypatch.setattr(platform, "START_SECONDS", 0.5)
    sick = Service("sick", "waits", (sys.executable, "-c", "import time; time.sleep(60)"), "http://127.0.0.1:9/")
    supervisor = manager(configured, (sick,))
    with pytest.raises(ServiceFailed, match=r"sick was not healthy .*logs/sick.log"):
        bring_up((sick,), supervisor)
