"""The settings of the watch and of what follows from it, groups of `orrery.settings`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class WatchSettings(BaseModel):
    """How often served traffic is looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: int = Field(300, ge=5, le=86_400, description="between two looks at a use case's served traffic")
    sample: int = Field(
        1_000, ge=0, le=20_000, description="answers of a window whose features are computed again offline; 0: none"
    )
    reports: int = Field(
        10, ge=0, le=400, description="windows of a use case whose reports are kept, the newest; 0: none are made"
    )
    report_mb: float = Field(20.0, gt=0, le=200, description="the largest page of a report that is kept, in megabytes")


class MonitorSettings(BaseModel):
    """The exporter of what Prefect does not say in its own metrics; it takes alerts, too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="where the monitor listens")
    port: int = Field(8001, ge=1, le=65535, description="the monitor's port")
    url: str = Field("", description="address of a monitor that runs elsewhere; empty: http://host:port")
    poll_seconds: float = Field(5.0, gt=0, le=60, description="how often the monitor asks Prefect")
    token_file: str = Field("", description="file with what Alertmanager shows to the monitor; empty: under home")


class AlertmanagerSettings(BaseModel):
    """Where alerts go, started by `orrery up` when it is on the PATH."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: Literal["auto", "always", "never"] = Field("auto", description="start Alertmanager with the platform")
    host: str = Field("127.0.0.1", description="where Alertmanager listens")
    port: int = Field(9093, ge=1, le=65535, description="Alertmanager's port")
    url: str = Field("", description="address of an Alertmanager that runs elsewhere; empty: http://host:port")
    pager_file: str = Field(
        "", description="file, by its whole path, whose first line is the URL of a webhook for alerts; empty: none"
    )
    public_url: str = Field("", description="what a person opens, where it is not the url")


class RetrainSettings(BaseModel):
    """What an alert that asks for a retraining may start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: Literal["auto", "suggest", "off"] = Field(
        "auto", description="auto: an alert starts a release; suggest: a person approves it by `orrery retrain`"
    )
    cooldown_minutes: float = Field(
        1_440,
        ge=0,
        description="between two releases of a use case that alerts start; doubled by each refusal in a row",
    )
    labels: int = Field(
        1_000,
        ge=0,
        description="labelled events since the drift began to learn from; fewer of a use case that has few",
    )
    budget: int = Field(8, ge=0, description="releases of a use case that alerts may start in thirty days")
