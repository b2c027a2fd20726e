"""Versions of data: the same rows are the same version, and any version comes back as it was."""

import io
import logging
import shutil
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from orrery.adapters import data_versions
from orrery.adapters.data_versions import DataVersions, NoData, NotStored, RemoteUnavailable, UnknownVersion
from orrery.adapters.locks import Busy
from orrery.errors import TransientError
from orrery.usecase import SourceRequest

BUILT_IN = SourceRequest("simulator", sample=True)
DVC = Path(sys.executable).with_name("dvc")


@pytest.fixture
def versions(tmp_path: Path) -> DataVersions:
    return DataVersions(tmp_path / "data")


def rows(number: int) -> pd.DataFrame:
    moments = pd.date_range("2018-04-01", periods=number, freq="h", tz="UTC", unit="us")
    return pd.DataFrame({"ID": np.arange(number), "MOMENT": moments, "AMOUNT": np.arange(number) / 4})


def add(versions: DataVersions, number: int, **kinds: object):
    return versions.add("toy", rows(number).assign(**kinds), {"rows": number}, BUILT_IN)


def test_a_version_is_kept_with_what_is_known_of_it(versions):
    source = SourceRequest("file", Path("mine.csv"), {"AMOUNT": "sum"})
    added = versions.add("toy", rows(9), {"rows": 9, "frauds": 2}, source)
    assert versions.current("toy") == added
    assert versions.versions("toy") == [added]
    assert added.counts == {"rows": 9, "frauds": 2}
    assert added.source == source
    assert added.created_at.tzinfo is not None
    pd.testing.assert_frame_equal(pd.read_parquet(versions.path("toy")), rows(9))
    pd.testing.assert_frame_equal(pd.read_parquet(versions.root / "toy" / "raw.parquet"), rows(9))


def test_the_same_rows_are_the_same_version_wherever_they_are_added(versions, tmp_path):
    first, other = add(versions, 5), add(versions, 6)
    assert other.version != first.version
    assert add(versions, 5) == first
    assert versions.current("toy") == first
    assert versions.versions("toy") == [first, other]
    assert add(DataVersions(tmp_path / "elsewhere"), 5).version == first.version


def test_an_index_or_attributes_do_not_change_the_version(versions):
    frame = rows(5).set_index(pd.Index(range(3, 8), name="row"))
    frame.attrs["note"] = "x"
    assert versions.add("toy", frame, {}, BUILT_IN).version == add(versions, 5).version


def test_checkout_by_the_start_of_a_name_keeps_earlier_paths_as_they_are(versions):
    first = add(versions, 5)
    path = versions.path("toy")
    second = add(versions, 6)
    assert len(pd.read_parquet(path)) == 5
    assert versions.current("toy") == second
    assert versions.checkout("toy", first.short) == first
    assert versions.current("toy") == first
    assert versions.path("toy") == path
    assert len(pd.read_parquet(versions.root / "toy" / "raw.parquet")) == 5


@pytest.mark.parametrize("name", ["", "zz", "../x"])
def test_an_unknown_version_is_refused_with_those_there_are(versions, name):
    first, second = add(versions, 5), add(versions, 6)
    with pytest.raises(UnknownVersion, match=f"{first.short}, {second.short}"):
        versions.checkout("toy", name)
    assert versions.current("toy") == second


def test_an_ambiguous_name_is_refused(versions):
    while len({added.version[0] for added in versions.versions("toy")}) == len(versions.versions("toy")):
        add(versions, len(versions.versions("toy")) + 1)
    starts = [added.version[0] for added in versions.versions("toy")]
    with pytest.raises(UnknownVersion, match="more than one"):
        versions.checkout("toy", starts[-1])


def test_before_the_first_version_there_is_a_clear_no(versions):
    assert versions.current("toy") is None
    assert versions.versions("toy") == []
    with pytest.raises(NoData, match="orrery data prepare toy"):
        versions.path("toy")
    with pytest.raises(UnknownVersion, match="there are: none"):
        versions.checkout("toy", "abc")


def test_lost_data_come_back_from_cache_and_from_remote(versions):
    add(versions, 5)
    versions.path("toy").unlink()
    pd.testing.assert_frame_equal(pd.read_parquet(versions.path("toy")), rows(5))
    versions.path("toy").unlink()
    shutil.rmtree(versions.root / ".dvc" / "cache")
    pd.testing.assert_frame_equal(pd.read_parquet(versions.path("toy")), rows(5))


def test_changed_data_are_mended_by_checkout(versions):
    added = add(versions, 5)
    path = versions.path("toy")
    assert not path.stat().st_mode & 0o222
    path.chmod(0o644)
    path.write_bytes(b"x")
    versions.checkout("toy", added.version)
    pd.testing.assert_frame_equal(pd.read_parquet(path), rows(5))


