"""Clients whose taste is known: what they click of an answer, and what a replay with them came to.

A user examines rank r with probability r ** -ETA and clicks what he examines with probability `attraction`: the
position-based model of Craswell et al., "An Experimental Comparison of Click Position-Bias Models", WSDM 2008.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from math import exp
from typing import Any, cast

import numpy as np
from pydantic import BaseModel

from usecases.recommendation.items import GENRES
from usecases.recommendation.requests import RecommendationFeedback, RecommendationRequest
from usecases.recommendation.rules import share_of

ETA = 0.7
_CLICKS, _TASTE, _QUALITY = -1.0, 1.5, 0.7
"""log-odds: of an average item, and the standard deviations of a user's taste for a genre and of an item's quality"""


def attraction(user: int, item: int, genres: Sequence[str]) -> float:
    """Probability that a user clicks an item that he has examined: his taste for its genres, and its quality."""
    tastes = _normal(f"user:{user}", len(GENRES))
    taste = sum(tastes[GENRES.index(name)] for name in genres) / max(len(genres), 1)
    return 1 / (1 + exp(-(_CLICKS + _TASTE * taste + _QUALITY * _normal(f"item:{item}", 1)[0])))


def click_probability(user: int, item: int, genres: Sequence[str], rank: int, eta: float = ETA) -> float:
    """Probability that a user clicks an item at a rank, 1 the first."""
    return attraction(user, item, genres) * float(rank**-eta)


@lru_cache(maxsize=100_000)
def _normal(name: str, many: int) -> tuple[float, ...]:
    """Standard normal numbers that belong to a name."""
    return tuple(np.random.default_rng(int(share_of(name) * 2**53)).standard_normal(many).tolist())


def react(request: BaseModel, answer: Mapping[str, Any], eta: float = ETA) -> list[RecommendationFeedback]:
    """An impression of each item, and the clicks, a second a rank later. The same request gets the same clicks."""
    asked = cast("RecommendationRequest", request)
    told = []
    for shown in answer["items"]:
        item, rank = shown["item_id"], shown["rank"]
        about = {"request_id": asked.request_id, "user_id": asked.user_id, "item_id": item}
        told.append(RecommendationFeedback(**about, event="impression", at=asked.at))
        probability = click_probability(asked.user_id, item, shown["genres"], rank, eta)
        if share_of(f"click:{asked.request_id}:{item}") < probability:
            told.append(RecommendationFeedback(**about, event="click", at=asked.at + timedelta(seconds=rank)))
    return told


def online(answers: Sequence[Mapping[str, Any]], feedback: Sequence[BaseModel]) -> dict[str, float]:
    """What was served: shown items, those clicked or bought, their rate, the share of the catalogue that was shown, and
    which shares of the items chance, promotions and new items had, and of the answers fallbacks."""
    shown = [item for answer in _once(answers) for item in answer["items"]]
    clicks, many = sum(reward for *_, reward in rewarded(answers, feedback)), max(len(shown), 1)
    known = max((answer["policy"]["catalogue"] for answer in answers), default=0)
    return {
        "impressions": len(shown),
        "clicks": int(clicks),
        "ctr": clicks / many,
        "coverage": len({item["item_id"] for item in shown}) / max(known, 1),
        "explored_share": sum(item["explored"] for item in shown) / many,
        "promoted_share": sum(item["promoted"] for item in shown) / many,
        "new_share": sum(item["source"] == "new" for item in shown) / many,
        "fallback_share": sum(answer["degraded"] for answer in answers) / max(len(answers), 1),
    }


def _once(answers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A request that was sent twice has one answer."""
    return list({answer["request_id"]: answer for answer in answers}.values())


def rewarded(
    answers: Sequence[Mapping[str, Any]], feedback: Sequence[BaseModel]
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any], float]]:
    """Every shown item with its answer, and 1 if it was clicked or bought there, else 0.

    A rating does not count: a user may rate what he knows from elsewhere.
    """
    told = cast("Sequence[RecommendationFeedback]", feedback)
    taken = {(each.request_id, each.item_id) for each in told if each.event in {"click", "purchase"}}
    for answer in _once(answers):
        for shown in answer["items"]:
            yield answer, shown, float((answer["request_id"], shown["item_id"]) in taken)
