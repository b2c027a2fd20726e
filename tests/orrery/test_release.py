"""A release from raw rows to a served version: healed by one re-run, refused when worse, never registered twice."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toy import toy_case
from toy.toy_case import CASE, START

from orrery import building, judging, provenance, releasing
from orrery.adapters.audit_log import AuditLog
from orrery.adapters.registry import Registry
from orrery.lifecycle import Check, Passed, Refused, Snapshot
from orrery.promotion import Promoter
from orrery.usecase import Budget, Window
from orrery.watching import Watching

WINDOW = Window(START + timedelta(days=20), 10)
GOOD, OTHER, BAD = Budget(1, 1), Budget(2, 1), Budget(1, 1, seed=13)


class MemoryFeatures:
    """A feature store that keeps its tables in memory and knows nothing of the future."""

    def __init__(self):
        self.tables, self.writes = {}, 0

    def apply(self, declared):
        self.declared = declared

    def write_offline(self, tables):
        self.tables, self.writes = tables, self.writes + 1

    def training_rows(self, use_case, rows):
        table = self.tables["toy_features"].drop(columns="event_timestamp")
        return rows.merge(table, on="id", validate="1:1")


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it."""


@pytest.fixture
def snapshot(tmp_path):
    path = tmp_path / "raw.parquet"
    toy_case.raw().to_parquet(path)
    return Snapshot("toy", path, "d1", {"rows": 600})


@pytest.fixture
def store():
    return MemoryFeatures()


@pytest.fixture
def release(catalogue, snapshot, store, monkeypatch):
    """Runs all steps under a budget; dies after the step that `stop_after` names."""
    monkeypatch.setattr(
        "orrery.gate.reloads", lambda folder, score, tolerance: Check("reloads", True, "not asked here")
    )
    for module in (provenance, building):
        monkeypatch.setattr(module, "code_hash", lambda use_case, root=None: "the code of this test")

    def run(budget=GOOD, stop_after="", case=CASE):
        def reached(step):
            if step == stop_after:
                raise Killed

        building.build_features(case, snapshot, store, catalogue)
        reached("features")
        split = building.split_rows(case, snapshot, WINDOW, store)
        candidate = building.train(case, snapshot, WINDOW, budget, split, catalogue)
        reached("train")
        report = judging.evaluate(case, candidate, split.test, catalogue)
        verdict = judging.judge(case, candidate, report, split.test, catalogue)
        reached("gate")
        if not isinstance(verdict, Passed):
            return verdict
        made = releasing.register(verdict, catalogue)
        reached("register")
        releasing.deploy(made, case.serving, catalogue)
        return made

    return run


def champion(catalogue):
    return Registry(catalogue).version("toy", "champion")


def test_a_first_release_is_registered_and_promoted(release, catalogue, tmp_path):
    made = release()
    version = champion(catalogue)
    assert version.version == made.version
    assert version.passed
    assert {"digest", "data_version", "git_commit", "lock_hash", "idempotency_key", "run_id"} <= set(version.tags)
    manifest = Registry(catalogue).download(version.run_id, version.digest, tmp_path / "down").manifest
    assert manifest.data_version == "d1"
    assert manifest.as_of == WINDOW.as_of
    assert set(manifest.reference) == {"x", "score"}
    assert len(manifest.golden.inputs) > 10
    run = Registry(catalogue)._client.get_run(version.run_id)
    assert {"test_accuracy", "test_accuracy_low", "test_accuracy_high"} <= set(run.data.metrics)
    assert run.data.params["slope"]
    files = {file.path for file in Registry(catalogue)._client.list_artifacts(version.run_id)}
    assert {"bundle", "plots", "verdict.json", "model_card.md"} <= files
    plots = {file.path for file in Registry(catalogue)._client.list_artifacts(version.run_id, "plots")}
    assert plots == {"plots/scores.png", "plots/slope.png"}


def test_a_model_keeps_one_row_of_each_unit_and_window_of_what_it_was_judged_on(snapshot, store, catalogue):
    watching = Watching(window=timedelta(days=5), rows=10, measures=lambda *_: (), sampled=("x", "score"), unit="toy")
    case = replace(CASE, training=replace(CASE.training, watching=watching))
    building.build_features(case, snapshot, store, catalogue)
    split = building.split_rows(case, snapshot, WINDOW, store)
    candidate = building.train(case, snapshot, WINDOW, Budget(trials=1, seconds=1), split, catalogue)
    samples = candidate.bundle.manifest.samples
    days = split.test["at"].dt.floor("5D")
    first = split.test.assign(day=days).drop_duplicates(["who", "day"])
    assert samples["x"] == np.round(first["x"].astype(float), 6).tolist()
    assert len(samples["score"]) == len(first) > first["who"].nunique()
    counted = {name: sum(kept.counts) for name, kept in candidate.bundle.manifest.reference.items()}
    assert counted == {"x": len(first), "score": len(first)}
    assert len(first) < len(split.test)