def test_data_that_are_gone_everywhere_are_reported(versions):
    add(versions, 5)
    versions.path("toy").unlink()
    shutil.rmtree(versions.root / ".dvc" / "cache")
    shutil.rmtree(versions.root / "remote")
    with pytest.raises(RemoteUnavailable, match=r"did not give.*ORRERY_DATA__REMOTE"):
        versions.path("toy")


def test_what_dvc_says_goes_where_the_program_logs_and_not_where_stderr_was_at_its_import(versions, caplog):
    for name in ("dvc", "dvc_data", "dvc_objects"):
        closed = io.StringIO()
        closed.close()
        logging.getLogger(name).addHandler(logging.StreamHandler(closed))
    add(versions, 5)
    assert not [each for name in ("dvc", "dvc_data", "dvc_objects") for each in logging.getLogger(name).handlers]
    logging.getLogger("dvc_data").warning("a file is missing")
    assert "a file is missing" in caplog.text


def test_another_folder_can_be_the_remote(tmp_path):
    versions = DataVersions(tmp_path / "data", str(tmp_path / "shared"))
    added = add(versions, 5)
    assert [path.name for path in (tmp_path / "shared").rglob("*") if path.is_file()] == [added.version[2:]]


def test_a_dead_s3_remote_is_transient_and_leaves_nothing_half_done(tmp_path, monkeypatch):
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    versions = DataVersions(tmp_path / "data", "s3://bucket/orrery")
    with pytest.raises(RemoteUnavailable, match=r"s3://bucket/orrery did not take the data \(Could not connect"):
        add(versions, 5)
    assert issubclass(RemoteUnavailable, TransientError)
    assert versions.versions("toy") == []
    assert versions.current("toy") is None
    healed = DataVersions(tmp_path / "data")
    added = add(healed, 5)
    assert healed.versions("toy") == [added]


STEPS = ("_write_parquet", "_replace", "_point")


@pytest.mark.parametrize(("step", "listed"), [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1)])
def test_an_interrupted_add_is_not_current_and_the_next_one_succeeds(versions, monkeypatch, step, listed):
    calls = count()

    def stopping(function):
        def maybe(*arguments, **named):
            if next(calls) == step:
                raise KeyboardInterrupt
            return function(*arguments, **named)

        return maybe

    with monkeypatch.context() as patch:
        for name in STEPS:
            patch.setattr(data_versions, name, stopping(getattr(data_versions, name)))
        with pytest.raises(KeyboardInterrupt):
            add(versions, 5)
    assert versions.current("toy") is None
    assert len(versions.versions("toy")) == listed
    added = add(versions, 5)
    assert versions.versions("toy") == [added]
    assert sorted(path.name for path in (versions.root / "toy").iterdir()) == ["raw.parquet", "versions"]


def test_a_killed_add_is_not_listed_and_the_next_one_succeeds(versions):
    script = """
import os, sys
from pathlib import Path
import pandas as pd
from orrery.adapters import data_versions
from orrery.usecase import SourceRequest
data_versions.DataVersions._record = lambda *_: os._exit(9)
data_versions.DataVersions(Path(sys.argv[1])).add("toy", pd.read_parquet(sys.argv[2]), {}, SourceRequest("simulator"))
"""
    rows(5).to_parquet(versions.root.with_name("rows.parquet"))
    command = [sys.executable, "-c", script, str(versions.root), str(versions.root.with_name("rows.parquet"))]
    assert subprocess.run(command, check=False).returncode == 9
    assert versions.versions("toy") == []
    assert versions.current("toy") is None
    added = add(versions, 5)
    assert versions.versions("toy") == [added]


def test_a_root_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotStored, match="ORRERY_DATA__ROOT"):
        add(DataVersions(tmp_path / "file" / "data"), 5)


def test_who_waits_too_long_for_another_process_is_told(versions, monkeypatch):
    added = add(versions, 5)
    monkeypatch.setattr(data_versions, "_WAIT_SECONDS", 0)
    with FileLock(versions.root / ".lock"), pytest.raises(Busy, match="try again"):
        add(versions, 6)
    assert versions.versions("toy") == [added]


def test_the_dvc_command_understands_the_root(versions):
    add(versions, 5)
    target = f"{versions.path('toy').relative_to(versions.root)}.dvc"
    done = subprocess.run(
        [DVC, "status", "--cloud", target], cwd=versions.root, capture_output=True, text=True, check=True
    )
    assert "in sync" in done.stdout
    assert not (versions.root / ".git").exists()
    assert "analytics = False" in (versions.root / ".dvc" / "config").read_text()
    assert (versions.root / "toy" / "raw.parquet").samefile(versions.path("toy"))
