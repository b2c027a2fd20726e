"""Every discovered use case, on its own small sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

import usecases
from orrery.usecase import Key, Serving, SourceRequest, Stored, StoredByKey, Training, Update, silent

NAMES = usecases.names()


class MemoryStore:
    """An online store that forgets everything at the end of the test."""

    def __init__(self) -> None:
        self.rows: dict[Key, Stored] = {}

    def read(self, keys: Sequence[Key]) -> StoredByKey:
        return {key: self.rows.get(key, Stored({}, None, "missing")) for key in keys}

    def write(self, updates: Sequence[Update]) -> None:
        for update in updates:
            self.rows[update.key] = Stored(update.values, update.event_time, "present")


@dataclass(frozen=True)
class Case:
    """A use case with its sample and the sample's offline features."""

    name: str
    serving: Serving
    training: Training
    raw: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]

    @property
    def rows(self) -> pd.DataFrame:
        """Raw rows with their model inputs, in event order."""
        view = next(table for table in self.tables.values() if set(self.serving.feature_names) <= set(table.columns))
        extra = [*self.serving.logged, self.training.identity]
        known = [name for name in self.serving.logged if name in self.raw.columns]
        return self.raw.drop(columns=known).merge(view[extra], on=self.training.identity, validate="1:1")


@cache
def load(name: str) -> Case:
    training = usecases.training(name)
    source, reader = next(iter(training.sources.items()))
    raw = training.validate(reader(SourceRequest(source, sample=True), silent))
    return Case(name, usecases.serving(name), training, raw, training.features(raw))


@pytest.fixture(params=NAMES)
def case(request: pytest.FixtureRequest) -> Case:
    """One use case after another."""
    return load(request.param)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def bundle_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    return folder
