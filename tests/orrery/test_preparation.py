"""Preparing data: read, validated, versioned, and not again when nothing asks for it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from orrery.adapters.data_versions import NoData
from orrery.errors import OrreryError
from orrery.preparation import UnknownSource, current, data_versions, prepare
from orrery.settings import DataSettings, Settings
from orrery.usecase import SourceRequest


class Refused(OrreryError):
    """The toy data are bad."""


class Sources:
    """Two sources that count their readings; the built-in one says the same each time."""

    def __init__(self) -> None:
        self.readings: list[SourceRequest] = []
        self.rows = [3, 1, 2]

    def built_in(self, request: SourceRequest, progress: Any) -> pd.DataFrame:
        self.readings.append(request)
        progress("read", 1, 1)
        return pd.DataFrame({"ID": self.rows[:2] if request.sample else self.rows})

    def file(self, request: SourceRequest, progress: Any) -> pd.DataFrame:
        self.readings.append(request)
        return pd.read_csv(request.path)


@pytest.fixture
def sources() -> Iterator[Sources]:
    return Sources()


@pytest.fixture
def training(sources: Sources) -> Any:
    def validate(frame: pd.DataFrame) -> pd.DataFrame:
        if (frame["ID"] < 0).any():
            raise Refused("row 1, column ID: -1 is negative")
        return frame.sort_values("ID", ignore_index=True)

    return SimpleNamespace(
        sources={"built-in": sources.built_in, "file": sources.file},
        validate=validate,
        describe=lambda frame: {"rows": len(frame)},
    )


BUILT_IN = SourceRequest("built-in")


def test_a_snapshot_is_the_valid_rows_and_their_version(settings, training):
    snapshot = prepare("toy", training, BUILT_IN, settings)
    assert pd.read_parquet(snapshot.path)["ID"].tolist() == [1, 2, 3]
    assert snapshot.counts == {"rows": 3}
    assert current("toy", settings) == snapshot
    assert data_versions(settings).current("toy").source == BUILT_IN


def test_the_same_request_to_a_built_in_source_is_not_read_again(settings, training, sources):
    first = prepare("toy", training, BUILT_IN, settings)
    assert prepare("toy", training, BUILT_IN, settings) == first
    assert len(sources.readings) == 1
    assert prepare("toy", training, BUILT_IN, settings, fresh=True) == first
    assert len(sources.readings) == 2
    assert prepare("toy", training, replace(BUILT_IN, sample=True), settings) != first


def test_a_file_is_always_read_again(settings, training, tmp_path):
    request = SourceRequest("file", tmp_path / "mine.csv")
    request.path.write_text("ID\n1\n")
    first = prepare("toy", training, request, settings)
    request.path.write_text("ID\n2\n")
    second = prepare("toy", training, request, settings)
    assert second.data_version != first.data_version
    assert pd.read_parquet(first.path)["ID"].tolist() == [1]
    assert pd.read_parquet(second.path)["ID"].tolist() == [2]


def test_asking_for_nothing_in_particular_keeps_what_there_is(settings, training, sources, tmp_path):
    (tmp_path / "mine.csv").write_text("ID\n1\n")
    of_file = prepare("toy", training, SourceRequest("file", tmp_path / "mine.csv"), settings)
    assert prepare("toy", training, SourceRequest(""), settings) == of_file
    assert len(sources.readings) == 1


def test_asking_for_nothing_in_particular_starts_with_the_first_source(settings, training, sources):
    prepare("toy", training, SourceRequest(""), settings)
    assert sources.readings == [BUILT_IN]


def test_refused_data_leave_the_current_version_as_it_is(settings, training, tmp_path):
    kept = prepare("toy", training, BUILT_IN, settings)
    (tmp_path / "bad.csv").write_text("ID\n-1\n")
    with pytest.raises(Refused):
        prepare("toy", training, SourceRequest("file", tmp_path / "bad.csv"), settings)
    assert current("toy", settings) == kept
    assert len(data_versions(settings).versions("toy")) == 1


def test_an_unknown_source_is_refused_with_those_there_are(settings, training):
    with pytest.raises(UnknownSource, match="choose from: built-in, file"):
        prepare("toy", training, SourceRequest("web"), settings)


def test_without_data_the_error_says_what_to_run(settings):
    with pytest.raises(NoData, match="orrery data prepare toy"):
        current("toy", settings)


def test_it_says_how_far_it_is(settings, training):
    calls: list[tuple[Any, ...]] = []
    prepare("toy", training, BUILT_IN, settings, lambda *call: calls.append(call))
    assert [call[0] for call in calls if call[1] == call[2]] == ["read", "validate", "version"]


def test_root_and_remote_come_from_the_settings(tmp_path):
    configured = Settings(data=DataSettings(root=str(tmp_path / "d"), remote=str(tmp_path / "r")))
    versions = data_versions(configured)
    assert versions.root == Path(tmp_path / "d")
    assert versions.remote == str(tmp_path / "r")
