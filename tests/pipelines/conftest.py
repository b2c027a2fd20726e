"""A Prefect server for the flows."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from prefect_api import prefect_client

from orrery import settings as settings_module
from orrery.adapters.database import open_database
from orrery.adapters.prediction_log import metadata
from orrery.settings import Settings


@pytest.fixture(scope="module")
def prefect_url() -> Iterator[str]:
    """A Prefect server of its own."""
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        with prefect_test_harness(server_startup_timeout=120):
            yield PREFECT_API_URL.value()


@pytest.fixture
def prefect(prefect_url: str) -> Iterator[Any]:
    """A client of its API."""
    with prefect_client(prefect_url) as client:
        yield client


@pytest.fixture
def silent_platform(prefect_url: str, home: object, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a platform with that Prefect, which has answered nothing."""
    monkeypatch.setenv("ORRERY_PREFECT__URL", prefect_url)
    settings_module.settings.cache_clear()
    found = settings_module.settings()
    engine = open_database(found.log_url, durable=False)
    metadata.create_all(engine)
    engine.dispose()
    return found
