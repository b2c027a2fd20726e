"""What clients sent, and that the gate asks for what is measured."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from usecases.recommendation.features import NOTHING, NOTHING_TRENDS, inputs, micros
from usecases.recommendation.protocol import LAST, VISIT, KnownItems
from usecases.recommendation.training import requests, training

AT = datetime(2016, 6, 1, tzinfo=UTC)


def test_a_request_comes_before_its_rating_and_all_requests_of_a_moment_before_its_ratings():
    rows = pd.DataFrame({"EVENT_ID": [3, 4, 5], "USER_ID": [1, 2, 1], "ITEM_ID": [7, 8, 9], "RATING": [4.0, 0.5, 5.0]})
    rows["AT"] = pd.Series([AT, AT, AT + timedelta(seconds=1)]).astype("datetime64[us, UTC]")
    sent = requests(rows)
    assert [(at - AT, kind, event.request_id) for at, kind, event in sent] == [
        (timedelta(0), "predict", "3"),
        (timedelta(0), "predict", "4"),
        (timedelta(0), "feedback", "3"),
        (timedelta(0), "feedback", "4"),
        (timedelta(seconds=1), "predict", "5"),
        (timedelta(seconds=1), "feedback", "5"),
    ]
    assert all(event.at == at for at, _, event in sent)
    rated = sent[3][2]
    assert (rated.user_id, rated.item_id, rated.event, rated.rating) == (2, 8, "rating", 0.5)


def test_the_gate_asks_of_nobody_what_only_warm_users_could_show():
    """A set whose users all come once: what is asked of a release is still measured, and never not a number."""
    known = KnownItems(np.array([1, 2]), np.array([3, 1]), np.zeros((2, 24), np.float32))
    rows = pd.DataFrame({"USER_ID": [1, 1], "KIND": [VISIT, LAST], "user_events": [0, 0]})
    payload = inputs(NOTHING, NOTHING_TRENDS, micros(AT))
    rows = rows.assign(RELEVANT=[np.array([1])] * 2, KNOWN_ITEMS=[known] * 2, PAYLOAD=[payload] * 2)
    outputs = dict.fromkeys(("items", "popular", "ease"), np.array([[1.0, 2.0, *[-1.0] * 98]] * 2))
    found = training.measure(rows, outputs)(np.ones(2))
    asked = {*training.gate.floors, *training.gate.ceilings, *training.gate.compare}
    assert np.isfinite([found[name] for name in asked]).all()
    assert all(found[name] >= floor for name, floor in training.gate.floors.items())
