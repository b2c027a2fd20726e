"""What was told online, collected and computed again offline, says of every user what the store says."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.usecase import Stored
from usecases.recommendation.collected import collected
from usecases.recommendation.features import micros
from usecases.recommendation.items import genre_bits
from usecases.recommendation.requests import Context, RecommendationFeedback, RecommendationRequest
from usecases.recommendation.serving import serving
from usecases.recommendation.source import validate
from usecases.recommendation.tables import asked, history, item_table, microseconds

START = datetime(2016, 6, 1, tzinfo=UTC)
KNOWN = validate(
    pd.DataFrame(
        {
            "USER_ID": [1, 1, 2, 2, 3],
            "ITEM_ID": [10, 11, 10, 12, 13],
            "RATING": [4.0, 2.5, 5.0, 3.0, 4.5],
            "AT": [START - timedelta(days=each) for each in (40, 30, 20, 2, 1)],
            "TITLE": ["A", "B", "A", "C", "D"],
            "GENRES": ["Drama", "Comedy|Romance", "Drama", "Horror", "War"],
            "YEAR": [1990, 1991, 1990, 2000, 0],
        }
    )
)
SECONDS = st.integers(0, 40 * 86_400)
USERS, ITEMS = st.integers(1, 5), st.integers(10, 15)
"""more than are known"""


def knowing(columns):
    return KNOWN[list(columns)]


def added(rows, events):
    """Rows, and what was collected of events."""
    new = collected([], events, knowing)
    return rows if new.empty else pd.concat([rows, new], ignore_index=True)


def nothing(columns):
    return pd.DataFrame(columns=list(columns))


@st.composite
def told(draw):
    event = draw(st.sampled_from(["impression", "click", "purchase", "rating"]))
    rating = draw(st.sampled_from([0.5, 3.5, 4.0, 5.0])) if event == "rating" else None
    at = START + timedelta(seconds=draw(SECONDS))
    user, item = draw(USERS), draw(ITEMS)
    return RecommendationFeedback(user_id=user, item_id=item, event=event, rating=rating, at=at)


class Store:
    """What is online, filled with all that was known at the start."""

    def __init__(self):
        tables = history(KNOWN, START)
        keys = {"user_history": "USER_ID", "trending": "CATALOGUE_ID", "item_profile": "ITEM_ID"}
        self.rows = {
            (view, row[entity]): Stored(row, row["event_timestamp"].to_pydatetime(), "present")
            for view, entity in keys.items()
            for row in tables[view].to_dict("records")
        }

    def read(self, keys):
        return {key: self.rows.get((key.view, key.entity), Stored({}, None, "missing")) for key in keys}

    def learn(self, event):
        for update in serving.learn_label(event, None, self.read(serving.keys(event))):
            stored = Stored(update.values, update.event_time, "present")
            self.rows[update.key.view, update.key.entity] = stored


@settings(max_examples=60, deadline=None)
@given(st.lists(told(), max_size=12), st.lists(st.tuples(USERS, SECONDS), min_size=1, max_size=4))
def test_what_the_store_learned_is_what_is_computed_again(events, asks):
    """Whatever came twice, in another order or of what nobody knows; not of the past, whose likes are forgotten."""
    last = max([START, *(event.at for event in events)])
    requests = [
        RecommendationRequest(user_id=user, at=last + timedelta(seconds=later), context=Context(genres=("War",)))
        for user, later in asks
    ]
    store = Store()
    for event in events:
        store.learn(event)
    rows = added(KNOWN, events)
    [table] = asked(validate(rows), requests).values()
    served = [serving.features(store.read(serving.keys(each)), each)[: len(serving.feature_names)] for each in requests]
    np.testing.assert_array_equal(table[list(serving.feature_names)].to_numpy(), np.array(served))
    assert table["EVENT_ID"].tolist() == [each.request_id for each in requests]


@settings(max_examples=60, deadline=None)
@given(st.lists(told(), max_size=12))
def test_what_is_known_keeps_its_number_and_what_is_collected_again_adds_nothing(events):
    once = validate(added(KNOWN, events))
    before = once[once["EVENT_ID"] < len(KNOWN)].reset_index(drop=True)
    pd.testing.assert_frame_equal(before, KNOWN)
    assert once["EVENT_ID"].is_unique
    again = validate(added(once, events))
    pd.testing.assert_frame_equal(again, once)


def test_an_item_is_what_is_known_of_it_or_nothing_yet():
    click = RecommendationFeedback(user_id=9, item_id=11, event="click", at=START)
    new = click.model_copy(update={"item_id": 99})
    rows = collected([], [click, new], knowing)
    assert rows[["TITLE", "GENRES", "YEAR"]].values.tolist() == [["B", "Comedy|Romance", 1991], ["", "", 0]]
    assert rows["RATING"].tolist() == [4.0, 4.0]
    table = item_table(validate(added(KNOWN, [click, new]))).set_index("ITEM_ID")
    assert table.loc[11, "genres"] == genre_bits("Comedy|Romance")
    assert table.loc[99, "genres"] == 0
    assert microseconds(rows["AT"]).tolist() == [micros(START)] * 2


def test_an_impression_teaches_nothing():
    shown = RecommendationFeedback(user_id=9, item_id=11, event="impression", at=START)
    assert collected([], [shown], nothing).empty
