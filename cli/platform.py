"""`orrery up` and `orrery down`: the platform as processes of this machine."""

import subprocess
import sys
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from cli.alerting import write_alertmanager
from cli.console import progress, say
from cli.environments import catalogue, orchestration, quiet
from cli.keys import ensure_client_key
from cli.services import Service, here, services
from cli.supervisor import Supervisor, port_free
from cli.supervisor_config import config
from orrery.errors import OrreryError
from orrery.settings import Settings, child_environment, settings
from orrery.usecase import Progress

ROOT = Path(__file__).parents[1]
"""the repository: where the code of the services lies"""
START_SECONDS = 180.0
"""the longest a service may take until it is healthy"""


class PortInUse(OrreryError):
    """Something else listens where a service would."""


class ServiceFailed(OrreryError):
    """A service ended, or did not become healthy in time."""


class RunsElsewhere(OrreryError):
    """The settings say that another machine, or containers, run the platform."""


class SettingsChanged(OrreryError):
    """The platform runs with other settings than these."""


def up() -> None:
    """Start MLflow, Prefect with a worker, the gateway, the monitor, and what is installed of the rest.

    That is TorchServe where it is installed, Prometheus and Alertmanager where they are on the PATH. What already runs
    is left alone. Ports and folders come from the settings (docs/settings.md).

    Example: ORRERY_GATEWAY__PORT=8080 orrery up
    """
    for service in start(settings()):
        if service.url:
            say(f"{service.name:<11} {service.url}")


def down() -> None:
    """Stop what `orrery up` started: nothing else, and nothing less.

    Example: orrery down
    """
    supervisor = Supervisor(settings().home)
    if not supervisor.alive():
        for done in supervisor.heal():
            say(done)
        say("the platform is not running")
        return
    names = [state.name for state in supervisor.states().values() if state.up]
    supervisor.stop(seconds=90)
    say(f"stopped {', '.join(names) or 'the process manager; no service was running'}")


def start(configured: Settings) -> tuple[Service, ...]:
    """Bring every service up, wait until all are healthy, and return them.

    Raises RunsElsewhere, PortInUse or SettingsChanged before anything is started; ServiceFailed, naming the log.
    """
    if not configured.embedded:
        raise RunsElsewhere("the platform runs elsewhere, as the addresses in the settings say; start it there")
    table = here(configured)
    supervisor = manager(configured, table)
    _prepare(configured)
    bring_up(table, supervisor)
    deploy_flows(configured)
    return services(configured)


def manager(configured: Settings, table: tuple[Service, ...]) -> Supervisor:
    """The supervisord of this home, started if need be; then no service runs yet.

    Raises PortInUse before it is started, SettingsChanged when it runs with others than these.
    """
    supervisor = Supervisor(configured.home)
    environment = child_environment(configured, quiet(configured))
    text = config(table, supervisor.home, environment, ROOT)
    for done in supervisor.heal():
        say(done)
    if supervisor.alive():
        if not supervisor.same(text):
            raise SettingsChanged("the platform runs with other settings; `orrery down` first, then `orrery up`")
        return supervisor
    for service in table:
        if service.port and not port_free(service.host, service.port):
            raise PortInUse(
                f"port {service.port} is in use, and {service.name} wants it; "
                f"stop what listens there or set {service.setting} to a free port"
            )
    supervisor.launch(text, environment)
    return supervisor


def _prepare(configured: Settings) -> None:
    """What must be there before the services: databases at today's version, configuration, a first key."""
    for name in ("mlflow", "prefect"):
        (configured.home / name).mkdir(parents=True, exist_ok=True)
    write_prometheus(configured)
    write_alertmanager(configured)
    if not configured.gateway.url and (key := ensure_client_key(configured)):
        say(f"the first API key, shown this once (the command keeps a copy): [bold]{key}[/]")
    if not configured.mlflow.url:
        _migrate_catalogue(configured)


