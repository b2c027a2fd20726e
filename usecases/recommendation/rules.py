"""Rules beside the model: what is never shown, what is shown in any case, and how much is left to chance."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from itertools import groupby
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from orrery.usecase import Array, RuleHit
from usecases.recommendation.items import content_vectors, genre_bits
from usecases.recommendation.requests import MOST_SHOWN, ItemId, RecommendationRequest, Strict

DEFAULT_RULES: Mapping[str, Any] = {
    "version": "1",
    "blocked_items": [],
    "out_of_stock": [],
    "new_items": [],
    "new_share": 0.1,
    "promotions": [],
    "epsilon": 0.1,
    "explore_pool": 50,
    "fallback_items": [],
}
_SUM = 1 + 1e-9


class NewItem(Strict):
    """An item that no model has seen yet."""

    item_id: ItemId
    title: str
    genres: str
    """separated by `|`; what is none of `items.GENRES` counts as "Other" """
    year: Annotated[int, Field(ge=0, le=9999)] = 0


class Promotion(Strict):
    """An item that takes a slot in a share of the requests."""

    slot: Annotated[int, Field(ge=1, le=MOST_SHOWN)]
    item_id: ItemId
    share: Annotated[float, Field(gt=0, le=1)] = 1.0


class NewItems:
    """The new items as columns, in the order of their ids."""

    def __init__(self, items: list[NewItem]) -> None:
        items = sorted(items, key=lambda item: item.item_id)
        self.titles = [item.title for item in items]
        self.ids: Array = np.array([item.item_id for item in items], np.int64)
        self.bits: Array = np.array([genre_bits(item.genres) for item in items], np.int64)
        self.years: Array = np.array([item.year for item in items], np.int64)
        self.vectors = content_vectors(self.bits, self.years)


class RuleSet(Strict):
    """What an operator's file says. Raises pydantic's ValidationError, a ValueError, when it cannot be."""

    version: Annotated[str, Field(min_length=1)]
    blocked_items: list[ItemId]
    out_of_stock: list[ItemId]
    new_items: list[NewItem]
    new_share: Annotated[float, Field(ge=0, le=1)]
    """the most of a list, rounded down, that goes to new items by their fit; chance finds the others"""
    promotions: list[Promotion]
    epsilon: Annotated[float, Field(ge=0, le=1)]
    """how often a rank goes to an item drawn by chance"""
    explore_pool: Annotated[int, Field(ge=1, le=MOST_SHOWN)]
    """of the best that are left, how many chance draws from"""
    fallback_items: list[ItemId]
    """shown when there is neither a model nor a store, best first"""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        new = [item.item_id for item in self.new_items]
        promoted = [promotion.item_id for promotion in self.promotions]
        if len({*new}) < len(new) or len({*promoted}) < len(promoted):
            raise ValueError("an item is new once and promoted once")
        for slot, those in self.slots.items():
            if sum(promotion.share for promotion in those) > _SUM:
                raise ValueError(f"the shares of slot {slot} sum to more than 1")
        return self

    @cached_property
    def slots(self) -> dict[int, list[Promotion]]:
        """Slot -> the promotions that share it."""
        ordered = sorted(self.promotions, key=lambda promotion: promotion.slot)
        return {slot: list(those) for slot, those in groupby(ordered, key=lambda promotion: promotion.slot)}

    @cached_property
    def hidden(self) -> dict[str, Array]:
        """Rule -> the ids, int64, that it keeps from everybody."""
        return {name: np.array(getattr(self, name), np.int64) for name in ("blocked_items", "out_of_stock")}

    @cached_property
    def new(self) -> NewItems:
        """The new items as columns."""
        return NewItems(self.new_items)


@dataclass(frozen=True)
class _Whole:
    """A rule set by identity: it is never changed, only replaced."""

    rules: Mapping[str, Any]

    def __hash__(self) -> int:
        return id(self.rules)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Whole) and other.rules is self.rules


@lru_cache(maxsize=8)
def _parsed(whole: _Whole) -> RuleSet:
    return RuleSet.model_validate(dict(whole.rules))


def rule_set(rules: Mapping[str, Any]) -> RuleSet:
    """A rule set, checked once. Raises ValueError when it cannot be."""
    return _parsed(_Whole(rules))


def share_of(text: str) -> float:
    """A number in [0, 1) that is the same for the same text, in every process, and even over many texts."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) / 2**64


def chosen(
    request_id: str, rules: RuleSet, possible: Callable[[int], bool]
) -> dict[int, tuple[Promotion | None, float]]:
    """Slot -> the promotion that takes it for this request, or None, and the probability of that.

    What may not be shown leaves its share to the ranker.
    """
    found: dict[int, tuple[Promotion | None, float]] = {}
    for slot, those in rules.slots.items():
        point, start, free, taken = share_of(f"promotion:{slot}:{request_id}"), 0.0, 1.0, None
        for promotion in those:
            if possible(promotion.item_id):
                free -= promotion.share
                taken = promotion if start <= point < start + promotion.share else taken
            start += promotion.share
        found[slot] = (taken, taken.share if taken else free)
    return found


def hits(request: RecommendationRequest, rules: Mapping[str, Any]) -> tuple[RuleHit, ...]:
    """What an operator wants counted: promotions that a request drew, and a look at what must not be seen."""
    known, seen = rule_set(rules), request.context.item_id
    looked = [
        RuleHit(name, "looked_at", f"the user looks at item {seen}")
        for name in ("blocked_items", "out_of_stock")
        if seen in getattr(known, name)
    ]
    drawn = [
        RuleHit("promotions", "drawn", f"item {promotion.item_id} for slot {slot}")
        for slot, (promotion, _) in chosen(request.request_id, known, lambda _: True).items()
        if promotion is not None and slot <= request.k
    ]
    return (*looked, *drawn)
