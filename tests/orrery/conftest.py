"""A registry in a database of its own, and bundles to put into it."""

from itertools import count
from pathlib import Path

import pytest

from orrery.adapters.registry import Registry
from orrery.bundle import Bundle
from orrery.settings import Settings


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
