"""Everything that can be set, and the only reader of the environment."""

import difflib
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Literal

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from orrery.dicom_settings import DicomSettings
from orrery.errors import OrreryError
from orrery.torchserve_settings import TorchserveSettings
from orrery.watch_settings import AlertmanagerSettings, MonitorSettings, RetrainSettings, WatchSettings

PREFIX = "ORRERY_"
ENV_FILE = ".env"


class SettingsRefused(OrreryError):
    """A variable of the environment is misspelt or holds a value it may not."""


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSettings(_Group):
    """Raw data and its versions."""

    root: str = Field("", description="where prepared data sets and their versions lie; empty: `data` under home")
    remote: str = Field("", description="DVC remote: a folder or s3://bucket/prefix; empty: `remote` inside the root")


class MlflowSettings(_Group):
    """The model catalogue."""

    host: str = Field("127.0.0.1", description="where MLflow listens")
    port: int = Field(5000, ge=1, le=65535, description="MLflow's port")
    url: str = Field("", description="address of an MLflow that runs elsewhere; empty: http://host:port")
    public_url: str = Field("", description="what a person opens, where it is not the url")
    timeout_seconds: float = Field(5.0, gt=0, description="the most one call to MLflow may take")


class PrefectSettings(_Group):
    """The orchestrator."""

    host: str = Field("127.0.0.1", description="where Prefect's server listens")
    port: int = Field(4200, ge=1, le=65535, description="Prefect's port")
    url: str = Field("", description="API address of a Prefect that runs elsewhere; empty: http://host:port/api")
    public_url: str = Field("", description="what a person opens, where it is not the url without /api")
    pool: str = Field("orrery", description="work pool of the deployments")
    schedules: bool = Field(
        True, description="whether flows are deployed with live schedules; one that is off is switched on in Prefect"
    )


class GatewaySettings(_Group):
    """The prediction service."""

    host: str = Field("127.0.0.1", description="where the gateway listens")
    port: int = Field(8000, ge=1, le=65535, description="the gateway's port")
    url: str = Field("", description="address of a gateway that runs elsewhere; empty: http://host:port")
    public_url: str = Field("", description="what a person opens, where it is not the url")
    poll_seconds: float = Field(0.5, gt=0, le=60, description="how often the champion alias is looked up")
    body_bytes: int = Field(65_536, ge=1_024, description="largest request body")
    inflight: int = Field(64, ge=1, description="requests in work at once; more wait, then get 503")
    queue_ms: float = Field(20.0, ge=0, description="the longest wait for a place before 503")
    drain_seconds: float = Field(20.0, ge=0, description="time for running requests to end on shutdown")
    model_server: Literal["torchserve", "in_process"] = Field(
        "torchserve", description="where models run whose use case asks for a model server"
    )


class StoreSettings(_Group):
    """The feature store."""

    project: str = Field("orrery", pattern=r"^[a-z][a-z0-9_]*$", description="Feast project; prefixes its tables")
    url: str = Field("", description="online store: redis://user@host:port/0; empty: SQLite under home")
    password_file: str = Field("", description="file that holds the password of the Redis user")
    registry: str = Field("", description="SQLAlchemy URL of Feast's registry; empty: SQLite under home")


class LogSettings(_Group):
    """The prediction log."""

    url: str = Field(
        "", description="SQLAlchemy URL, such as postgresql+psycopg://user@host/db; empty: SQLite under home"
    )
    durable: bool = Field(True, description="wait for the disk before answering (SQLite synchronous=FULL)")


class PrometheusSettings(_Group):
    """Metrics storage, started by `orrery up` when it is on the PATH."""

    enabled: Literal["auto", "always", "never"] = Field("auto", description="start Prometheus with the platform")
    host: str = Field("127.0.0.1", description="where Prometheus listens")
    port: int = Field(9090, ge=1, le=65535, description="Prometheus' port")
    url: str = Field("", description="address of a Prometheus that runs elsewhere; empty: http://host:port")
    public_url: str = Field("", description="what a person opens, where it is not the url")


class GrafanaSettings(_Group):
    """The dashboards. `orrery up` starts none."""

    port: int = Field(3000, ge=1, le=65535, description="Grafana's port")
    url: str = Field("", description="address of a Grafana; empty: there is none")
    public_url: str = Field("", description="what a person opens, where it is not the url")


class TrainingSettings(_Group):
    """What a release may cost."""

    trials: int = Field(0, ge=0, le=10_000, description="trials of the search; 0: the use case's own budget")
    seconds: float = Field(0, ge=0, description="seconds of the search; 0: the use case's own budget")
    threads: int = Field(0, ge=0, description="threads for training; 0: all cores")
    first: str = Field(
        "", description="use cases that `orrery bootstrap` gives a first release, separated by commas; empty: all"
    )


