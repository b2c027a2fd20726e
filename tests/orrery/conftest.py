"""A real MLflow on SQLite, without a server."""

import shutil
from itertools import count
from pathlib import Path

import pytest

from orrery.adapters.registry import Registry
from orrery.bundle import Bundle
from orrery.settings import MlflowSettings, Settings


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: its first migration takes ten seconds, so it is made once."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def catalogue(settings: Settings, migrated: Path, tmp_path: Path) -> Settings:
    """Settings whose MLflow is a database of their own, with an experiment for the use case `toy`."""
    from mlflow import MlflowClient

    path = tmp_path / "mlflow.db"
    shutil.copy(migrated, path)
    url = f"sqlite:///{path}"
    MlflowClient(url).create_experiment("toy", artifact_location=(tmp_path / "artifacts").as_uri())
    return settings.model_copy(update={"mlflow": MlflowSettings(url=url)})


@pytest.fixture
def registry(catalogue: Settings) -> Registry:
    return Registry(catalogue)


@pytest.fixture
def make_bundle(tmp_path: Path):
    """Makes small bundles, each another one."""
    numbers = count()

    def make() -> Bundle:
        number = next(numbers)
        folder = tmp_path / f"bundle-{number}"
        folder.mkdir()
        (folder / "weights.json").write_text(str(number))
        moment = "2024-01-01T00:00:00Z"
        about = {
            "use_case": "toy", "created_at": moment, "trained_from": moment, "trained_to": moment, "as_of": moment,
            "rows": 1, "data_version": "d", "git_commit": "c", "lock_hash": "l", "features": [], "learned": {},
            "reference": {}, "golden": {"inputs": [], "outputs": {}},
        }  # fmt: skip
        return Bundle.write(folder, about)

    return make