def write_prometheus(configured: Settings) -> None:
    """Prometheus' configuration and rules under home, with the addresses of these settings."""
    import yaml

    source, target = ROOT / "infra" / "prometheus", configured.home / "prometheus"
    target.mkdir(parents=True, exist_ok=True)
    written = yaml.safe_load((source / "prometheus.yml").read_text())
    addresses = {
        "gateway": configured.gateway_url,
        "monitor": configured.monitor_url,
        "prometheus": f"http://{configured.prometheus.host}:{configured.prometheus.port}",
    }
    there = {service.name for service in services(configured)}
    if "torchserve" in there:
        addresses["torchserve"] = configured.torchserve_metrics_url
    if "alertmanager" in there:
        where = configured.alertmanager
        addresses["alertmanager"] = where.url or f"http://{where.host}:{where.port}"
        written["alerting"] = {"alertmanagers": [_target(addresses["alertmanager"])]}
    else:
        del written["alerting"]
    written["scrape_configs"] = [
        job | _target(addresses[job["job_name"]]) for job in written["scrape_configs"] if job["job_name"] in addresses
    ]
    (target / "prometheus.yml").write_text(yaml.safe_dump(written, sort_keys=False))
    for name in written["rule_files"]:
        (target / name).write_text((source / name).read_text())


def _target(address: str) -> dict[str, object]:
    """An address as Prometheus writes it."""
    parts = urlsplit(address)
    return {"scheme": parts.scheme, "static_configs": [{"targets": [parts.netloc]}]}


def _migrate_catalogue(configured: Settings) -> None:
    """MLflow refuses a database of another version; an empty one takes it seconds, so it is done once a version."""
    mark = configured.home / "mlflow" / "migrated-to"
    if mark.is_file() and mark.read_text() == version("mlflow"):
        return
    environment = catalogue(configured)
    with progress() as show:
        show("mlflow database", 0, 1, "once")
        run_logged(
            configured,
            "mlflow-migration",
            ("mlflow", "db", "upgrade", environment["MLFLOW_BACKEND_STORE_URI"]),
            environment,
        )
        show("mlflow database", 1, 1, "")
    mark.write_text(version("mlflow"))


def deploy_flows(configured: Settings) -> None:
    """Write pool, deployments and schedules to Prefect; again changes nothing."""
    with progress() as show:
        show("deployments", 0, 1, "")
        run_logged(configured, "deployments", ("pipelines.deployments",), orchestration(configured))
        show("deployments", 1, 1, "")


def run_logged(configured: Settings, name: str, module: Iterable[str], extra: dict[str, str]) -> None:
    """Run `python -m <module...>` with its output in logs/<name>.log. Raises ServiceFailed, naming the log."""
    log = configured.home.absolute() / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        code = subprocess.run(  # noqa: S603
            [sys.executable, "-m", *module],
            cwd=ROOT,
            env=child_environment(configured, quiet(configured) | extra),
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if code:
        raise ServiceFailed(f"{name} failed (exit {code}): {_last_line(log)}; see {log}")


def bring_up(table: tuple[Service, ...], supervisor: Supervisor) -> None:
    """Start what does not run, and wait until all are healthy. Raises ServiceFailed, naming the log."""
    running = {name for name, state in supervisor.states().items() if state.up}
    if running:
        say(f"already running: {', '.join(sorted(running))}")
    with progress() as show:
        _start_all(table, running, supervisor, show)


def _start_all(table: tuple[Service, ...], running: set[str], supervisor: Supervisor, show: Progress) -> None:
    """Start each service once those it comes after are healthy."""
    began = time.monotonic()
    waiting = [service for service in table if service.name not in running]
    starting = [service for service in table if service.name in running]
    while waiting or starting:
        for service in [each for each in starting if healthy(each)]:
            starting.remove(service)
            if service.name not in running:
                show(service.name, 1, 1, f"{time.monotonic() - began:.0f} s")
        held = {service.name for service in (*waiting, *starting)}
        for service in [each for each in waiting if not held & set(each.after)]:
            supervisor.start(service.name)
            show(service.name, 0, 1, service.about)
            waiting.remove(service)
            starting.append(service)
        if starting:
            _refuse_failed(starting, supervisor, time.monotonic() - began)
            time.sleep(0.2)


def _refuse_failed(starting: list[Service], supervisor: Supervisor, seconds: float) -> None:
    states = supervisor.states()
    for service in starting:
        log = supervisor.home / "logs" / f"{service.name}.log"
        if states[service.name].state == "FATAL":
            raise ServiceFailed(f"{service.name} ended at its start: {_last_line(log)}; see {log}")
        if seconds > START_SECONDS:
            raise ServiceFailed(f"{service.name} was not healthy after {seconds:.0f} s; see {log}")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n") if log.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "without a word")


def healthy(service: Service) -> bool:
    """Whether the service answers its health question."""
    import httpx

    try:
        answer = httpx.get(service.health, timeout=2.0, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.is_success and service.says in answer.text
