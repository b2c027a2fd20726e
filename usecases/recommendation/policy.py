"""From a ranking to the items that are shown: what may be shown, diversity, new items, promotions, chance."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from orrery.usecase import Array
from usecases.recommendation.items import genre_bits
from usecases.recommendation.requests import RecommendationRequest
from usecases.recommendation.rules import Promotion, RuleSet, share_of
from usecases.recommendation.scoring import SOURCES, Ranking

NEW = len(SOURCES)
"""source of a new item, behind those of the ranker"""
_ROUNDING = 1e-9


class Described(Protocol):
    """Items of which more than the id is known; arrays of shape (n,), int64."""

    @property
    def ids(self) -> Array: ...

    @property
    def bits(self) -> Array: ...

    @property
    def years(self) -> Array: ...


@dataclass(frozen=True)
class Items:
    """Some of the items of a catalogue."""

    ids: Array
    bits: Array
    years: Array


Condition = Callable[[Described], Array]
"""items -> which of them meet it, bool, shape (n,)"""
Limits = Mapping[str, Condition]


# --- what may be shown ---------------------------------------------------------------------------


def limits(request: RecommendationRequest, rules: RuleSet) -> Limits:
    """The conditions of the operator and of the request; those that exclude nothing are left out."""
    filters = request.filters
    wanted, unwanted = (genre_bits("|".join(names)) for names in (filters.genres_any, filters.genres_none))
    first, last = filters.year_from, filters.year_to
    excluded = {**rules.hidden, "exclude": np.array(request.exclude, np.int64)}
    found = {name: none_of(ids) for name, ids in excluded.items() if len(ids)}
    if wanted:
        found["genres_any"] = lambda items: (items.bits & wanted) != 0
    if unwanted:
        found["genres_none"] = lambda items: (items.bits & unwanted) == 0
    if first is not None:
        found["year_from"] = lambda items: items.years >= first
    if last is not None:
        found["year_to"] = lambda items: (items.years > 0) & (items.years <= last)
    return found


def none_of(ids: Array) -> Condition:
    """The condition to be none of `ids`."""
    return lambda items: ~np.isin(items.ids, ids)


def allowed(items: Described, conditions: Limits) -> Array:
    """Which items meet all conditions, bool, shape (n,)."""
    found = np.ones(len(items.ids), bool)
    for meets in conditions.values():
        found &= meets(items)
    return found


def nothing_left(items: Described, conditions: Limits) -> str:
    """Why no item is shown: how many each condition left of those before it."""
    left = np.ones(len(items.ids), bool)
    words = [f"{len(left)} items"]
    for name, meets in conditions.items():
        left &= meets(items)
        words.append(f"{name} left {np.count_nonzero(left)}")
    return f"nothing left: {', '.join(words)}"


# --- their order ---------------------------------------------------------------------------------


def diversified(ranking: Ranking, vectors: Array, diversity: float, k: int) -> Ranking:
    """The same items, the first k chosen one by one: a good score against likeness to those chosen before.

    `vectors`: content of the items, of unit length, shape (m, d). Maximal marginal relevance: Carbonell, Goldstein,
    "The Use of MMR", SIGIR 1998, with lambda = 1 - `diversity`, scores scaled to [0, 1], and the cosine of contents.
    """
    if not diversity or len(ranking.items) < 2:
        return ranking
    least, most = ranking.scores.min(), ranking.scores.max()
    value = (1 - diversity) * (ranking.scores - least) / (most - least if most > least else 1.0)
    likeness, left = np.zeros(len(value)), np.ones(len(value), bool)
    order: list[int] = []
    for _ in range(min(k, len(value))):
        place = int(np.where(left, value - diversity * likeness, -np.inf).argmax())
        order.append(place)
        left[place] = False
        likeness = np.maximum(likeness, vectors @ vectors[place])
    return _picked(ranking, np.concatenate([order, np.flatnonzero(left)]).astype(np.int64))


def with_new(ranking: Ranking, fit: Array, new: tuple[Array, Array], rules: RuleSet, k: int) -> Ranking:
    """The ranking with new items, best fit first, each as many ranks down as there are ranked ones that fit no worse.

    `fit`: cosine of the user's taste with the content of the first k ranked, shape (k,); `new`: ids and fits of the new
    ones. The rule set's share of k, rounded down, is placed so; half a pool of others stands behind the first k, where
    only chance finds them.
    """
    ids, fits = new
    most = int(rules.new_share * k + _ROUNDING)
    order = np.lexsort((ids, -fits))[: most + rules.explore_pool // 2]
    at = np.full(len(order), len(fit), np.int64)
    at[:most] = (fit >= fits[order[:most], None]).sum(axis=1)
    columns = (ranking.items, ids[order]), (ranking.scores, np.nan), (ranking.sources, NEW)
    return Ranking(*(np.insert(column, at, values) for column, values in columns))


def _picked(ranking: Ranking, order: Array) -> Ranking:
    return Ranking(ranking.items[order], ranking.scores[order], ranking.sources[order])


# --- promotions ----------------------------------------------------------------------------------

Slots = Mapping[int, tuple[Promotion | None, float]]
"""slot -> the promotion that was drawn for it, or None, and the probability of that"""


def reachable(slots: Slots, k: int, ranking: Ranking) -> Slots:
    """The slots that the list will be long enough for."""
    others, taken = int((~np.isin(ranking.items, promoted(slots))).sum()), 0
    found: dict[int, tuple[Promotion | None, float]] = {}
    for slot, drawn in sorted(slots.items()):
        if slot <= min(k, others + taken + 1):
            found[slot] = drawn
            taken += drawn[0] is not None
    return found


def promoted(slots: Slots) -> list[int]:
    """The items that take a slot."""
    return [promotion.item_id for promotion, _ in slots.values() if promotion]


def without(ranking: Ranking, slots: Slots) -> Ranking:
    """The ranking without the items that take a slot."""
    taken = promoted(slots)
    return _picked(ranking, np.flatnonzero(~np.isin(ranking.items, taken))) if taken else ranking


# --- what is left to chance ----------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """What is shown at one rank: a place of the ranking, or a promotion."""

    at: int
    """-1: the promotion"""
    propensity: float
    pool: int = 1
    explored: bool = False
    drawn_from: tuple[int, ...] = ()
    """the places of the pool, the best first"""
    promotion: Promotion | None = None


def chance(explored: bool, pool: int, epsilon: float) -> float:
    """Probability of an item under epsilon-greedy choice: chance draws evenly from `pool`, the best item included."""
    return epsilon / pool + (0.0 if explored else 1 - epsilon)


def placed(request: RecommendationRequest, rules: RuleSet, ranked: int, slots: Slots) -> list[Place]:
    """What each rank shows of a ranking of `ranked` items; the same request draws the same.

    A promotion's propensity is its share; that of any other item in its slot counts that it was not drawn.
    """
    epsilon = epsilon_of(request, rules)
    seed = int(share_of(f"exploration:{request.request_id}") * 2**53)
    draws = np.random.default_rng(seed).random((request.k, 2)).tolist()
    left, shown = list(range(ranked)), []
    for slot, (first, second) in enumerate(draws, 1):
        promotion, probability = slots.get(slot, (None, 1.0))
        if promotion is not None:
            shown.append(Place(-1, probability, promotion=promotion))
        elif left:
            pool = min(rules.explore_pool, len(left))
            pick = int(second * pool) if first < epsilon else 0
            propensity = probability * chance(pick > 0, pool, epsilon)
            drawn_from = tuple(left[:pool])
            shown.append(Place(left.pop(pick), propensity, pool, pick > 0, drawn_from))
        else:
            break
    return shown


def epsilon_of(request: RecommendationRequest, rules: RuleSet) -> float:
    """How often this request's ranks go to chance."""
    return rules.epsilon if request.explore else 0.0


def taste(likes: Array, context: Array, asked: Array) -> Array:
    """What a user is after, float64, shape (d,): the mean content of what he likes, and what he looks at and asks for.

    `likes`: vectors of unit length, shape (n, d); the others have shape (d,). Zero if nothing is known.
    """
    summed = context + asked + (likes.mean(axis=0) if len(likes) else 0.0)
    length = float(np.linalg.norm(summed))
    found: Array = summed / length if length else summed
    return found
