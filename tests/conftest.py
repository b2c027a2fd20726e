"""What every test gets: settings of its own, in a folder of its own."""

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import prometheus_client  # noqa: F401  before feast, whose import turns it into multiprocess files
import pytest

from orrery import settings as settings_module
from orrery.bundle import Bundle
from orrery.settings import Settings


def _one_process_of_metrics() -> Iterator[None]:
    """Importing feast tells prometheus_client that it shares files with other processes. It does not."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR"):
            patch.delenv(name, raising=False)
        yield


# for the fixtures of a module, which come before those of its first test, and for each test
module_of_one_process = pytest.fixture(autouse=True, scope="module")(_one_process_of_metrics)
each_of_one_process = pytest.fixture(autouse=True)(_one_process_of_metrics)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker begins one when the others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


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


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """Golden files that are not part of the project."""
    folder = Path(__file__).parent.parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no reference data beside the checkout")
    return folder
