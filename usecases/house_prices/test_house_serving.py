"""What is asked badly is refused with a reason; what is answered says how sure it is, and why."""

import math
from datetime import UTC, timedelta

import numpy as np
import pytest
from pydantic import ValidationError

from orrery.usecase import Asked, RuleHit, Scored
from usecases.house_prices.features import FEATURES
from usecases.house_prices.reasons import reasons
from usecases.house_prices.rules import DEFAULT_RULES, unusual_price
from usecases.house_prices.scoring import outputs
from usecases.house_prices.serving import SaleFeedback, SaleRequest, serving

EXAMPLE = serving.example
LEARNED = {
    "centre": 12.0,
    "trees_share": 0.75,
    "linear": {"coefficients": [0.0] * len(FEATURES), "means": [0.0] * len(FEATURES), "intercept": 11.0},
    "interval": {
        "low": -1.0,
        "high": 2.0,
        "coverage": 0.9,
        "scale": {"coefficients": [0.0] * len(FEATURES), "intercept": math.log(0.1), "least": -9.0, "most": 9.0},
    },
}


class Model:
    """A bundle whose trees have one thing to say."""

    def __init__(self, contributions=()):
        self.manifest = type("Manifest", (), {"learned": LEARNED})
        self.given = np.zeros((1, len(FEATURES) + 1))
        for name, value in contributions:
            self.given[0, FEATURES.index(name)] = value

    def run(self, _file, rows):
        return [np.zeros((len(rows), 1), np.float32)]

    def contributions(self, _file, _rows):
        return self.given.copy()


def changed(**changes):
    return SaleRequest.model_validate({**EXAMPLE.model_dump(), **changes})


def answer(request=EXAMPLE, model=None, rules=DEFAULT_RULES, log_price=None):
    model, row = model or Model(), serving.features({}, request)
    said = dict(serving.score(model, row[None]))
    if log_price is not None:
        said |= {"log_price": np.array([log_price]), "low": np.array([log_price]), "high": np.array([log_price])}
    hits = serving.rules(request, rules)
    return serving.respond(
        Scored(request=request, hits=hits, rules=rules, stored={}, inputs=row, outputs=said, model=model)
    )


def test_the_price_is_the_blend_with_its_interval():
    given = answer()
    assert given.price == round(math.exp(0.75 * 12 + 0.25 * 11))
    assert given.low == pytest.approx(given.price * math.exp(-0.1), abs=1)
    assert given.high == pytest.approx(given.price * math.exp(0.2), abs=1)
    assert (given.coverage, given.decision, given.sale_id) == (0.9, "quote", EXAMPLE.sale_id)


def test_a_linear_model_alone_is_linear():
    line = {"coefficients": [2.0, 1.0], "intercept": 0.5}
    interval = {"low": -1.0, "high": 1.0, "scale": line | {"least": -5.0, "most": 0.0}}
    learned = LEARNED | {"trees_share": 0.0, "linear": line, "interval": interval}
    said = outputs(np.zeros(1), np.array([[3.0, 4.0]], np.float32), learned)
    assert said["log_price"] == said["linear"] == [10.5]
    assert said["trees"] == [12.0]
    assert (said["low"], said["high"]) == ([9.5], [11.5])  # the scale is held to what was seen


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"living_area": -5.0}, "greater than or equal to 100"),
        ({"living_area": "1500"}, "valid number"),
        ({"lot_area": float("inf")}, "finite"),
        ({"overall_quality": 11}, "less than or equal to 10"),
        ({"kitchen_quality": "Good"}, "'Po', 'Fa', 'TA', 'Gd' or 'Ex'"),
        ({"bedrooms": 2.5}, "valid integer"),
        ({"neighborhood": ""}, "at least 1 character"),
        ({"year_built": 2013}, "year_built lies more than 2 years after the sale"),
        ({"year_remodelled": 2013}, "year_remodelled lies more than 2 years after the sale"),
        ({"basement_area": 100.0}, "basement_area is less than its finished and unfinished parts"),
        ({"garage_type": "none"}, "garage_type is none, but garage_area is not 0"),
        ({"fireplace_quality": "none"}, "fireplace_quality is none, but fireplaces is not 0"),
        ({"asked_at": EXAMPLE.asked_at.replace(year=1989)}, "between the years 1990 and 2099"),
        ({"asked_at": EXAMPLE.asked_at.replace(tzinfo=None)}, "timezone"),
        ({"price": 1.0}, "Extra inputs"),
    ],
)
def test_a_house_that_cannot_be_is_refused_with_a_reason(changes, message):
    with pytest.raises(ValidationError, match=message):
        changed(**changes)


