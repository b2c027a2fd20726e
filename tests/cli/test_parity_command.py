"""`orrery parity`: the log's features against the offline ones, in a window of event time."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pandas as pd
import pytest

import usecases
from cli.main import main
from orrery.adapters.database import open_database
from orrery.adapters.log_spool import open_log
from orrery.adapters.prediction_log import PredictionRecord
from orrery.moments import micros

NAME = usecases.names()[0]
FEATURES = usecases.serving(NAME).feature_names
WINDOW = ("--from", "2018-09-12", "--to", "2018-09-13")


def served(identity, value, day=12, **others):
    """A logged prediction of an event of that day whose every feature had this value."""
    values = {
        "prediction_id": identity, "use_case": NAME, "identity": identity, "model_version": "1", "run_id": "r",
        "event_time": micros(datetime(2018, 9, day, 8, tzinfo=UTC)), "recorded_at": 1, "digest": "d",
        "data_version": "v", "git_commit": "c", "variant": "champion", "degraded": False, "degraded_reason": None,
        "rules_version": "1", "score": 0.5, "request": "{}", "sources": "{}", "outputs": "{}", "answer": "{}",
        "features": json.dumps(dict.fromkeys(FEATURES, value)),
    }  # fmt: skip
    return PredictionRecord(**values | others)


@pytest.fixture
def logged(settings, monkeypatch):
    """Puts predictions into the log; offline every feature of events 1, 2 and 3 is that number."""
    offline = pd.DataFrame({usecases.training(NAME).identity: [1, 2, 3], **{name: [1.0, 2, 3] for name in FEATURES}})
    monkeypatch.setattr("orrery.building.rows_between", lambda *_: offline)
    monkeypatch.setattr("orrery.preparation.current", lambda *_: None)
    engine = open_database(settings.log_url, durable=False)
    log = open_log(engine, settings.home / "spool.db")
    yield log.append
    engine.dispose()


def told(capfd, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["parity", NAME, *WINDOW, "--json", *arguments])
    return ended.value.code, json.loads(capfd.readouterr().out)


def test_equal_features_pass(logged, capfd):
    logged([served("1", 1.0), served("2", 2.0), served("3", 9.0, day=13)])
    code, found = told(capfd)
    assert code == 0, "the third is of another day"
    assert (found["rows"], found["mismatches"]) == (2, 0)


def test_a_difference_is_named(logged, capfd):
    logged([served("1", 1.0), served("2", 4.0)])
    code, found = told(capfd)
    assert code == 1
    assert (found["rows"], found["mismatches"]) == (2, 1)
    assert set(found["features"]) == set(FEATURES)
    assert found["worst"][0]["served"] == 4.0
    assert found["worst"][0]["offline"] == 2.0


def test_a_difference_names_the_way_to_count_what_clients_did(logged, capfd):
    logged([served("1", 9.0)])
    with pytest.raises(SystemExit):
        main(["parity", NAME, *WINDOW])
    assert "--served counts it too" in capfd.readouterr().err


def test_served_is_for_use_cases_that_learn_from_what_is_served(logged, capfd):
    with pytest.raises(SystemExit):
        main(["parity", "imaging", *WINDOW, "--served"])
    assert "no feature of imaging hangs on what was served; leave --served out" in capfd.readouterr().err


def test_an_event_that_the_data_do_not_know_is_counted(logged, capfd):
    logged([served("1", 1.0), served("77", 1.0)])
    code, found = told(capfd)
    assert (code, found["mismatches"], found["unknown"]) == (1, 1, 1)


@pytest.fixture
def tagged(monkeypatch):
    """The use case has a tag; offline it is 7 of every event."""
    offline = pd.DataFrame({usecases.training(NAME).identity: [1, 2], **{name: [1.0, 2] for name in FEATURES}})
    monkeypatch.setattr("orrery.building.rows_between", lambda *_: offline.assign(room=7.0))
    whole = usecases.case(NAME)
    case = replace(whole, serving=replace(whole.serving, tags=("room",)))
    monkeypatch.setattr(usecases, "case", lambda _: case)


def with_tag(identity, value, room):
    return served(identity, value, features=json.dumps(dict.fromkeys(FEATURES, value) | {"room": room}))


def test_tags_are_compared_too(logged, tagged, capfd):
    logged([with_tag("1", 1.0, 7.0), with_tag("2", 2.0, 8.0)])
    code, found = told(capfd)
    assert (code, found["mismatches"], found["features"]) == (1, 1, {"room": 1})


def test_tags_of_a_log_that_is_older_than_they_are_are_not_compared(logged, tagged, capfd):
    logged([served("1", 1.0), with_tag("2", 2.0, 8.0)])
    code, found = told(capfd)
    assert (code, found["rows"], found["mismatches"]) == (0, 2, 0)


def test_tags_that_a_store_of_before_does_not_have_are_not_compared(logged, tagged, capfd, monkeypatch):
    offline = pd.DataFrame({usecases.training(NAME).identity: [1], **{name: [1.0] for name in FEATURES}})
    monkeypatch.setattr("orrery.building.rows_between", lambda *_: offline)
    logged([with_tag("1", 1.0, 8.0)])
    assert told(capfd)[0] == 0


def test_nothing_to_compare_is_no_success(logged, capfd):
    logged([served("1", 1.0, features=None)])
    code, found = told(capfd)
    assert (code, found["rows"]) == (1, 0)
