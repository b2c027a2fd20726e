"""What a transaction is answered: decisions, reasons, rules, and what it teaches."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import ValidationError

from orrery.usecase import Asked, RuleHit, Scored, Stored
from usecases.fraud.features import FEATURES
from usecases.fraud.reasons import reasons
from usecases.fraud.rules import DEFAULT_RULES, broken_rules, strictest
from usecases.fraud.serving import FraudFeedback, FraudRequest, serving

AT = datetime(2018, 9, 3, 12, tzinfo=UTC)
REQUEST = FraudRequest(transaction_id=1, customer_id=2, terminal_id=3, amount=10.5, tx_datetime=AT)


class Model:
    """Says what it is told to."""

    manifest = SimpleNamespace(learned={"thresholds": {"review": 0.2, "decline": 0.8}})

    def __init__(self, contributions=()):
        self.given = np.zeros((1, len(FEATURES) + 1))
        for name, value in contributions:
            self.given[0, FEATURES.index(name)] = value

    def contributions(self, _file, _rows):
        return self.given


def respond(score, hits=(), model=None, **changes):
    request = REQUEST.model_copy(update=changes)
    outputs = {"score": np.array([score]), "raw": np.array([score]), "novelty": np.array([0.123456])}
    row = np.zeros(len(FEATURES), np.float32)
    return serving.respond(Scored(request, hits, serving.default_rules, {}, row, outputs, model or Model()))


@pytest.mark.parametrize(
    ("score", "decision"),
    [(0.0, "approve"), (0.19999, "approve"), (0.2, "review"), (0.79999, "review"), (0.8, "decline"), (1.0, "decline")],
)
def test_two_thresholds_make_three_decisions(score, decision):
    assert respond(score).decision == decision


def test_a_rule_makes_a_decision_stricter_and_never_milder():
    decline, review = RuleHit("a", "decline", ""), RuleHit("b", "review", "")
    assert respond(0.0, (review,)).decision == "review"
    assert respond(0.0, (review, decline)).decision == "decline"
    assert respond(0.9, (review,)).decision == "decline"
    assert strictest("approve", ()) == "approve"


def test_scores_are_rounded():
    answer = respond(0.123456789)
    assert (answer.score, answer.novelty) == (0.1235, 0.1235)


def test_the_fallback_reviews_unless_a_rule_declines():
    def fallback(*hits):
        return serving.fallback(Asked(REQUEST, hits, serving.default_rules, {}), None)

    assert fallback().decision == "review"
    assert fallback(RuleHit("blocked_customers", "decline", "")).decision == "decline"


def test_reasons_are_what_speaks_for_fraud_most_first():
    model = Model([
        ("TX_AMOUNT", 0.5), ("TERMINAL_ID_RISK_1DAY_WINDOW", 2.0), ("TERMINAL_ID_RISK_7DAY_WINDOW", 1.0),
        ("CUSTOMER_ID_NB_TX_1DAY_WINDOW", 0.2), ("TX_DURING_NIGHT", 0.1), ("CUSTOMER_ID_AVG_AMOUNT_1DAY_WINDOW", -3.0),
        ("AMOUNT_TO_CUSTOMER_MEAN_RATIO", 0.05),
    ])  # fmt: skip
    given = respond(0.9, model=model).reasons
    assert [(reason.code, reason.contribution) for reason in given] == [
        ("TERMINAL_RISK", 3.0), ("AMOUNT", 0.5), ("CUSTOMER_VELOCITY", 0.2), ("TIME", 0.1),
    ]  # fmt: skip


def test_an_approval_is_explained_only_when_asked():
    model = Model([("TX_AMOUNT", 0.5)])
    assert respond(0.1, model=model).reasons == ()
    assert respond(0.1, model=model, explain=True).reasons[0].code == "AMOUNT"


def test_every_feature_has_exactly_one_reason():
    for index, name in enumerate(FEATURES):
        contributions = np.zeros(len(FEATURES) + 1)
        contributions[index] = 1.0
        assert len(reasons(contributions)) == 1, name


@pytest.mark.parametrize(
    ("changes", "fired"),
    [
        ({}, []),
        ({"blocked_customers": {"ids": [2], "outcome": "decline"}}, ["blocked_customers"]),
        ({"blocked_terminals": {"ids": [3], "outcome": "review"}}, ["blocked_terminals"]),
        ({"amount_cap": {"most": 10.49, "outcome": "review"}}, ["amount_cap"]),
        ({"amount_cap": {"most": 10.5, "outcome": "review"}}, []),
    ],
)
def test_rules_fire_on_what_they_name(changes, fired):
    hits = broken_rules(2, 3, 10.5, {**DEFAULT_RULES, **changes})
    assert [hit.rule for hit in hits] == fired


def learned(event, asked, stored):
    updates = serving.learn(event, stored) if asked is None else serving.learn_label(event, asked, stored)
    return {**stored, **{update.key: Stored(update.values, update.event_time, "present") for update in updates}}


def test_what_was_learned_is_in_the_next_features():
    nothing = {key: Stored({}, None, "missing") for key in serving.keys(REQUEST)}
    stored = learned(REQUEST, None, nothing)
    feedback = FraudFeedback(transaction_id=1, fraud=True, arrived_at=AT + timedelta(days=7))
    stored = learned(feedback, REQUEST, stored)
    later = REQUEST.model_copy(update={"transaction_id": 9, "tx_datetime": AT + timedelta(days=7, hours=1)})
    row = dict(zip(FEATURES, serving.features(stored, later).tolist(), strict=True))
    assert row["TERMINAL_ID_RISK_1DAY_WINDOW"] == 1
    assert row["CUSTOMER_ID_NB_TX_30DAY_WINDOW"] == 2
    assert row["CUSTOMER_ID_NB_TX_7DAY_WINDOW"] == 1
    assert row["AMOUNT_TO_CUSTOMER_MEAN_RATIO"] == 1


def test_times_of_stored_values_never_go_back():
    (customer, terminal) = serving.keys(REQUEST)
    later = AT + timedelta(days=1)
    stored = {key: Stored({}, later, "present") for key in (customer, terminal)}
    assert {update.event_time for update in serving.learn(REQUEST, stored)} == {later}


def test_moments_become_utc():
    text = REQUEST.model_dump_json().replace("2018-09-03T12:00:00Z", "2018-09-03T14:00:00+02:00")
    request = FraudRequest.model_validate_json(text)
    assert request == REQUEST
    assert request.tx_datetime.tzinfo is UTC


@pytest.mark.parametrize("amount", [0, 0.01, 1.1 * 3, 5 * 12.34, 1_000_000])
def test_amounts_of_cents_are_taken(amount):
    assert REQUEST.model_validate({**REQUEST.model_dump(), "amount": amount}).amount == amount


@pytest.mark.parametrize("amount", [0.001, -0.01, float("nan"), float("inf"), 1_000_000.01, "1"])
def test_other_amounts_are_refused(amount):
    with pytest.raises(ValidationError):
        REQUEST.model_validate({**REQUEST.model_dump(), "amount": amount})


def test_a_label_says_where_and_when_or_neither():
    with pytest.raises(ValidationError, match="together or not at all"):
        FraudFeedback(transaction_id=1, fraud=True, arrived_at=AT, terminal_id=3)
    assert serving.keys(FraudFeedback(transaction_id=1, fraud=True, arrived_at=AT)) == ()
