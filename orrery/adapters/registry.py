"""MLflow as the catalogue of models: runs, versions, aliases, and the bundles behind them."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orrery.adapters.locks import exclusive
from orrery.bundle import Bundle, BundleRefused
from orrery.errors import OrreryError, TransientError
from orrery.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
ALIASES = (CHAMPION, PREVIOUS, CHALLENGER)
BUNDLE = "bundle"
"""artifact folder of a run that holds its bundle"""
_LONGEST_PARAMETER = 6_000


class RegistryUnavailable(TransientError):
    """MLflow did not answer."""


class RegistryRefused(OrreryError):
    """MLflow answered, and said no."""


class UnknownVersion(OrreryError):
    """No version of that number, or none behind that alias."""


@dataclass(frozen=True)
class Version:
    """A registered version of a use case's model."""

    use_case: str
    version: str
    run_id: str
    created_at: datetime
    tags: Mapping[str, str]
    """digest, data_version, git_commit, lock_hash, idempotency_key, gate"""
    aliases: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        return self.tags.get("digest", "")

    @property
    def passed(self) -> bool:
        """Whether the gate let it through; nothing else may be promoted."""
        return self.tags.get("gate") == "passed"


@dataclass(frozen=True)
class Record:
    """What is kept of one training: everything that a run shows."""

    use_case: str
    name: str
    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    bundle: Bundle
    plots: Mapping[str, Path] = field(default_factory=dict)