def test_only_what_was_known_is_learned_from(release, snapshot, store, catalogue):
    building.build_features(CASE, snapshot, store, catalogue)
    split = building.split_rows(CASE, snapshot, WINDOW, store)
    assert split.test["at"].max() + toy_case.DELAY <= WINDOW.as_of
    assert split.train["at"].min() >= WINDOW.as_of - timedelta(days=WINDOW.days + toy_case.TEST_DAYS + 2)
    assert {"x", "y", "who"} <= set(split.train.columns)


def test_a_release_run_again_changes_nothing(release, catalogue, store):
    first = release()
    assert release() == first
    assert len(Registry(catalogue).versions("toy")) == 1
    assert store.writes == 1
    experiment = Registry(catalogue)._client.get_experiment_by_name("toy")
    assert len(Registry(catalogue)._client.search_runs([experiment.experiment_id])) == 1
    assert AuditLog(catalogue).verify().records == 1


@pytest.mark.parametrize("step", ["features", "train", "gate", "register"])
def test_a_release_killed_after_any_step_is_healed_by_running_it_again(release, catalogue, step, tmp_path):
    first = release()
    with pytest.raises(Killed):
        release(OTHER, stop_after=step)
    standing = champion(catalogue)
    assert standing.version == first.version
    assert Registry(catalogue).download(standing.run_id, standing.digest, tmp_path / "standing")
    second = release(OTHER)
    assert champion(catalogue).version == second.version
    versions = Registry(catalogue).versions("toy")
    assert [version.version for version in versions] == [second.version, first.version]
    assert len({version.tags["idempotency_key"] for version in versions}) == 2
    assert Registry(catalogue).unregistered_runs("toy") == []
    assert [record["details"]["champion"] for record in AuditLog(catalogue).records()] == [
        first.version, second.version,
    ]  # fmt: skip


def test_a_training_that_was_killed_finds_its_checkpoints_and_nothing_else(settings):
    folder = building.work_folder(settings, "toy", "key")
    for name in ("bundle", building.CHECKPOINTS):
        (folder / name).mkdir()
        (folder / name / "file").touch()
    (folder / "slope.png").touch()
    other = building.work_folder(settings, "another", "key")

    assert building.work_folder(settings, "toy", "key") == folder
    assert [path.name for path in folder.iterdir()] == [building.CHECKPOINTS]
    assert (folder / building.CHECKPOINTS / "file").exists()
    building.work_folder(settings, "toy", "of other data")
    assert not folder.exists()
    assert other.exists()


def test_a_worse_model_is_refused_with_reasons_and_the_champion_stays(release, catalogue):
    first = release()
    verdict = release(BAD)
    assert isinstance(verdict, Refused)
    assert any("accuracy at least" in reason for reason in verdict.reasons)
    assert any("no worse than champion" in reason for reason in verdict.reasons)
    assert champion(catalogue).version == first.version
    assert len(Registry(catalogue).versions("toy")) == 1
    [run_id] = Registry(catalogue).unregistered_runs("toy")
    assert Registry(catalogue).run_tags(run_id)["gate"] == "refused"
    text = Registry(catalogue)._client.download_artifacts(run_id, "verdict.json")
    assert json.loads(Path(text).read_text())["passed"] is False


def test_any_version_is_evaluated_on_any_window(release, catalogue, snapshot, store, tmp_path):
    release()
    rows = building.rows_between(CASE, snapshot, START + timedelta(days=21), START + timedelta(days=23), store)
    assert len(rows) == 48
    version, report = judging.evaluate_version(CASE, "champion", rows, catalogue, tmp_path / "work")
    assert version.aliases == ("champion",)
    assert report.rows == 48
    assert not report.champion
    assert report.candidate["accuracy"].low <= report.candidate["accuracy"].value


def test_a_window_without_rows_is_refused(snapshot, store):
    with pytest.raises(building.WindowRefused, match="no rows"):
        building.rows_between(CASE, snapshot, START - timedelta(days=9), START - timedelta(days=8), store)
    with pytest.raises(building.WindowRefused, match="outside the data"):
        building.window_of(CASE, snapshot, START + timedelta(days=90))


def test_the_window_ends_by_default_at_the_last_event(snapshot):
    window = building.window_of(CASE, snapshot)
    assert window.as_of == pd.Timestamp(toy_case.raw()["at"].max()).to_pydatetime()
    assert window.days == CASE.training.train_days


def test_the_budget_asked_for_goes_before_the_settings_and_the_use_case(settings):
    configured = settings.model_copy(update={"training": settings.training.model_copy(update={"trials": 5})})
    assert building.budget_of(CASE, settings).trials == 1
    assert building.budget_of(CASE, configured).trials == 5
    assert building.budget_of(CASE, configured, trials=9).trials == 9


def test_features_are_built_again_for_other_data(catalogue, snapshot, store):
    building.build_features(CASE, snapshot, store, catalogue)
    building.build_features(CASE, snapshot, store, catalogue)
    building.build_features(CASE, replace(snapshot, data_version="d2"), store, catalogue)
    assert store.writes == 2


def test_no_gateway_is_said_and_is_no_error(release, catalogue):
    made = release()
    nowhere = catalogue.model_copy(update={"gateway": catalogue.gateway.model_copy(update={"port": 9})})
    assert releasing.deploy(made, CASE.serving, nowhere).served == "no gateway"
    assert Promoter(nowhere).promote(made).changed is False
