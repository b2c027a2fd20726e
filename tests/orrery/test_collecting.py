"""Served events take the place of raw rows, as a data version of their own."""

import json
from dataclasses import replace
from datetime import timedelta

import pandas as pd
import pytest
from sqlalchemy import insert, update
from toy.toy_case import CASE, START, ToyRequest

from orrery.adapters.database import open_database
from orrery.adapters.prediction_log import labels, metadata, predictions
from orrery.collecting import NothingCollected, collect, together
from orrery.moments import micros
from orrery.preparation import LOGGED, current, prepare, prepared
from orrery.settings import Settings
from orrery.usecase import SourceRequest


class ToyTold(ToyRequest):
    y: int


def collected(requests, feedback, _):
    told = {each.id: each.y for each in feedback}
    rows = [(asked.id, START + timedelta(hours=asked.id), told.get(asked.id, 0)) for asked in requests]
    return pd.DataFrame(rows, columns=["id", "at", "y"])


TOY = replace(
    CASE,
    training=replace(CASE.training, collected=collected),
    serving=replace(CASE.serving, feedback=ToyTold),
)


@pytest.fixture
def configured(tmp_path):
    settings = Settings(home=tmp_path)
    engine = open_database(settings.log_url, durable=False)
    metadata.create_all(engine)
    with engine.begin() as connection:
        for number in range(3):
            told = {"use_case": "toy", "identity": str(number)}
            at = micros(START + timedelta(hours=number))
            asked = told | {
                "sequence": number + 1, "prediction_id": str(number), "event_time": at,
                "recorded_at": 0, "variant": "champion", "degraded": False, "rules_version": "1", "sources": "{}",
                "answer": "{}", "request": json.dumps({"id": number}),
            }  # fmt: skip
            connection.execute(insert(predictions).values(asked))
        said = {"sequence": 9, "label": 1.0, "arrived_at": 0, "recorded_at": 0, "feedback": '{"id": 1, "y": 9}'}
        connection.execute(insert(labels).values(use_case="toy", identity="1", subject="", **said))
    prepare("toy", TOY.training, SourceRequest("generated"), settings)
    return settings


def test_served_rows_win_and_the_rest_stays(configured):
    before = pd.read_parquet(current("toy", configured).path)
    found = collect(TOY, configured, START + timedelta(hours=2))
    after = pd.read_parquet(found.path).set_index("id")
    assert len(after) == len(before)
    assert after.loc[1, "y"] == 9
    assert after.loc[0, "y"] == 0
    assert after.loc[2, "y"] == before.set_index("id").loc[2, "y"]  # it was not served before that moment
    assert current("toy", configured).data_version == found.data_version


def test_what_may_no_longer_be_said_is_left_out_and_counted(configured, caplog):
    """A log from before a limit was set; one such row must not end every release."""
    engine = open_database(configured.log_url, durable=False)
    with engine.begin() as connection:
        old = predictions.c.identity == "0"
        connection.execute(update(predictions).where(old).values(request='{"id": "a name"}'))
        connection.execute(update(labels).values(feedback='{"id": 1}'))
    engine.dispose()
    before = pd.read_parquet(current("toy", configured).path).set_index("id")
    after = pd.read_parquet(collect(TOY, configured, START + timedelta(hours=2)).path).set_index("id")
    assert after.loc[0, "y"] == before.loc[0, "y"]
    assert after.loc[1, "y"] == 0, "it was asked, and nothing that counts was told"
    left_out = "1 logged events say what no {} may say any more; they are left out"
    assert sorted(caplog.messages) == [left_out.format(name) for name in ("ToyRequest", "ToyTold")]


def test_the_same_log_is_the_same_version(configured):
    assert collect(TOY, configured, START + timedelta(hours=2)) == collect(TOY, configured, START + timedelta(hours=2))
    assert LOGGED not in TOY.training.sources


def test_a_replay_still_knows_the_labels_that_are_to_come(configured):
    before = current("toy", configured)
    assert collect(TOY, configured, START + timedelta(hours=2)) != before
    assert prepared("toy", configured) == before


def test_data_from_before_a_column_was_kept_have_none_of_it(tmp_path):
    pd.DataFrame({"id": [1, 2], "y": [0, 1]}).to_parquet(tmp_path / "old.parquet")
    found = together(tmp_path / "old.parquet", pd.DataFrame({"id": [2, 3], "y": [0, 0], "room": [7.0, 8.0]}), "id")
    assert found["id"].tolist() == [1, 2, 3]
    assert found["y"].tolist() == [0, 0, 0]
    assert found["room"].isna().tolist() == [True, False, False]


def test_nothing_served_and_nothing_said_of_it_are_refused_with_a_reason(configured):
    with pytest.raises(NothingCollected, match=r"nothing of toy before .* was served"):
        collect(TOY, configured, START)
    with pytest.raises(NothingCollected, match="does not say"):
        collect(CASE, configured, START)
