"""A Prefect server for the flows."""

import warnings
from collections.abc import Iterator

import pytest


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
