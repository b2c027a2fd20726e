"""What a feedback is about, whether it can be true, and what it teaches the store."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import numpy as np
from pydantic import BaseModel

from orrery.usecase import Key, StoredByKey, Update
from usecases.recommendation.features import (
    LIKED,
    NOTHING,
    NOTHING_TRENDS,
    History,
    Trending,
    history_of,
    micros,
    trending_of,
)
from usecases.recommendation.requests import RecommendationFeedback, RecommendationRequest

TRENDING = Key("trending", 1)
_BOUGHT = 5.0


def history_key(user: int) -> Key:
    """Where a user's history is stored."""
    return Key("user_history", user)


def identity(event: BaseModel) -> str:
    """The request's id; what happened elsewhere has a name that no request can have."""
    told = cast("RecommendationRequest | RecommendationFeedback", event)
    if told.request_id is not None:
        return told.request_id
    organic = cast("RecommendationFeedback", event)
    return f"{organic.user_id}/{organic.item_id}/{organic.event}/{micros(organic.at)}"


def subject(event: BaseModel) -> str:
    """What of an answer it is about. A rating that is corrected is another subject, or the log would not keep it."""
    told = cast("RecommendationFeedback", event)
    rating = "" if told.rating is None else f":{told.rating:g}"
    return f"{told.event}:{told.item_id}{rating}"


def label(event: BaseModel) -> float:
    """1: the user clicked, bought or liked it."""
    return float(stars(cast("RecommendationFeedback", event)) >= LIKED)


def objection(event: BaseModel, answer: Mapping[str, Any] | None) -> str | None:
    """Why a feedback cannot be about the answer that it names. What was not shown there can be rated and bought."""
    told = cast("RecommendationFeedback", event)
    if told.request_id is None:
        return None
    if answer is None:
        return f"no request {told.request_id} was answered here; leave request_id out for what happened elsewhere"
    if answer["user_id"] != told.user_id:
        return f"request {told.request_id} was not made for user {told.user_id}"
    if told.event in {"impression", "click"} and told.item_id not in {shown["item_id"] for shown in answer["items"]}:
        return f"item {told.item_id} was not shown in answer to request {told.request_id}"
    return None


def stored_history(stored: StoredByKey, user: int) -> History:
    """A user's history, empty if there is none."""
    found = stored.get(history_key(user))
    return history_of(found.values) if found and found.values else NOTHING


def stored_trends(stored: StoredByKey) -> Trending:
    """What all users liked lately, empty if nothing is stored."""
    found = stored.get(TRENDING)
    return trending_of(found.values) if found and found.values else NOTHING_TRENDS


def keys(event: BaseModel) -> Sequence[Key]:
    """What must be read to learn a feedback."""
    told = cast("RecommendationFeedback", event)
    return (history_key(told.user_id), TRENDING, _profile(told.item_id))


def learn_label(event: BaseModel, _: BaseModel | None, stored: StoredByKey) -> Sequence[Update]:
    """A click, a purchase or a rating becomes part of the user's history, and a like of what is popular, at once.

    The same item with the same rating at the same moment counts once. An impression teaches nothing.
    """
    told = cast("RecommendationFeedback", event)
    value, moment = stars(told), micros(told.at)
    before = stored_history(stored, told.user_id)
    same = (before.times == moment) & (before.items == told.item_id) & (before.ratings == value)
    if told.event == "impression" or np.any(same):
        return ()
    profile = stored.get(_profile(told.item_id))
    genres = int(profile.values["genres"]) if profile and profile.values else 0
    after = before.after(moment, told.item_id, value, genres)
    key = history_key(told.user_id)
    updates = [Update(key, vars(after), _latest(stored, key, told.at))]
    if value >= LIKED:
        trends = stored_trends(stored).after(moment, told.item_id)
        updates.append(Update(TRENDING, vars(trends), _latest(stored, TRENDING, told.at)))
    return updates


def stars(told: RecommendationFeedback) -> float:
    """A feedback as a rating of 5; 0 of an impression."""
    if told.rating is not None:
        return told.rating
    return {"impression": 0.0, "click": LIKED, "purchase": _BOUGHT}[told.event]


def _profile(item: int) -> Key:
    return Key("item_profile", item)


def _latest(stored: StoredByKey, key: Key, moment: datetime) -> datetime:
    before = stored[key].event_time if key in stored else None
    return moment if before is None else max(before, moment)