@pytest.mark.parametrize("price", [0, -1.0, float("nan"), "185000", 1e12])
def test_a_price_that_cannot_be_is_no_feedback(price):
    with pytest.raises(ValidationError):
        SaleFeedback(sale_id=1, price=price, arrived_at=EXAMPLE.asked_at)


def test_only_what_matters_must_be_said():
    needed = {name for name, field in SaleRequest.model_fields.items() if field.is_required()}
    few = EXAMPLE.model_dump(include=needed)
    assert len(needed) < 20
    assert SaleRequest.model_validate(few).garage_type == "none"


def test_moments_become_utc():
    text = EXAMPLE.model_dump_json().replace("2010-07-15T12:00:00Z", "2010-07-15T14:00:00+02:00")
    assert SaleRequest.model_validate_json(text) == EXAMPLE
    assert SaleRequest.model_validate_json(text).asked_at.tzinfo is UTC


@pytest.mark.parametrize(
    ("changes", "fired"),
    [
        ({}, []),
        ({"living_area": 4_000.0}, []),
        ({"living_area": 4_001.0}, ["unusual"]),
        ({"lot_area": 1_000.0, "living_area": 200.0}, ["unusual", "unusual"]),
        ({"neighborhood": "Elsewhere"}, ["unknown_code"]),
        ({"garage_type": "none", "garage_area": 0.0}, []),
        ({"asked_at": EXAMPLE.asked_at + timedelta(days=200)}, ["market"]),
    ],
)
def test_rules_fire_on_what_they_name_and_ask_for_a_person(changes, fired):
    given = answer(changed(**changes))
    assert [rule.rule for rule in given.rules] == fired
    assert given.decision == ("review" if fired else "quote")


def test_a_price_over_the_cap_is_reviewed():
    assert unusual_price(600_000, DEFAULT_RULES) == ()
    given = answer(log_price=math.log(700_000))
    assert (given.decision, given.rules[0].rule) == ("review", "price_cap")


def test_reasons_are_per_cent_of_the_price_most_first_and_only_when_asked_for():
    model = Model([("log_living_area", 0.4), ("log_total_area", 0.4), ("age", -0.4), ("neighborhood_StoneBr", 0.2),
                   ("garage_cars", 0.0004)])  # fmt: skip
    given = answer(model=model)
    assert [(reason.code, reason.percent) for reason in given.reasons] == [
        ("SIZE", 82.2), ("AGE", -25.9), ("LOCATION", 16.2),
    ]  # fmt: skip
    assert given.reasons[1].words == "The age of the house takes off 25.9 %."
    assert given.typical_price == round(math.exp(0.75 * 12 + 0.25 * 11))
    assert answer(changed(explain=False), model=model).reasons == ()


def test_every_feature_has_exactly_one_reason():
    for index, name in enumerate(FEATURES):
        contributions = np.zeros(len(FEATURES) + 1)
        contributions[index] = 1.0
        assert len(reasons(contributions)) == 1, name


def test_without_a_model_there_is_no_price_and_a_person_looks():
    hit = RuleHit("unusual", "review", "lot_area 1 is outside")
    given = serving.fallback(Asked(request=EXAMPLE, hits=(hit,), rules=DEFAULT_RULES, stored={}), Model())
    assert (given.price, given.low, given.high, given.decision, given.degraded) == (None, None, None, "review", True)
    assert given.rules[0].detail == hit.detail


def test_the_label_is_what_the_model_predicts():
    assert serving.label(serving.example_feedback) == pytest.approx(math.log(187_500))
