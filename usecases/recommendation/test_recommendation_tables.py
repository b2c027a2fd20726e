"""The features by hand, online against offline to the bit, and nothing from the future."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usecases.recommendation import features, tables
from usecases.recommendation.features import (
    DAY_US,
    FEATURES,
    LIKED,
    NOTHING,
    NOTHING_TRENDS,
    POPULAR,
    History,
    Trending,
    history_of,
    inputs,
    micros,
    named,
    popular,
    stacked,
    trending_of,
    unpack,
    with_looked_at,
)
from usecases.recommendation.items import GENRES, VECTOR, content_vectors, genre_bits, genre_flags, genres_of

START = datetime(2020, 1, 1, tzinfo=UTC)
NOON = micros(datetime(2020, 1, 8, 12, tzinfo=UTC))
TEXTS = ("Drama", "Comedy|Romance", "", "Sci-Fi|Rock opera")


def raw_rows(times, users, items, ratings):
    """Canonical rows; what an item is follows from its id."""
    at = pd.Series(np.asarray(times, np.int64).astype("datetime64[us]")).dt.tz_localize("UTC")
    frame = pd.DataFrame({"USER_ID": users, "ITEM_ID": items, "RATING": ratings, "AT": at})
    frame = frame.astype({"USER_ID": np.int64, "ITEM_ID": np.int64, "RATING": np.float64})
    frame = frame.sort_values(["AT", "USER_ID", "ITEM_ID"], kind="stable", ignore_index=True)
    frame.insert(0, "EVENT_ID", np.arange(len(frame)))
    about = {"GENRES": [TEXTS[item % 4] for item in frame["ITEM_ID"]], "YEAR": frame["ITEM_ID"] % 3 * 1_000}
    return frame.assign(TITLE="", **about)


def some(seed=0, count=400, users=8):
    draw = np.random.default_rng(seed)
    times = micros(START) + np.sort(draw.integers(0, 90 * DAY_US, count) // 3_600_000_000 * 3_600_000_000)
    return raw_rows(times, draw.integers(0, users, count), draw.integers(0, 60, count), draw.integers(1, 11, count) / 2)


def past(*events):
    """(microseconds, item, rating, genres) as a history."""
    times, items, ratings, genres = (np.array(column) for column in zip(*events, strict=True))
    return History(times.astype(np.int64), items.astype(np.int64), ratings.astype(float), genres.astype(np.int64))


def values(history=NOTHING, trending=NOTHING_TRENDS, moment=NOON, asked=0):
    return dict(zip(FEATURES, named(history, trending, moment, asked).tolist(), strict=True))


# --- items --------------------------------------------------------------------------------------


def test_genres_travel_as_bits():
    bits = genre_bits(" drama|Film-Noir |Opera")
    assert genres_of(bits) == ("Drama", "Film-Noir", "Other")
    assert genre_flags(np.array([bits, 0])).sum(axis=1).tolist() == [3, 0]
    assert genre_bits("") == genre_bits("|") == 0


def test_items_with_the_same_genres_are_alike_and_those_of_a_time_more_so():
    drama, horror = genre_bits("Drama"), genre_bits("Horror")
    of = content_vectors(np.array([drama, drama, drama, horror, 0, 0]), np.array([1980, 1985, 2020, 1980, 1980, 0]))
    likeness = of @ of[0]
    assert of.shape == (6, VECTOR)
    assert likeness[0] == pytest.approx(1)
    assert likeness[1] > likeness[2] > likeness[3] > 0
    assert (of[5] == 0).all()


# --- named features -----------------------------------------------------------------------------


def test_of_a_new_user_only_the_moment_is_known():
    found = values()
    assert {name for name, value in found.items() if value} == {"user_days_since_last", "hour", "weekday"}
    assert (found["hour"], found["weekday"], found["user_days_since_last"]) == (12, 2, 3_650)


def test_what_is_known_of_a_user():
    drama, comedy = genre_bits("Drama"), genre_bits("Comedy|Drama")
    history = past(
        (NOON - 40 * DAY_US, 1, 5.0, drama),
        (NOON - 30 * DAY_US, 2, 4.0, comedy),
        (NOON - DAY_US, 3, 3.0, drama),
        (NOON - DAY_US // 2, 4, 2.0, drama),
    )
    found = values(history, Trending(np.array([NOON - 5, NOON - 4]), np.array([7, 7])), asked=genre_bits("War"))
    wanted = {
        "user_events": 4, "user_events_1d": 2, "user_events_30d": 3, "user_likes": 2, "user_mean_rating": 3.5,
        "user_rating_std": np.float32(np.sqrt(1.25)), "user_days_since_last": 0.5, "user_days_since_first": 40,
        "trending_likes": 2, "hour": 12, "weekday": 2, "taste_drama": 1, "taste_comedy": 0.5, "asked_war": 1,
    }  # fmt: skip
    assert {name: value for name, value in found.items() if value} == wanted


@pytest.mark.parametrize(("moment", "weekday", "hour"), [("2018-07-06T23:59", 4, 23), ("1969-12-27T03:00", 5, 3)])
def test_weekday_and_hour(moment, weekday, hour):
    found = values(moment=micros(datetime.fromisoformat(moment).replace(tzinfo=UTC)))
    assert (found["weekday"], found["hour"]) == (weekday, hour)


# --- what is popular ----------------------------------------------------------------------------


def test_popular_is_what_was_liked_lately_and_often():
    likes = Trending(NOON - np.array([30, 15, 15, 1, 0.5]) * DAY_US, np.array([5, 9, 9, 3, 4]))
    ids, weights = popular(Trending(likes.times.astype(np.int64), likes.items), NOON)
    assert (ids.shape, weights.shape) == ((POPULAR,), (POPULAR,))
    assert ids[:5].tolist() == [9, 4, 3, 5, -1]
    np.testing.assert_allclose(weights[:5], [1, 2 ** (-0.5 / 15), 2 ** (-1 / 15), 1 / 4, 0], rtol=1e-6)


def test_of_equally_popular_items_the_lower_ids_come_first_and_the_rest_is_cut():
    items = np.arange(POPULAR + 50)[::-1]
    ids, _ = popular(Trending(np.full(len(items), NOON - 1), items), NOON)
    assert ids.tolist() == list(range(POPULAR))


def test_likes_count_for_thirty_days_and_not_at_their_own_moment():
    likes = Trending(NOON + np.array([-30 * DAY_US - 1, -30 * DAY_US, -1, 0, 1]), np.arange(5))
    assert likes.until(NOON).items.tolist() == [1, 2]


def test_only_the_newest_likes_count(monkeypatch):
    monkeypatch.setattr(features, "MOST_TRENDING", 3)
    likes = NOTHING_TRENDS
    for item in range(20):
        likes = likes.after(NOON + item // 2, item)
    assert likes.until(NOON + 9).items.tolist() == [15, 16, 17]
    assert len(likes.times) == 6


# --- histories ----------------------------------------------------------------------------------


def test_an_event_goes_after_those_of_its_time():
    before = past((NOON, 1, 5.0, 0), (NOON + 5, 2, 4.0, 1))
    after = before.after(NOON, 3, 0.5, 4)
    assert after.items.tolist() == [1, 3, 2]
    assert (after.ratings.tolist(), after.genres.tolist()) == ([5.0, 0.5, 4.0], [0, 4, 1])
    assert before.items.tolist() == [1, 2]
    assert after.until(NOON + 5).items.tolist() == [1, 3]
    assert after.until(NOON).items.tolist() == []


def test_a_history_is_bounded(monkeypatch):
    monkeypatch.setattr(features, "MOST_EVENTS", 2)
    history = NOTHING.after(NOON, 1, 5.0, 0).after(NOON + 2, 2, 5.0, 0).after(NOON + 1, 3, 5.0, 0)
    assert history.items.tolist() == [3, 2]


def test_stored_rows_are_read_back():
    history, likes = past((NOON, 1, 5.0, 2)), Trending(np.array([NOON]), np.array([7]))
    assert history_of({name: list(of) for name, of in vars(history).items()}) == history
    assert trending_of({name: list(of) for name, of in vars(likes).items()}) == likes


# --- inputs -------------------------------------------------------------------------------------


def test_inputs_are_told_apart_again():
    history = past((NOON - 2 * DAY_US, 2**24 - 1, 3.5, 1), (NOON - DAY_US, 4, 5.0, 2), (NOON, 9, 5.0, 2))
    likes = Trending(np.array([NOON - 1]), np.array([7]))
    context = np.arange(VECTOR, dtype=np.float32)
    row = inputs(history, likes, NOON, genre_bits("War"), context)
    told = unpack(stacked([inputs(NOTHING, NOTHING_TRENDS, NOON), row, with_looked_at(row, 11)]))
    assert told.items.tolist() == [[-1, -1, -1], [2**24 - 1, 4, -1], [2**24 - 1, 4, 11]]
    assert told.ratings.tolist() == [[0, 0, 0], [3.5, 5, 0], [3.5, 5, 5]]
    assert told.ages.tolist() == [[0, 0, 0], [2, 1, 0], [2, 1, 0]]
    assert told.popular_ids[:, :2].tolist() == [[-1, -1], [7, -1], [7, -1]]
    assert told.popular_weights[:, 0].tolist() == pytest.approx([0, 1, 1])
    np.testing.assert_array_equal(told.context, [np.zeros(VECTOR), context, context])
    np.testing.assert_array_equal(told.named[1], named(history.until(NOON), likes, NOON, genre_bits("War")))
    assert FEATURES[-len(GENRES) :][GENRES.index("War")] == "asked_war"


def test_a_batch_of_nobody():
    assert unpack(stacked([])).items.shape == (0, 0)


# --- online == offline --------------------------------------------------------------------------


@st.composite
def streams(draw):
    """Events of few users and items, so that ties and edges of windows are common; in order of time."""
    gaps = st.sampled_from([0, 0, 1, DAY_US // 3, DAY_US, DAY_US + 1, 15 * DAY_US, 30 * DAY_US - 1, 30 * DAY_US])
    count = draw(st.integers(1, 40))
    columns = (gaps, st.integers(0, 3), st.integers(0, 9), st.sampled_from([0.5, 3.5, LIKED, 4.5, 5.0]))
    drawn = [draw(st.lists(column, min_size=count, max_size=count)) for column in columns]
    return raw_rows(micros(START) + np.cumsum(drawn[0]), *drawn[1:])


def served(raw, histories, likes):
    """The inputs of each event as a gateway makes them: before what it, or another of its moment, teaches."""
    times = tables.microseconds(raw["AT"]).tolist()
    columns = (raw[name].tolist() for name in ("USER_ID", "ITEM_ID", "RATING", "GENRES"))
    rows, waiting = [], []
    for at, user, item, rating, genres in zip(times, *columns, strict=True):
        if waiting and waiting[-1][0] < at:
            histories, likes = learned(waiting, histories, likes)
            waiting = []
        rows.append(inputs(histories.get(user, NOTHING), likes, at))
        waiting.append((at, user, item, rating, genres))
    return rows, learned(waiting, histories, likes)


def learned(events, histories, likes):
    histories = dict(histories)
    for at, user, item, rating, genres in events:
        histories[user] = histories.get(user, NOTHING).after(at, item, rating, genre_bits(genres))
        likes = likes.after(at, item) if rating >= LIKED else likes
    return histories, likes


def assert_same_bits(rows, raw, whole):
    """Online rows against the offline table and payload of the same events."""
    table = tables.features(whole)["event_features"].set_index("EVENT_ID").loc[raw["EVENT_ID"]]
    offline = tables.with_payload(raw, whole)
    for row, expected, wanted in zip(rows, table[list(FEATURES)].to_numpy(), offline[tables.PAYLOAD], strict=True):
        np.testing.assert_array_equal(row[: len(FEATURES)].view(np.int32), expected.view(np.int32))
        np.testing.assert_array_equal(row.view(np.int32), wanted.view(np.int32))


@given(streams())
@settings(max_examples=50, deadline=None)
def test_online_is_offline_to_the_bit(raw):
    rows, _ = served(raw, {}, NOTHING_TRENDS)
    assert_same_bits(rows, raw, raw)


@given(streams(), st.integers(0, 39))
@settings(max_examples=40, deadline=None)
def test_a_store_started_from_the_snapshot_serves_what_offline_says(raw, first):
    moment = raw["AT"].iloc[min(first, len(raw) - 1)].to_pydatetime()
    taken = tables.history(raw, moment)
    histories = {row["USER_ID"]: history_of(row) for row in taken["user_history"].to_dict("records")}
    likes = trending_of(taken["trending"].to_dict("records")[0])
    later = raw[raw["AT"] >= moment]
    rows, _ = served(later, histories, likes)
    assert_same_bits(rows, later, raw)


def test_updates_leave_what_the_snapshot_holds():
    raw = some()
    _, (histories, likes) = served(raw, {}, NOTHING_TRENDS)
    end = raw["AT"].max().to_pydatetime() + timedelta(seconds=1)
    taken = tables.history(raw, end)
    for row in taken["user_history"].to_dict("records"):
        for name, array in vars(histories[row["USER_ID"]]).items():
            np.testing.assert_array_equal(array, row[name])
    kept = likes.until(micros(end))
    stored = taken["trending"].to_dict("records")[0]
    np.testing.assert_array_equal(kept.times, stored["times"])
    np.testing.assert_array_equal(kept.items, stored["items"])


# --- point in time ------------------------------------------------------------------------------


@given(st.integers(0, 199), st.integers(0, 1_000))
@settings(max_examples=20, deadline=None)
def test_an_event_planted_in_the_future_changes_nothing(place, seed):
    """The same user's, at the moment itself or later, liked, and of an item that nobody knew."""
    raw = some(count=200)
    draw = np.random.default_rng(seed)
    row = raw.iloc[[place]]
    later = row["AT"] + timedelta(microseconds=int(draw.choice([0, 1, DAY_US])))
    planted = row.assign(AT=later, ITEM_ID=9_999, RATING=5.0, EVENT_ID=-1, GENRES="Western")
    mixed = pd.concat([raw, planted]).sort_values(["AT", "USER_ID", "ITEM_ID"], ignore_index=True)
    before = raw[raw["AT"] <= row["AT"].iloc[0]]
    one, other = (tables.features(of)["event_features"].set_index("EVENT_ID") for of in (raw, mixed))
    pd.testing.assert_frame_equal(one.loc[before["EVENT_ID"]], other.loc[before["EVENT_ID"]])
    asked, again = (tables.with_payload(before.tail(5), of)[tables.PAYLOAD] for of in (raw, mixed))
    for payload, same in zip(asked, again, strict=True):
        np.testing.assert_array_equal(payload, same)


