"""The split keeps time, patients and the label delay, and says what to do where a window holds too little."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.usecase import Window
from usecases.imaging.protocol import LABEL_DELAY, TEST_SPAN, WindowRefused, split

FIRST, DAYS = datetime(2024, 1, 1, tzinfo=UTC), 600
AS_OF = FIRST + timedelta(days=DAYS)


def films(count=1_200, seed=0, patients=800, part=""):
    draw = np.random.default_rng(seed)
    moments = pd.to_datetime([FIRST + timedelta(days=DAYS) / count * place for place in range(count)], utc=True)
    return pd.DataFrame(
        {
            "film_id": [f"film-{place}" for place in range(count)],
            "patient_id": [f"patient-{number}" for number in draw.integers(0, patients, count)],
            "taken_at": moments.as_unit("us"),
            "label": draw.integers(0, 2, count).astype(np.int8),
            "part": part,
        }
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), patients=st.integers(700, 3_000), back=st.integers(0, 200), days=st.integers(200, 900))
def test_time_patients_and_the_label_delay_are_kept(seed, patients, back, days):
    as_of = AS_OF - timedelta(days=back)
    found = split(films(seed=seed, patients=patients), Window(as_of, days))
    (learn, check), test = found.folds[0], found.test
    assert test["taken_at"].max() + LABEL_DELAY <= as_of
    assert test["taken_at"].min() > as_of - LABEL_DELAY - TEST_SPAN
    for earlier, later in ((found.train, test), (learn, check)):
        assert earlier["taken_at"].max() + LABEL_DELAY <= later["taken_at"].min()
        assert not set(earlier["patient_id"]) & set(later["patient_id"])
    assert set(learn["film_id"]) | set(check["film_id"]) <= set(found.train["film_id"])
    assert found.train["taken_at"].max() - found.train["taken_at"].min() < timedelta(days=days)


def test_official_parts_are_kept_whatever_their_patients():
    rows = films(patients=10)
    rows["part"] = np.repeat(["train", "validation", "test"], [900, 150, 150])
    found = split(rows, Window(AS_OF + LABEL_DELAY, 900))
    assert [len(part) for part in (*found.folds[0], found.test, found.train)] == [900, 150, 150, 1_050]
    assert set(found.test["part"]) == {"test"}


@pytest.mark.parametrize(
    ("rows", "as_of", "what"),
    [
        (films(), FIRST + timedelta(days=20), "to train"),
        (films(), FIRST + timedelta(days=130), "to train"),
        (films().assign(label=np.int8(0)), AS_OF, "0 and"),
        (films().iloc[:0], AS_OF, "0 and 0"),
    ],
    ids=["nothing before", "nothing to learn from", "one class", "no films"],
)
def test_too_little_is_refused_with_what_to_do(rows, as_of, what):
    with pytest.raises(WindowRefused, match=what) as refused:
        split(rows, Window(as_of, 900))
    assert "choose another --as-of, more --days, or more data" in str(refused.value)
