"""What every test gets: settings of its own, in a folder of its own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import prometheus_client  # noqa: F401  before feast, whose import turns it into multiprocess files
import pytest

from orrery import settings as settings_module
from orrery.settings import Settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home that `settings()` points to."""
    monkeypatch.setenv("ORRERY_HOME", str(tmp_path / "home"))
    settings_module.settings.cache_clear()
    yield tmp_path / "home"
    settings_module.settings.cache_clear()


@pytest.fixture
def settings(home: Path) -> Settings:
    """The settings that belong to `home`."""
    return settings_module.settings()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: its first migration takes ten seconds, so it is made once."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def catalogue(home: Path, migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with a real MLflow, without a server: a database of its own with an experiment for the case `toy`."""
    from mlflow import MlflowClient

    path = tmp_path / "mlflow.db"
    shutil.copy(migrated, path)
    monkeypatch.setenv("ORRERY_MLFLOW__URL", f"sqlite:///{path}")
    settings_module.settings.cache_clear()
    MlflowClient(f"sqlite:///{path}").create_experiment("toy", artifact_location=(tmp_path / "artifacts").as_uri())
    return settings_module.settings()


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """Golden files that are not part of the project."""
    folder = Path(__file__).parent.parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no reference data beside the checkout")
    return folder
