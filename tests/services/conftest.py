"""A real small bundle, a catalogue, and gateways that follow it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from running import ROOT, Catalogue, Process, configure, eventually, free_port, gateway, version

from benchmarks.load.small_bundle import small_bundle
from orrery.adapters.api_keys import ALL_SCOPES, ApiKeys, open_keys
from orrery.adapters.database import open_database
from orrery.bundle import Bundle
from orrery.settings import Settings, child_environment, load


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    """Two bundles that answer differently."""
    folder = tmp_path_factory.mktemp("bundles")
    return small_bundle(folder / "a", rounds=20, seed=1), small_bundle(folder / "b", rounds=40, seed=2)


@pytest.fixture(scope="session")
def applied_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty online store as Feast leaves it when the use cases' views are applied."""
    home = tmp_path_factory.mktemp("store")
    code = (
        "import usecases; from orrery.settings import settings; from orrery.adapters.feature_store import FeatureStore;"
        "FeatureStore(settings()).apply(usecases.feature_views('fraud'))"
    )
    environment = child_environment(load(), {"ORRERY_HOME": str(home), "PYTHONPATH": str(ROOT)})
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    return home / "features" / "online.db"


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    """A running catalogue without any model."""
    catalogue = Catalogue(tmp_path / "artifacts")
    catalogue.start()
    yield catalogue
    catalogue.stop()


@pytest.fixture
def configured(settings: Settings, catalogue: Catalogue, applied_store: Path) -> Settings:
    """Settings with an empty online store, whose catalogue is the fake one and whose alias is looked up often."""
    return configure(settings, catalogue.port, applied_store)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory, applied_store: Path) -> Iterator[httpx.Client]:
    """One gateway without a model for all tests of a module that leave it as it is; its settings are `.settings`."""
    here = load().model_copy(update={"home": tmp_path_factory.mktemp("standing") / "home"})
    settings = configure(here, free_port(), applied_store)
    with gateway(settings, open_keys(settings).create("test", ALL_SCOPES)[0]) as client:
        client.settings = settings  # type: ignore[attr-defined]
        yield client


@pytest.fixture
def key(configured: Settings) -> str:
    """A key that may do everything."""
    engine = open_database(configured.log_url, durable=False)
    key = ApiKeys(engine).create("test", ALL_SCOPES)[0]
    engine.dispose()
    return key


@pytest.fixture
def gateway_process(configured: Settings, key: str) -> Iterator[Process]:
    """A gateway that is started by the test."""
    process = Process(configured, key)
    yield process
    process.kill()


@pytest.fixture
def served(configured: Settings, key: str, catalogue: Catalogue, bundles) -> Iterator[httpx.Client]:
    """A gateway that answers with a real bundle."""
    catalogue.register(bundles[0], "1")
    with gateway(configured, key) as client:
        eventually(lambda: version(client) == "1")
        yield client


@pytest.fixture
def bare(configured: Settings, key: str) -> Iterator[httpx.Client]:
    """A gateway without a model."""
    with gateway(configured, key) as client:
        yield client
