"""A house has the same inputs alone and among others, and each of them says what its name says."""

import math
from datetime import UTC, datetime, timedelta
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from usecases.house_prices.features import FEATURES, KNOWN
from usecases.house_prices.house import FIELDS, House, contradictions
from usecases.house_prices.serving import SaleRequest, serving
from usecases.house_prices.tables import features

EXAMPLE = serving.example


def of(**changes):
    """The inputs of the example with changes, by name."""
    request = EXAMPLE.model_validate({**EXAMPLE.model_dump(), **changes})
    return dict(zip(FEATURES, serving.features({}, request).tolist(), strict=True))


def field(name):
    """Any value that the field may have."""
    info = House.model_fields[name]
    if get_args(info.annotation) and isinstance(get_args(info.annotation)[0], str):
        return st.sampled_from(get_args(info.annotation))
    if info.annotation is str:
        return st.sampled_from([*KNOWN[name], "none", "Elsewhere"])
    if info.annotation is int:
        least, most = {"overall_quality": (1, 10), "overall_condition": (1, 10)}.get(name, (0, 20))
        return st.integers(1800, 2012) if name.startswith("year_") else st.integers(least, most)
    if name == "lot_frontage":
        return st.none() | st.floats(1, 2_000)
    return st.floats({"living_area": 100, "lot_area": 500}.get(name, 0), 20_000)


def consistent(house):
    return not any(so for _, _, so in contradictions(house, 2010))


HOUSES = st.fixed_dictionaries({name: field(name) for name in FIELDS}).filter(consistent)
MOMENTS = st.integers(0, 364).map(lambda day: datetime(2010, 1, 1, 13, tzinfo=UTC) + timedelta(days=day))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(houses=st.lists(st.tuples(HOUSES, MOMENTS), min_size=1, max_size=5))
def test_any_houses_have_the_same_finite_inputs_alone_and_together(houses):
    requests = [SaleRequest(sale_id=n, asked_at=at, **house) for n, (house, at) in enumerate(houses)]
    rows = pd.DataFrame([{**r.model_dump(), "sold_at": r.asked_at} for r in requests])
    rows["lot_frontage"] = rows["lot_frontage"].astype(float)
    rows["sold_at"] = pd.to_datetime(rows["sold_at"], utc=True).dt.as_unit("us")
    together = features(rows)["house_features"][list(FEATURES)].to_numpy()
    alone = np.stack([serving.features({}, request) for request in requests])
    assert np.isfinite(alone).all()
    np.testing.assert_array_equal(alone, together)


def test_names_are_unique_and_plain():
    assert len(set(FEATURES)) == len(FEATURES)
    assert all(name.isidentifier() for name in FEATURES)


def test_areas_are_logarithms_and_totals():
    given_ = of(living_area=1_000.0, basement_area=500.0, basement_unfinished_area=0.0, lot_area=8_000.0)
    assert given_["log_living_area"] == pytest.approx(math.log(1_000))
    assert given_["log_total_area"] == pytest.approx(math.log(1_500))
    assert given_["log_lot_area"] == pytest.approx(math.log(8_000))
    assert given_["quality_by_area"] == pytest.approx(7 * math.log(1_500), rel=1e-6)


def test_baths_count_half_ones_by_half_wherever_they_are():
    given_ = of(full_baths=2, half_baths=1, basement_full_baths=1, basement_half_baths=1)
    assert given_["baths"] == 4


@pytest.mark.parametrize(
    ("built", "remodelled", "age", "since", "new"),
    [(1998, 1998, 12.5, 12.5, 0), (1998, 2004, 12.5, 6.5, 0), (1998, 1990, 12.5, 12.5, 0), (2009, 2009, 1.5, 1.5, 1),
     (2011, 2011, -0.5, -0.5, 1)],
)  # fmt: skip
def test_age_counts_from_the_month_of_asking(built, remodelled, age, since, new):
    given_ = of(year_built=built, year_remodelled=remodelled)  # asked in July 2010
    assert (given_["age"], given_["years_since_remodel"], given_["new"]) == pytest.approx((age, since, new))
    assert given_["remodelled"] == (remodelled > built)
    assert given_["log_age"] == pytest.approx(math.log1p(max(age, 0)))


def test_an_unknown_length_is_marked():
    assert (of(lot_frontage=None)["log_lot_frontage"], of(lot_frontage=None)["lot_frontage_unknown"]) == (0, 1)
    assert of(lot_frontage=50.0)["lot_frontage_unknown"] == 0


def test_scales_rise_with_what_they_grade():
    grades = [of(basement_quality=code, basement_area=0.0, basement_unfinished_area=0.0)["basement_quality"]
              for code in ("none", "Po", "Fa", "TA", "Gd", "Ex")]  # fmt: skip
    assert grades == [0, 1, 2, 3, 4, 5]
    assert of(functional="Sal")["functional"] < of(functional="Maj1")["functional"] < of(functional="Typ")["functional"]
    assert of(central_air="Y")["central_air"] == 1


def test_a_code_has_one_input_and_an_unknown_one_none():
    names = [name for name in FEATURES if name.startswith("neighborhood_")]
    assert [name for name in names if of(neighborhood="StoneBr")[name]] == ["neighborhood_StoneBr"]
    assert not any(of(neighborhood="Elsewhere")[name] for name in names)


@pytest.mark.slow
def test_the_feature_service_has_the_models_inputs_in_their_order():
    from usecases.house_prices.feature_views import house_prices

    declared = [each.name for view in house_prices.feature_view_projections for each in view.features]
    assert declared == list(FEATURES)