class Settings(BaseSettings):
    """The platform's settings. Environment: ORRERY_<NAME>, ORRERY_<GROUP>__<NAME>; a file .env is read too."""

    # "ignore", because a .env shared with compose holds the names of others; `load` refuses what is ours and unknown
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", env_file=ENV_FILE, extra="ignore", frozen=True
    )

    home: Path = Field(Path("var"), description="everything the platform writes: stores, logs, models, secrets")
    environment: str = Field("local", description="a name for this installation, shown in status and metrics")
    build: str = Field("", description="git commit this installation was built from, where there is no git")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="what is logged")
    data: DataSettings = DataSettings()
    mlflow: MlflowSettings = MlflowSettings()
    prefect: PrefectSettings = PrefectSettings()
    gateway: GatewaySettings = GatewaySettings()
    store: StoreSettings = StoreSettings()
    log: LogSettings = LogSettings()
    monitor: MonitorSettings = MonitorSettings()
    prometheus: PrometheusSettings = PrometheusSettings()
    alertmanager: AlertmanagerSettings = AlertmanagerSettings()
    grafana: GrafanaSettings = GrafanaSettings()
    torchserve: TorchserveSettings = TorchserveSettings()
    dicom: DicomSettings = DicomSettings()
    training: TrainingSettings = TrainingSettings()
    watch: WatchSettings = WatchSettings()
    retrain: RetrainSettings = RetrainSettings()

    @property
    def mlflow_url(self) -> str:
        return self.mlflow.url or f"http://{self.mlflow.host}:{self.mlflow.port}"

    @property
    def prefect_url(self) -> str:
        return self.prefect.url or f"http://{self.prefect.host}:{self.prefect.port}/api"

    @property
    def gateway_url(self) -> str:
        return self.gateway.url or f"http://{self.gateway.host}:{self.gateway.port}"

    @property
    def monitor_url(self) -> str:
        return self.monitor.url or f"http://{self.monitor.host}:{self.monitor.port}"

    @property
    def torchserve_url(self) -> str:
        return self.torchserve.url or f"http://{self.torchserve.host}:{self.torchserve.port}"

    @property
    def torchserve_metrics_url(self) -> str:
        return self.torchserve.metrics_url or f"http://{self.torchserve.host}:{self.torchserve.metrics_port}/metrics"

    @property
    def embedded(self) -> bool:
        """Whether `orrery up` runs the platform; not so where every address is elsewhere, as in containers."""
        return not (self.mlflow.url and self.prefect.url and self.gateway.url)

    def opened_at(self, part: Literal["mlflow", "prefect", "gateway", "prometheus", "alertmanager", "grafana"]) -> str:
        """What a person opens in a browser."""
        where = getattr(self, part)
        address = where.url.removesuffix("/api") or f"http://{where.host}:{where.port}"
        return str(where.public_url or address)

    @property
    def log_url(self) -> str:
        return self.log.url or f"sqlite:///{(self.home / 'log.db').absolute()}"

    @property
    def data_folder(self) -> Path:
        """Prepared data sets and their versions."""
        return (Path(self.data.root) if self.data.root else self.home / "data").absolute()

    @property
    def feature_folder(self) -> Path:
        """Feast's registry, offline tables (`offline/<view>.parquet`) and online store (`online.db`)."""
        return (self.home / "features").absolute()

    @property
    def models_folder(self) -> Path:
        """The gateway's last-good bundles, one folder a use case."""
        return (self.home / "models").absolute()

    @property
    def archives_folder(self) -> Path:
        """The model server's archives, one file a version."""
        return Path(self.torchserve.store or self.home / "torchserve" / "models").absolute()

    @property
    def secrets_folder(self) -> Path:
        return (self.home / "secrets").absolute()

    @property
    def alerts_token(self) -> Path:
        """What Alertmanager shows to the monitor."""
        return Path(self.monitor.token_file or self.secrets_folder / "alerts.token").absolute()


def variables(model: type[BaseModel] = Settings, prefix: str = PREFIX) -> Iterator[tuple[str, object, str]]:
    """Every variable there is, with its default and what it means."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from variables(field.annotation, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}", field.get_default(), field.description or ""


def _refuse_unknown(names: list[str]) -> None:
    known = {name for name, _, _ in variables()}
    for name in names:
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), sorted(known), n=1, cutoff=0.0)[0]
            raise SettingsRefused(f"there is no setting {name}; did you mean {near}?")


def load(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings. Raises SettingsRefused on a name or a value that is not one."""
    _refuse_unknown([*sorted(environment), *dotenv_values(ENV_FILE)])
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + "__".join(str(part) for part in first["loc"]).upper()
        raise SettingsRefused(f"{name}: {first['msg']}") from error


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return load()


def describe(kind: Literal["env", "table"]) -> str:
    """The settings as `.env.example` or as the page of the docs."""
    if kind == "env":
        return "".join(f"# {meaning}\n# {name}={_shown(default)}\n" for name, default, meaning in variables())
    head = "# Settings\n\nGenerated by `python -m orrery.settings`.\n\n"
    head += "| variable | default | meaning |\n| --- | --- | --- |\n"
    return head + "".join(f"| `{name}` | `{_shown(default)}` | {meaning} |\n" for name, default, meaning in variables())


def _shown(default: object) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)


if __name__ == "__main__":
    Path(".env.example").write_text(describe("env"))
    Path("docs/settings.md").write_text(describe("table"))


def in_ci() -> bool:
    """Whether a CI system runs this, where nobody watches a terminal."""
    return bool(os.environ.get("CI"))


def child_environment(configured: Settings, extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process the platform starts: this one's, every setting said outright, and `extra`.

    Folders are made absolute, so that the child means the same ones wherever it runs.
    """
    # importing feast sets these for its own process; in a child they would redirect every metric
    own = {name: value for name, value in os.environ.items() if not name.startswith("PROMETHEUS_MULTIPROC")}
    data = {f"{PREFIX}DATA__ROOT": str(configured.data_folder)}
    return {**own, **_values(configured, PREFIX), **data, **extra}


def _values(group: BaseModel, prefix: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for name in type(group).model_fields:
        value = getattr(group, name)
        if isinstance(value, BaseModel):
            values |= _values(value, f"{prefix}{name.upper()}__")
        else:
            values[f"{prefix}{name.upper()}"] = str(value.absolute() if isinstance(value, Path) else value)
    return values
