"""The feature tables of raw events: what was known at each event's moment, and what the store holds at one."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import cast

import numpy as np
import pandas as pd
from pydantic import BaseModel

from orrery.usecase import Array
from usecases.recommendation import features as definitions
from usecases.recommendation.features import DAY_US, FEATURES, LIKED, History, Trending
from usecases.recommendation.items import content_vectors, genre_bits
from usecases.recommendation.requests import RecommendationRequest

CATALOGUE = 1
"""the one catalogue that there is"""
PAYLOAD = "PAYLOAD"
"""column of query rows: the row's whole inputs"""


def features(raw: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Canonical raw rows -> the table of the view `event_features`, one row each, in the same order, float32."""
    values = np.empty((len(raw), len(FEATURES)), np.float32)
    likes = trending(raw)
    for places, moments, past in _users(raw):
        for place, moment in zip(places.tolist(), moments.tolist(), strict=True):
            values[place] = definitions.named(past.until(moment), likes.until(moment), moment)
    frame = pd.DataFrame(values, columns=list(FEATURES))
    frame.insert(0, "EVENT_ID", raw["EVENT_ID"].to_numpy())
    frame.insert(1, "event_timestamp", raw["AT"].array)
    return {"event_features": frame}


def asked(raw: pd.DataFrame, requests: Sequence[BaseModel]) -> dict[str, pd.DataFrame]:
    """Canonical raw rows, requests -> the table of `event_features` of these, by the ids that they have."""
    past, likes = dict(histories(raw)), trending(raw)
    said = [cast("RecommendationRequest", each) for each in requests]
    moments = [definitions.micros(each.at) for each in said]
    values = [
        definitions.named(
            past.get(each.user_id, definitions.NOTHING).until(moment), likes.until(moment), moment, each.context.bits
        )
        for each, moment in zip(said, moments, strict=True)
    ]
    frame = pd.DataFrame(np.array(values).reshape(len(said), len(FEATURES)), columns=list(FEATURES))
    frame.insert(0, "EVENT_ID", [each.request_id for each in said])
    frame.insert(1, "event_timestamp", pd.to_datetime(moments, unit="us", utc=True).as_unit("us"))
    return {"event_features": frame}


def with_payload(rows: pd.DataFrame, raw: pd.DataFrame) -> pd.DataFrame:
    """`rows`, some of the events `raw`, with the whole inputs of each at its moment in the column `PAYLOAD`."""
    past, likes = dict(histories(raw)), trending(raw)
    moments = microseconds(rows["AT"]).tolist()
    inputs = [
        definitions.inputs(past[user], likes, moment) for user, moment in zip(rows["USER_ID"], moments, strict=True)
    ]
    return rows.assign(**{PAYLOAD: pd.Series(inputs, index=rows.index, dtype=object)})


def inputs(rows: pd.DataFrame) -> Array:
    """The model's inputs of query rows, float32, shape (n, width)."""
    return definitions.stacked(list(rows[PAYLOAD]))


def history(raw: pd.DataFrame, moment: datetime) -> dict[str, pd.DataFrame]:
    """Canonical raw rows -> what the online views hold at `moment`: one row an entity, events strictly before it.

    `event_timestamp` is the moment, or where the rows end, if that is earlier.
    """
    known = raw[raw["AT"] < moment]
    as_of = min(pd.Timestamp(moment), raw["AT"].max()) if len(raw) else pd.Timestamp(moment)
    now = definitions.micros(moment)
    users = [(user, past.times, past.items, past.ratings, past.genres) for user, past in histories(known)]
    likes = trending(known).until(now)
    items = item_table(raw)
    return {
        "user_history": _stamped(
            pd.DataFrame(users, columns=["USER_ID", "times", "items", "ratings", "genres"]), as_of
        ),
        "trending": _stamped(
            pd.DataFrame({"CATALOGUE_ID": [CATALOGUE], "times": [likes.times], "items": [likes.items]}), as_of
        ),
        "item_profile": _stamped(_profiles(items, known, now), as_of),
        "item_vectors": _stamped(_vectors(items), as_of),
    }


def item_table(raw: pd.DataFrame) -> pd.DataFrame:
    """One row an item, by ascending id: ITEM_ID, TITLE, YEAR, and its genres as bits."""
    items = raw.drop_duplicates("ITEM_ID").sort_values("ITEM_ID")[["ITEM_ID", "TITLE", "GENRES", "YEAR"]]
    bits = {text: genre_bits(text) for text in items["GENRES"].unique()}
    return items.assign(genres=items["GENRES"].map(bits).astype(np.int64)).reset_index(drop=True)


def trending(raw: pd.DataFrame) -> Trending:
    """All likes of the rows, oldest first."""
    likes = raw[raw["RATING"] >= LIKED]
    return Trending(microseconds(likes["AT"]), likes["ITEM_ID"].to_numpy(np.int64))


def histories(raw: pd.DataFrame) -> Iterator[tuple[int, History]]:
    """Every user, ascending, with all events, oldest first."""
    users = raw["USER_ID"].tolist()
    for places, _, past in _users(raw):
        yield users[places[0]], past


def microseconds(moments: pd.Series) -> Array:
    """datetime64[us, UTC] as int64 microseconds since the Unix epoch."""
    return np.asarray(moments.dt.tz_convert(None).to_numpy(dtype="datetime64[us]").astype(np.int64))


def _users(raw: pd.DataFrame) -> Iterator[tuple[Array, Array, History]]:
    """Of every user: the places of the rows, their moments, and the history that they make."""
    users = raw["USER_ID"].to_numpy()
    order = np.argsort(users, kind="stable")
    bits = {text: genre_bits(text) for text in raw["GENRES"].unique()}
    whole = History(
        microseconds(raw["AT"]),
        raw["ITEM_ID"].to_numpy(np.int64),
        raw["RATING"].to_numpy(np.float64),
        raw["GENRES"].map(bits).to_numpy(np.int64),
    )
    starts = np.flatnonzero(np.diff(users[order], prepend=-1))
    for places in np.split(order, starts[1:]) if len(order) else ():
        yield places, whole.times[places], History(*(getattr(whole, name)[places] for name in vars(whole)))


def _profiles(items: pd.DataFrame, known: pd.DataFrame, now: int) -> pd.DataFrame:
    likes = known[known["RATING"] >= LIKED]
    days = (now - microseconds(likes["AT"])) / DAY_US
    ids = items["ITEM_ID"]
    first = known.groupby("ITEM_ID")["AT"].min().reindex(ids)
    counted = {
        name: likes["ITEM_ID"][days <= most].value_counts().reindex(ids, fill_value=0).to_numpy(np.int64)
        for name, most in (("likes", np.inf), ("likes_30d", 30), ("likes_365d", 365))
    }
    age = (now - microseconds(first.fillna(pd.Timestamp(now, unit="us", tz="UTC")))) / DAY_US
    return pd.DataFrame(
        {
            "ITEM_ID": ids.to_numpy(),
            "genres": items["genres"].to_numpy(),
            "year": items["YEAR"].to_numpy(np.int64),
            **counted,
            "age_days": age,
        }
    )


def _vectors(items: pd.DataFrame) -> pd.DataFrame:
    vectors = content_vectors(items["genres"].to_numpy(), items["YEAR"].to_numpy())
    return pd.DataFrame({"ITEM_ID": items["ITEM_ID"], "vector": pd.Series(list(vectors), dtype=object)})


def _stamped(table: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    table.insert(1, "event_timestamp", pd.Series(as_of, index=table.index, dtype="datetime64[us, UTC]"))
    return table
