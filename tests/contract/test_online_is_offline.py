"""Offline and online give the same inputs and tags, row by row, labels included."""

from datetime import datetime

import numpy as np
import pytest

from orrery.usecase import Key, Stored

SERVED = 2_000


def serve(case, store, events):
    """Send events in order through the online half; named inputs and tags by identity."""
    serving, asked, inputs = case.serving, {}, {}
    for _, kind, event in events:
        if kind == "predict":
            stored = store.read(serving.keys(event))
            named = serving.features(stored, event)[: len(serving.feature_names)]
            inputs[serving.identity(event)] = np.concatenate([named, serving.tagged(event)])
            store.write(serving.learn(event, stored))
            asked[serving.identity(event)] = event
        else:
            request = asked.get(serving.identity(event))
            keys = [*serving.keys(event), *(serving.keys(request) if request else ())]
            store.write(serving.learn_label(event, request, store.read(keys)))
    return inputs


def offline(case):
    rows = case.rows
    values = rows[list(case.serving.logged)].to_numpy(np.float32)
    return dict(zip(rows[case.training.identity].astype(str), values, strict=True))


def assert_same(inputs, expected):
    assert len(inputs) > 50
    for identity, values in inputs.items():
        np.testing.assert_array_equal(values, expected[identity], err_msg=identity)


def fill(case, store, moment):
    """Materialize what was known at `moment`."""
    for view, table in case.training.history(case.raw, moment).items():
        entity = table.columns[0]
        names = [column for column in table.columns if column not in (entity, "event_timestamp")]
        for row in table.to_dict("records"):
            key = Key(view, int(row[entity]))
            store.rows[key] = Stored({n: row[n] for n in names}, row["event_timestamp"], "present")


@pytest.mark.slow
def test_batch_equals_row_by_row(case, store):
    fill(case, store, case.raw[case.training.moment].min().to_pydatetime())
    assert_same(serve(case, store, case.training.requests(case.raw)), offline(case))


def test_history_is_the_store_of_that_moment(case, store):
    """Starting from a materialized moment, the events after it see what they would have seen anyway."""
    raw, training = case.raw, case.training
    moment: datetime = raw[training.moment].iloc[-min(SERVED, len(raw) // 3)].to_pydatetime()
    fill(case, store, moment)
    events = [event for event in training.requests(raw) if event[0] >= moment]
    assert_same(serve(case, store, events), offline(case))
