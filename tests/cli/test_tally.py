"""What a replay counts."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from cli.tally import Tally, average_precision
from cli.traffic import Event, Reply


def _reply(identity: str, answer: dict, kind: str = "predict", reason: str = "") -> Reply:
    event = Event(datetime(2020, 1, 1, tzinfo=UTC), kind, identity, frozenset(), "{}")
    return Reply(event, 200, 4.0, answer, reason)


def test_counts_by_kind_decision_and_truth():
    tally = Tally({"a": 1.0, "b": 0.0}, "score", 5)
    tally(_reply("a", {"score": 0.9, "decision": "decline", "model_version": "3", "prediction_id": "first"}))
    tally(_reply("b", {"score": 0.1, "decision": "approve", "model_version": "3", "degraded": True}))
    tally(_reply("unlabelled", {"score": 0.2, "decision": "approve", "model_version": "3"}))
    tally(_reply("a", {}, kind="feedback"))
    tally(_reply("c", {}, reason="503 Overloaded"))
    result = tally.result()

    assert (result["predictions"], result["labels"], result["errors"], result["degraded"]) == (3, 1, 1, 1)
    assert result["reasons"] == {"503 Overloaded": 1}
    assert result["online"] == {
        "decisions": {"decline": 1, "approve": 2},
        "positives": {"all": 1, "decline": 1},
        "ap": 1.0,
    }
    assert result["telling_prediction"] == "first", "of the rarest decision"
    assert result["p50_ms"] == 4.0
    assert "100 %" in tally.line()


def test_a_label_of_a_request_that_was_made_elsewhere_is_no_error():
    tally = Tally({}, "score", 3)
    missing = replace(_reply("old", {}, kind="feedback", reason="404 There is no such prediction"), status=404)
    tally(missing)
    tally(_reply("new", {"score": 0.5}))
    tally(replace(missing, event=replace(missing.event, identity="new")))
    result = tally.result()

    assert result["labels_of_others"] == 1
    assert result["reasons"] == {"404 There is no such prediction": 1}, "of one that was asked here it is"


def test_nothing_seen_is_not_a_number():
    result = Tally({}, "score", 0).result()

    assert (result["online"]["ap"], result["p50_ms"], result["errors"]) == (None, None, 0)


def test_a_use_case_may_say_itself_what_its_answers_were_worth():
    tally = Tally({}, "score", 2, lambda answers, told: {"asked": len(answers), "told": list(told)})
    tally(_reply("a", {"score": 0.9}))
    tally(_reply("a", {}, kind="feedback"))

    assert tally.result()["online"] == {"asked": 1, "told": ["{}"]}


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1))
def test_average_precision_is_the_known_one(rows):
    positive, scores = np.array([row[0] for row in rows]), np.array([row[1] / 5 for row in rows])

    ours = average_precision(positive, scores)
    assert ours == (pytest.approx(average_precision_score(positive, scores)) if positive.any() else None)
