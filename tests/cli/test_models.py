"""`orrery models`, `promote`, `rollback` and `evaluate`, on a real catalogue."""

import json
from datetime import timedelta

import pandas as pd
import pytest
from toy.toy_case import CASE, START, raw

from cli.main import main
from orrery.adapters.registry import Record, Registry
from orrery.lifecycle import Snapshot


@pytest.fixture
def versions(catalogue, make_bundle, monkeypatch):
    """Two versions of `toy` that passed, and one that did not."""
    monkeypatch.setattr("usecases.names", lambda: ["toy"])
    monkeypatch.setattr("usecases.serving", lambda name: CASE.serving)
    monkeypatch.setenv("ORRERY_GATEWAY__PORT", "9")
    registry = Registry(catalogue)

    def made(key, **tags):
        bundle = make_bundle()
        run_id = registry.log_run(Record("toy", key, {}, {}, {"idempotency_key": key}, bundle))
        return registry.register("toy", run_id, {"idempotency_key": key, "digest": bundle.digest, **tags}).version

    return made("a", gate="passed"), made("b", gate="passed"), made("c")


def orrery(capsys, *arguments):
    """The exit code of a command, and what it printed."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_promote_and_roll_back(versions, capsys):
    first, second, _ = versions
    assert json.loads(orrery(capsys, "promote", "toy", first, "--json")[1])["previous"] is None
    code, out, _ = orrery(capsys, "promote", "toy", second, "--json")
    found = json.loads(out)
    assert (code, found["version"], found["previous"], found["gateway"]) == (0, second, first, "no gateway")
    assert json.loads(orrery(capsys, "rollback", "toy", "--json")[1])["version"] == first
    code, _, err = orrery(capsys, "rollback", "toy")
    assert code == 1
    assert "no previous version" in err


def test_what_did_not_pass_is_not_promoted(versions, capsys):
    code, _, err = orrery(capsys, "promote", "toy", versions[2])
    assert code == 1
    assert "did not pass the gate" in err
    assert orrery(capsys, "promote", "toy", "99")[0] == 1


def test_models_lists_them_newest_first(versions, capsys):
    orrery(capsys, "promote", "toy", versions[0])
    rows = json.loads(orrery(capsys, "models", "toy", "--json")[1])
    assert [(row["version"], row["gate"], row["aliases"]) for row in rows] == [
        (versions[2], None, []), (versions[1], "passed", []), (versions[0], "passed", ["champion"]),
    ]  # fmt: skip
    assert "champion" in orrery(capsys, "models")[1]


def test_no_versions_say_what_to_do(catalogue, capsys):
    assert "orrery train" in orrery(capsys, "models", "fraud")[1]
    assert json.loads(orrery(capsys, "models", "fraud", "--json")[1]) == []


@pytest.mark.parametrize("verb", [("models", "nothing"), ("promote", "nothing", "1"), ("rollback", "nothing")])
def test_an_unknown_use_case_says_which_there_are(home, capsys, verb):
    code, _, err = orrery(capsys, *verb)
    assert code == 1
    assert "there are: " in err


class NoStore:
    """A feature store that was told everything and gives the toy's only feature."""

    def __init__(self, settings):
        pass

    def apply(self, declared):
        pass

    def write_offline(self, tables):
        pass

    def training_rows(self, use_case, rows):
        return rows.assign(x=rows["seen"].astype("float32"))


def test_evaluate_prints_what_the_gate_would_see(catalogue, capsys, monkeypatch, tmp_path):
    from orrery import building, judging, releasing
    from orrery.lifecycle import Check, Passed
    from orrery.usecase import Budget, Window

    path = tmp_path / "raw.parquet"
    raw().to_parquet(path)
    snapshot, store = Snapshot("toy", path, "d1", {}), NoStore(catalogue)
    window = Window(START + timedelta(days=20), 10)
    split = building.split_rows(CASE, snapshot, window, store)
    candidate = building.train(CASE, snapshot, window, Budget(1, 1), split, catalogue)
    report = judging.evaluate(CASE, candidate, split.test, catalogue)
    releasing.register(Passed(candidate, report, (Check("all", True, ""),)), catalogue)

    monkeypatch.setattr("usecases.case", lambda name: CASE)
    monkeypatch.setattr("orrery.preparation.current", lambda use_case, settings: snapshot)
    monkeypatch.setattr("orrery.adapters.feature_store.FeatureStore", NoStore)
    first, last = (f"{START + timedelta(days=day):%Y-%m-%d}" for day in (14, 19))
    code, out, _ = orrery(
        capsys, "evaluate", "toy", "--from", first, "--to", last, "--version", "1", "--json", "--plots",
        str(tmp_path / "plots"),
    )  # fmt: skip
    found = json.loads(out)
    assert code == 0
    assert found["rows"] == 5 * 24
    assert pd.Timestamp(found["last"]) < START + timedelta(days=19)
    assert set(found["metrics"]["accuracy"]) == {"value", "low", "high"}
    assert found["plots"] == [str(tmp_path / "plots" / "scores.png")]
    code, _, err = orrery(capsys, "evaluate", "toy", "--from", "2020-01-01", "--to", "2020-01-02")
    assert code == 1
    assert "no rows" in err