class Registry:
    """The model catalogue. Every call raises RegistryUnavailable within `mlflow.timeout_seconds` of a dead server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._url = settings.mlflow_url

    @cached_property
    def _client(self) -> "MlflowClient":
        from mlflow import MlflowClient, environment_variables
        from mlflow.telemetry.client import set_telemetry_client

        # with MLflow's own defaults one call to a dead server blocks for four minutes
        environment_variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(1)
        environment_variables.MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR.set(0)
        environment_variables.MLFLOW_HTTP_REQUEST_TIMEOUT.set(max(1, round(self._settings.mlflow.timeout_seconds)))
        environment_variables.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
        environment_variables.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
        environment_variables.MLFLOW_DISABLE_TELEMETRY.set(True)
        set_telemetry_client()
        return MlflowClient(tracking_uri=self._url, registry_uri=self._url)

    @contextmanager
    def _asking(self) -> Iterator["MlflowClient"]:
        from mlflow.exceptions import MlflowException, RestException

        try:
            yield self._client
        except RestException as error:
            raise RegistryRefused(f"MLflow at {self._url} refused: {_first_line(error)}") from error
        except MlflowException as error:
            if "failed with exception" in str(error):
                raise RegistryUnavailable(
                    f"MLflow at {self._url} does not answer; start it with `orrery up`"
                ) from error
            raise RegistryRefused(f"MLflow at {self._url} failed: {_first_line(error)}") from error

    # --- runs ---

    def find_run(self, use_case: str, key: str) -> str | None:
        """The finished run of that idempotency key, if there is one. A run that was cut off does not count."""
        with self._asking() as client:
            experiment = client.get_experiment_by_name(use_case)
            if experiment is None:
                return None
            query = f"tags.idempotency_key = '{key}' and attributes.status = 'FINISHED'"
            runs = client.search_runs([experiment.experiment_id], query, max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def log_run(self, record: Record) -> str:
        """Write a run with its bundle, plots and card; returns its id. It is FINISHED only when all of it is there."""
        from mlflow.entities import Metric, Param

        with self._asking() as client:
            run = client.create_run(
                self._experiment(client, record.use_case),
                tags={**record.tags, "digest": record.bundle.digest},
                run_name=record.name,
            )
            run_id, now = str(run.info.run_id), int(datetime.now(UTC).timestamp() * 1000)
            client.log_batch(
                run_id,
                metrics=[Metric(name, value, now, 0) for name, value in record.metrics.items()],
                params=[Param(name, str(value)[:_LONGEST_PARAMETER]) for name, value in record.parameters.items()],
            )
            for plot in record.plots.values():
                client.log_artifact(run_id, str(plot), "plots")
            client.log_artifacts(run_id, str(record.bundle.folder), BUNDLE)
            client.set_terminated(run_id, "FINISHED")
        return run_id

    def log_judgement(
        self, run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str], files: Mapping[str, str]
    ) -> None:
        """Add what evaluation and gate said to a run; writing the same again changes nothing. `files`: name -> text."""
        from mlflow.entities import Metric, RunTag

        with self._asking() as client:
            known = client.get_run(run_id).data.metrics
            now = int(datetime.now(UTC).timestamp() * 1000)
            new = [Metric(name, value, now, 0) for name, value in metrics.items() if known.get(name) != value]
            client.log_batch(run_id, metrics=new, tags=[RunTag(name, value) for name, value in tags.items()])
            for name, text in files.items():
                client.log_text(run_id, text, name)

    def log_plots(self, run_id: str, plots: Sequence[Path]) -> None:
        """Add pictures to a run's folder `plots`."""
        with self._asking() as client:
            for plot in plots:
                client.log_artifact(run_id, str(plot), "plots")

    def download(self, run_id: str, digest: str, folder: Path) -> Bundle:
        """Fetch a run's bundle into `folder/bundle`. Raises BundleRefused when it is not the one of that digest."""
        folder.mkdir(parents=True, exist_ok=True)
        with self._asking() as client:
            bundle = Bundle.open(Path(client.download_artifacts(run_id, BUNDLE, str(folder))))
        if bundle.digest != digest:
            raise BundleRefused(f"run {run_id} holds the bundle {bundle.digest[:12]}, not {digest[:12]}")
        return bundle

    def run_tags(self, run_id: str) -> dict[str, str]:
        with self._asking() as client:
            return dict(client.get_run(run_id).data.tags)

    def unregistered_runs(self, use_case: str) -> list[str]:
        """Runs without a version: cut off, refused, or not yet registered."""
        known = {version.run_id for version in self.versions(use_case)}
        with self._asking() as client:
            experiment = client.get_experiment_by_name(use_case)
            runs = client.search_runs([experiment.experiment_id]) if experiment else []
        return [run.info.run_id for run in runs if run.info.run_id not in known]

    # --- versions ---

    def register(self, use_case: str, run_id: str, tags: Mapping[str, str]) -> Version:
        """Make a version of a run's bundle, once per `idempotency_key`; the bundle is read back and verified first."""
        with exclusive(self._settings, f"register-{use_case}"):
            found = self.find_version(use_case, tags["idempotency_key"])
            if found is not None:
                return found
            with tempfile.TemporaryDirectory() as folder:
                self.download(run_id, tags["digest"], Path(folder))
            with self._asking() as client:
                self._ensure_model(client, use_case)
                source = f"{client.get_run(run_id).info.artifact_uri}/{BUNDLE}"
                made = client.create_model_version(
                    use_case, source, run_id=run_id, tags={**tags, "run_id": run_id}, await_creation_for=0
                )
        return self.version(use_case, str(made.version))

    def find_version(self, use_case: str, key: str) -> Version | None:
        """The version registered under that idempotency key, if there is one."""
        return next(
            (version for version in self.versions(use_case) if version.tags.get("idempotency_key") == key), None
        )

    def versions(self, use_case: str) -> list[Version]:
        """Every version, newest first."""
        with self._asking() as client:
            found = client.search_model_versions(f"name = '{use_case}'", max_results=1_000)
            aliases = self._aliases(client, use_case) if found else {}
        known = [_version(each, aliases) for each in found]
        return sorted(known, key=lambda each: int(each.version), reverse=True)

    def version(self, use_case: str, reference: str) -> Version:
        """A version by its number or by an alias. Raises UnknownVersion."""
        found = self.find(use_case, reference)
        if found is None:
            raise UnknownVersion(f"{use_case} has no version {reference!r}; see `orrery models {use_case}`")
        return found

    def find(self, use_case: str, reference: str) -> Version | None:
        """A version by its number or by an alias, or None."""
        wanted = reference.removeprefix("@")
        return next((v for v in self.versions(use_case) if wanted == v.version or wanted in v.aliases), None)

    def set_alias(self, use_case: str, alias: str, version: str) -> None:
        """Point an alias at a version: one atomic change in MLflow."""
        with self._asking() as client:
            client.set_registered_model_alias(use_case, alias, version)

    def delete_alias(self, use_case: str, alias: str) -> None:
        with self._asking() as client:
            client.delete_registered_model_alias(use_case, alias)

    @staticmethod
    def _aliases(client: "MlflowClient", use_case: str) -> Mapping[str, str]:
        aliases: Mapping[str, str] = client.get_registered_model(use_case).aliases
        return aliases

    @staticmethod
    def _experiment(client: "MlflowClient", use_case: str) -> str:
        found = client.get_experiment_by_name(use_case)
        return str(found.experiment_id if found else client.create_experiment(use_case))

    @staticmethod
    def _ensure_model(client: "MlflowClient", use_case: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            client.create_registered_model(use_case)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def _version(found: Any, aliases: Mapping[str, str]) -> Version:
    return Version(
        use_case=found.name,
        version=str(found.version),
        run_id=found.run_id,
        created_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        tags=dict(found.tags),
        aliases=tuple(alias for alias, version in aliases.items() if str(version) == str(found.version)),
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