def test_the_table_has_one_row_an_event_in_the_order_of_the_rows():
    raw = some()
    table = tables.features(raw)["event_features"]
    assert table.columns.tolist() == ["EVENT_ID", "event_timestamp", *FEATURES]
    assert table["EVENT_ID"].tolist() == raw["EVENT_ID"].tolist()
    assert (table["event_timestamp"] == raw["AT"]).all()
    assert set(table[list(FEATURES)].dtypes) == {np.dtype(np.float32)}
    counted = raw.groupby("USER_ID").cumcount()
    tied = raw.duplicated(["USER_ID", "AT"], keep=False)
    assert (table["user_events"] == counted)[~tied].all()


# --- snapshot -----------------------------------------------------------------------------------


def test_the_snapshot_of_a_moment():
    """Likes a day, a year and longer ago, one at the moment, and an item that nobody has rated yet."""
    days = [-400, -365, -30, -1, 0, 5]
    rows = raw_rows([NOON + day * DAY_US for day in days], [1, 1, 2, 1, 1, 2], [4, 4, 4, 5, 4, 6], [5, 4, 4, 3, 5, 5])
    moment = datetime(2020, 1, 8, 12, tzinfo=UTC)
    taken = tables.history(rows, moment)
    users = {row["USER_ID"]: row for row in taken["user_history"].to_dict("records")}
    assert users[1]["items"].tolist() == [4, 4, 5]
    assert users[2]["items"].tolist() == [4]
    trends = taken["trending"].to_dict("records")
    assert [(row["CATALOGUE_ID"], row["items"].tolist()) for row in trends] == [(tables.CATALOGUE, [4])]
    profiles = taken["item_profile"].drop(columns="event_timestamp").set_index("ITEM_ID").T.to_dict()
    assert profiles[4] == {
        "genres": genre_bits("Drama"), "year": 1_000, "likes": 3, "likes_30d": 1, "likes_365d": 2, "age_days": 400,
    }  # fmt: skip
    assert (profiles[5]["likes"], profiles[5]["age_days"]) == (0, 1)
    assert (profiles[6]["likes"], profiles[6]["age_days"], profiles[6]["year"]) == (0, 0, 0)
    vectors = taken["item_vectors"].set_index("ITEM_ID")["vector"]
    np.testing.assert_array_equal(vectors[4], content_vectors(np.array([genre_bits("Drama")]), np.array([1_000]))[0])
    assert all((table["event_timestamp"] == moment).all() for table in taken.values())


def test_a_snapshot_claims_nothing_beyond_the_rows():
    raw = some()
    taken = tables.history(raw, datetime(2021, 1, 1, tzinfo=UTC))
    assert {stamp for table in taken.values() for stamp in table["event_timestamp"]} == {raw["AT"].max()}
    assert taken["trending"]["items"].iloc[0].size == 0


@pytest.mark.parametrize("count", [0, 1])
def test_hardly_any_rows(count):
    few = some().iloc[:count]
    assert len(tables.features(few)["event_features"]) == count
    taken = tables.history(few, datetime(2021, 1, 1, tzinfo=UTC))
    assert [len(table) for table in taken.values()] == [count, 1, count, count]
    assert tables.inputs(tables.with_payload(few, few)).shape[0] == count
