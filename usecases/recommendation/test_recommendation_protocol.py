"""What is asked of whom and when, and that nothing of it was known before."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.usecase import Window
from usecases.recommendation import tables
from usecases.recommendation.features import FEATURES, unpack
from usecases.recommendation.protocol import (
    DAY,
    KIND,
    KNOWN_ITEMS,
    LAST,
    RELEVANT,
    VISIT,
    WindowRefused,
    judged,
    known_items,
    queries,
    split,
)

START = datetime(2020, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
WEEK = 7 * DAY


def events(*told):
    """(moment in days, user, item, rating) as canonical rows."""
    days, users, items, ratings = zip(*told, strict=True) if told else ((), (), (), ())
    at = pd.Series([START + day * DAY for day in days], dtype="datetime64[us, UTC]")
    frame = pd.DataFrame({"USER_ID": users, "ITEM_ID": items, "RATING": ratings, "AT": at})
    frame = frame.astype({"USER_ID": np.int64, "ITEM_ID": np.int64, "RATING": np.float64})
    frame = frame.sort_values(["AT", "USER_ID", "ITEM_ID"], ignore_index=True)
    frame.insert(0, "EVENT_ID", np.arange(len(frame)))
    return frame.assign(TITLE="", GENRES="Drama", YEAR=2000)


def many(seed=0, users=40, days=2_500, count=2_000):
    """Users who come again and again, and new ones at all times."""
    draw = np.random.default_rng(seed)
    first = draw.uniform(0, days, users)
    user = draw.integers(0, users, count)
    at = np.round(first[user] + draw.uniform(0, 1, count) * (days - first[user]), 1)
    return events(
        *zip(at.tolist(), user, draw.integers(0, 500, count), draw.choice([2.0, 4.0, 5.0], count), strict=True)
    )


def asked(rows, first, last):
    found = queries(rows, START + first * DAY, START + last * DAY)
    days = ((found["AT"] - START) / DAY).tolist()
    relevant = [sorted(ids.tolist()) for ids in found[RELEVANT]]
    return list(zip(found[KIND], found["USER_ID"], days, relevant, strict=True))


# --- queries ------------------------------------------------------------------------------------


def test_a_visit_begins_a_day_after_the_last_event_and_its_likes_are_relevant():
    rows = events((0, 1, 10, 5), (0.9, 1, 11, 4), (1.8, 1, 12, 3), (2.8, 1, 13, 5), (3.7999, 1, 14, 4.5))
    visits = [(day, relevant) for kind, _, day, relevant in asked(rows, 0, 9) if kind == VISIT]
    assert visits == [(0, [10, 11]), (2.8, [13, 14])]


def test_the_last_like_is_asked_at_its_own_moment():
    rows = events((0, 1, 10, 5), (3, 1, 11, 4), (3.5, 1, 12, 2), (3.6, 2, 13, 5))
    assert asked(rows, 1, 9) == [
        (LAST, 1, 3, [11]),
        (VISIT, 1, 3, [11]),
        (LAST, 2, 3.6, [13]),
        (VISIT, 2, 3.6, [13]),
    ]


def test_what_nobody_liked_is_not_asked():
    assert asked(events((1, 1, 10, 3.5), (3, 2, 11, 1)), 0, 9) == []


def test_what_was_seen_is_not_relevant_again():
    rows = events((0, 1, 10, 2), (3, 1, 10, 5), (3.1, 1, 11, 5), (3.2, 1, 11, 5), (6, 1, 11, 5))
    assert asked(rows, 1, 9) == [(VISIT, 1, 3, [11]), (LAST, 1, 3.1, [11])]


def test_a_visit_is_asked_in_the_period_in_which_it_began_and_judged_by_what_happened_in_it():
    rows = events((0.5, 1, 10, 5), (1.2, 1, 11, 5), (1.9, 1, 12, 5))
    assert asked(rows, 1, 9) == [(LAST, 1, 1.9, [12])]
    assert asked(rows, 0, 1) == [(LAST, 1, 0.5, [10]), (VISIT, 1, 0.5, [10])]
    assert asked(rows, 0, 1.5)[0] == (VISIT, 1, 0.5, [10, 11])


@given(st.integers(0, 1_000))
@settings(max_examples=20, deadline=None)
def test_queries_are_what_a_plain_reading_says(seed):
    rows = many(seed, users=6, days=60, count=120)
    start, end = START + 20 * DAY, START + 50 * DAY
    wanted = []
    for user, own in rows[rows["AT"] < end].groupby("USER_ID"):
        moments, items, liked = own["AT"].tolist(), own["ITEM_ID"].tolist(), (own["RATING"] >= 4).tolist()
        visit, last = None, None
        for place, at in enumerate(moments):
            if place == 0 or at - moments[place - 1] >= DAY:
                visit = (at, set())
                wanted.append((VISIT, user, *visit))
            if liked[place] and items[place] not in [i for i, t in zip(items, moments, strict=True) if t < visit[0]]:
                visit[1].add(items[place])
            if liked[place] and items[place] not in [i for i, t in zip(items, moments, strict=True) if t < at]:
                last = (LAST, user, at, {items[place]})
        wanted += [last] if last else []
    found = queries(rows, start, end)
    got = [
        (k, u, a, set(r))
        for k, u, a, r in zip(found[KIND], found["USER_ID"], found["AT"], found[RELEVANT], strict=True)
    ]
    assert sorted(got, key=str) == sorted((each for each in wanted if each[2] >= start and each[3]), key=str)
    assert found["AT"].is_monotonic_increasing


# --- split --------------------------------------------------------------------------------------


def checked(parts, window):
    """What every split must keep."""
    for learned, check in (*parts.folds, (parts.train, parts.test)):
        assert learned["AT"].max() < check["AT"].min()
        told = unpack(tables.inputs(check))
        for place, (relevant, known) in enumerate(zip(check[RELEVANT], check[KNOWN_ITEMS], strict=True)):
            assert not set(relevant) & set(told.items[place])
            assert known.ids.tolist() == sorted(set(learned["ITEM_ID"]))
        assert (told.ages[told.items >= 0] > 0).all()
    assert parts.test["AT"].max() <= window.as_of
    assert {VISIT, LAST} == set(parts.test[KIND])


def test_a_year_tests_and_the_four_before_it_validate():
    rows = many()
    window = Window(START + 2_400 * DAY, 8_000)
    parts = split(rows, window)
    checked(parts, window)
    test_from = window.as_of - 365 * DAY
    pd.testing.assert_frame_equal(parts.train, rows[rows["AT"] < test_from])
    assert test_from <= parts.test["AT"].min() < test_from + 30 * DAY
    assert len(parts.folds) == 4
    for years, (learned, check) in zip((4, 3, 2, 1), parts.folds, strict=True):
        start = test_from - years * 365 * DAY
        pd.testing.assert_frame_equal(learned, rows[rows["AT"] < start])
        assert start <= check["AT"].min()
        assert check["AT"].max() < start + 365 * DAY


def test_the_event_of_as_of_itself_is_asked():
    rows = many()
    last = rows[rows["RATING"] >= 4].iloc[-1]
    assert split(rows, Window(last["AT"].to_pydatetime(), 8_000)).test["AT"].max() == last["AT"]


def test_events_after_as_of_change_nothing():
    rows = many()
    window = Window(START + 2_000 * DAY, 8_000)
    parts, cut = split(rows, window), split(rows[rows["AT"] <= window.as_of], window)
    pd.testing.assert_frame_equal(parts.train, cut.train)
    for one, other in zip((*parts.folds, (None, parts.test)), (*cut.folds, (None, cut.test)), strict=True):
        assert one[1]["EVENT_ID"].tolist() == other[1]["EVENT_ID"].tolist()
        np.testing.assert_array_equal(tables.inputs(one[1]), tables.inputs(other[1]))


@pytest.mark.parametrize("days", [1_000, 300])
def test_a_split_of_the_rows_in_use_is_the_same_split(days):
    """The rows in use are looked up by a first split, and the features joined to them alone."""
    rows = many()
    window = Window(START + 2_400 * DAY, days)
    whole = split(rows, window)
    again = split(rows[rows["AT"] >= whole.train["AT"].min()], window)
    length = min(365, days / 5) * DAY
    assert timedelta(0) <= whole.train["AT"].min() - (window.as_of - length - days * DAY) < 10 * DAY
    pd.testing.assert_frame_equal(whole.train, again.train)
    for one, other in zip(whole.folds, again.folds, strict=True):
        pd.testing.assert_frame_equal(one[0], other[0])
    assert whole.test["AT"].min() >= window.as_of - length
    assert again.test["AT"].min() >= window.as_of - length


def test_features_stay_with_their_rows():
    rows = many(count=1_000)
    window = Window(START + 2_400 * DAY, 8_000)
    table = tables.features(rows)["event_features"]
    parts = split(rows.join(table[list(FEATURES)]), window)
    np.testing.assert_array_equal(parts.test[list(FEATURES)], unpack(tables.inputs(parts.test)).named)
    assert set(FEATURES) <= set(parts.train.columns)
    assert split(rows, window).test["EVENT_ID"].equals(parts.test["EVENT_ID"])


def test_less_than_five_years_are_cut_into_fifths():
    """Seven months of users who come once, as in MovieLens 100K: nearly nobody is warm, and still all is by time."""
    draw = np.random.default_rng(0)
    told = [
        (first + 0.001 * place, user, item, 4.0)
        for user, first in enumerate(np.sort(draw.uniform(0, 215, 200)))
        for place, item in enumerate(draw.choice(100, 20, replace=False).tolist())
    ]
    rows = events(*told)
    window = Window(rows["AT"].max().to_pydatetime(), 8_000)
    parts = split(rows, window)
    checked(parts, window)
    assert parts.train["AT"].max() > window.as_of - 44 * DAY
    assert len(parts.folds) == 3
    assert (unpack(tables.inputs(parts.test[parts.test[KIND] == VISIT])).named[:, 0] == 0).all()


@pytest.mark.parametrize(
    ("rows", "as_of", "why"),
    [
        (events(), 10, "no events until 2020-01-11"),
        (events((5, 1, 1, 5), (6, 2, 1, 5)), 4, "no events until 2020-01-05"),
        (events(*((day, 1, day, 3) for day in range(100))), 99, "another --as-of or more --days"),
        (events(*((day / 2, day % 7, day, 5) for day in range(100)), (99, 1, 200, 2)), 99, "another --as-of"),
        (events((0, 1, 1, 5)), 0, "another --as-of"),
    ],
)
def test_a_window_that_holds_too_little_is_refused(rows, as_of, why):
    with pytest.raises(WindowRefused, match=why):
        split(rows, Window(START + as_of * DAY, 8_000))


def test_known_items_are_found_by_id():
    known = known_items(events((0, 1, 30, 5), (1, 1, 10, 2), (2, 2, 30, 4)))
    assert known.ids.tolist() == [10, 30]
    assert known.likes.tolist() == [0, 2]
    assert known.place(np.array([[30, 31], [-1, 10]])).tolist() == [[1, -1], [-1, 0]]
    np.testing.assert_allclose((known.vectors**2).sum(axis=1), 1, rtol=1e-6)


def test_any_window_may_be_judged_by_its_queries_with_the_features_of_their_moments():
    raw = many()
    table = tables.features(raw)["event_features"].drop(columns="event_timestamp")
    end = START + 2_400 * DAY
    rows = raw[(raw["AT"] >= START + 2_000 * DAY) & (raw["AT"] < end)].merge(table, on="EVENT_ID")
    found = judged(rows, raw[raw["AT"] < end])
    expected = queries(raw, rows["AT"].min().to_pydatetime(), end)
    assert found["EVENT_ID"].tolist() == expected["EVENT_ID"].tolist()
    np.testing.assert_array_equal(found[list(FEATURES)], unpack(tables.inputs(found)).named)
    assert found[KNOWN_ITEMS].iloc[0].ids.max() <= raw["ITEM_ID"].max()
    with pytest.raises(WindowRefused, match="nothing before it"):
        judged(rows, rows)
