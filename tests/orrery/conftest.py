"""A registry in a database of its own."""

import pytest

from orrery.adapters.registry import Registry
from orrery.settings import Settings


@pytest.fixture
def registry(catalogue: Settings) -> Registry:
    return Registry(catalogue)
