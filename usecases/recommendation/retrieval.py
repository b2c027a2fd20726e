"""Candidates: what each source thinks of every item for a user, and the few that are worth ranking."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from orrery.usecase import Array, Model
from usecases.recommendation.catalogue import Catalogue, catalogue_of
from usecases.recommendation.factors import Factors, products
from usecases.recommendation.features import FEATURES, LIKED, unpack
from usecases.recommendation.items import GENRES, unit
from usecases.recommendation.neighbours import Neighbours

SOURCES = ("ease", "factors", "markov", "popular", "content")
EASE, FACTORS, MARKOV, POPULAR, CONTENT = range(len(SOURCES))
MOST_CANDIDATES = 200
SHARES = (1.0, 1.0, 1.0, 1.0, 0.1)
"""how many candidates a source may name for one of another: content alone hits seldom, and is for what nobody liked"""
TASTE_DAYS = 365.0
"""half-life of a like in a user's taste, counted from the last like"""
_LATELY = 10.0
"""weight of the last year's popularity against that of the last month, which is of few likes"""
_STEPS = 10
"""so many of the last likes say what comes next, each less than the one after it"""
_STEP = 0.8
_FAINT = 1e-3
"""weight of popularity where it only tells apart what is otherwise the same"""
_FAINTEST = 1e-9
_ASKED = slice(len(FEATURES) - len(GENRES), len(FEATURES))
_NOT_ASKED = 0.01
"""what is left of an opinion on an item of none of the genres asked for"""


@dataclass(frozen=True)
class Sources:
    """What retrieval has learned."""

    catalogue: Catalogue
    ease: Neighbours
    markov: Neighbours
    """chances that an item is liked next; what a row lacks to 1 is left to what is popular"""
    factors: Factors

    @cached_property
    def lately(self) -> Array:
        """Shares of the likes of the last year of training, float64, shape (items,)."""
        return shares(self.catalogue.lately)

    @cached_property
    def content(self) -> Array:
        """float64, shape (items, items.VECTOR): in float32, what is alike would differ by its place in memory."""
        return self.catalogue.vectors.astype(np.float64)

    def save(self, folder: Path) -> None:
        """Write all arrays, and the titles, that a bundle needs; `factors.learned` belongs to its manifest."""
        self.catalogue.save(folder)
        self.ease.save(folder, "ease")
        self.markov.save(folder, "markov")
        self.factors.save(folder)

    @classmethod
    def load(cls, model: Model) -> Self:
        """What `save` wrote into a bundle."""
        catalogue, learned = catalogue_of(model), model.manifest.learned["factors"]
        ease, markov = (Neighbours.load(model, name, len(catalogue.ids)) for name in ("ease", "markov"))
        return cls(catalogue, ease, markov, Factors.load(model, **learned))


@dataclass(frozen=True)
class User:
    """One row of inputs, with items as places in the vocabulary; what the vocabulary lacks is left out."""

    named: Array
    """float32, shape (features,)"""
    ages: Array
    """float64, days since the latest event of each item, ascending"""
    seen: Array
    """int64, every item once, in the order of its latest event"""
    likes: Array
    """int64, those of `seen` that were liked"""
    weights: Array
    """float64 in (0, 1], how much each like counts in the user's taste"""
    recent: Array
    """float64, shape (items,): shares of the likes of all users of late"""
    taste: Array
    """float64, shape (items.VECTOR,): the content that is liked, and what the user looks at now"""
    asked: Array
    """bool, shape (items,): of a genre that was asked for"""
    interest: Array
    """float64 in (0, 1], shape (items,): what counts of an opinion on the item"""


@dataclass(frozen=True)
class Opinions:
    """What each source thinks of the items for a user."""

    values: Array
    """float64, shape (sources, items); what is not positive is no praise"""
    factors: Array
    """the user's factors, float64, shape (d,)"""


@dataclass(frozen=True)
class Candidates:
    """Items worth ranking."""

    places: Array
    """int64, shape (m,)"""
    sources: Array
    """int64, place in SOURCES of the one that ranks the item best, shape (m,)"""
    opinions: Array
    """float64 in [-1, 1], shape (sources, m): each against the best that the source thinks of an allowed item"""
    ranks: Array
    """float64, 1 for the best, shape (sources, m); infinite where a source does not name the item"""


def user_of(row: Array, catalogue: Catalogue) -> User:
    """Read one row of inputs, float32, shape (width,)."""
    told = unpack(row[None])
    places = catalogue.place(told.items[0])
    known = np.flatnonzero(places >= 0)[::-1]
    newest = np.sort(known[np.unique(places[known], return_index=True)[1]])
    liked = newest[told.ratings[0][newest] >= LIKED]
    ages = told.ages[0].astype(np.float64)
    weights = 2.0 ** ((ages[liked].min(initial=np.inf) - ages[liked]) / TASTE_DAYS)
    popular = catalogue.place(told.popular_ids[0])
    recent = np.bincount(popular[popular >= 0], told.popular_weights[0][popular >= 0], len(catalogue.ids))
    asked: Array = np.any(catalogue.flags[:, told.named[0][_ASKED] > 0], axis=1)
    return User(
        named=told.named[0],
        ages=np.sort(ages[newest]),
        seen=places[newest],
        likes=places[liked],
        weights=weights,
        recent=shares(recent),
        taste=_mean_content(catalogue, places[liked], weights) + told.context[0],
        asked=asked,
        interest=np.where(asked | ~asked.any(), 1.0, _NOT_ASKED),
    )


def _mean_content(catalogue: Catalogue, likes: Array, weights: Array) -> Array:
    mean = products(catalogue.vectors[likes].T.astype(np.float64), weights)
    return np.asarray(unit(mean[None])[0], np.float64)


def unseen(catalogue: Catalogue, user: User) -> Array:
    """Which items the user has not seen, bool, shape (items,)."""
    new = np.ones(len(catalogue.ids), dtype=bool)
    new[user.seen] = False
    return new


def shares(values: Array) -> Array:
    """Values that are not negative, shape (n,), as parts of their sum, float64; zeros stay."""
    total = values.sum(dtype=np.float64)
    return np.asarray(values / (total if total > 0 else 1.0), np.float64)


def opinions(sources: Sources, user: User, allowed: Array) -> Opinions:
    """Ask all sources; `allowed`, bool, shape (items,), only saves work."""
    popular = user.recent + _LATELY * sources.lately
    last = user.likes[::-1][:_STEPS]
    steps = _STEP ** np.arange(len(last))
    content, most = products(sources.content, user.taste), popular.max(initial=0.0)
    factors = sources.factors.taste(user.likes, user.weights)
    values = np.stack(
        [
            sources.ease.spread(user.likes, user.weights),
            sources.factors.scores(factors, allowed, MOST_CANDIDATES, len(user.seen)),
            sources.markov.spread(last, steps) + sources.markov.lacking(last, steps) * sources.lately,
            popular,
            content + (content > 0) * popular * (_FAINT / most if most > 0 else 0.0),
        ]
    )
    return Opinions(values * user.interest, factors)


def best(values: Array, allowed: Array, most: int) -> Array:
    """The places, int64, of the largest values, shape (n,), of allowed items, best first; equal ones by place."""
    inside = np.flatnonzero(allowed)
    known = values[inside]
    if len(known) > most:
        chosen = known >= np.partition(known, -most)[-most]
        inside, known = inside[chosen], known[chosen]
    order: Array = inside[np.argsort(-known, kind="stable")[:most]]
    return order


def retrieve(sources: Sources, user: User, thought: Opinions, allowed: Array) -> Candidates:
    """The best of what each source praises, in turns by rank and share, at most MOST_CANDIDATES; popular ones fill up.

    `allowed`, bool, shape (items,), is without what the user has seen.
    """
    named = [
        best(values, allowed if source == POPULAR else allowed & (values > 0), MOST_CANDIDATES)
        for source, values in enumerate(thought.values)
    ]
    turns = np.concatenate([np.arange(1, len(of) + 1) / share for of, share in zip(named, SHARES, strict=True)])
    order = np.argsort(turns, kind="stable")
    every = np.concatenate(named)[order]
    first = np.sort(np.unique(every, return_index=True)[1])[:MOST_CANDIDATES]
    places = every[first]
    row = np.full(len(allowed), -1)
    row[places] = np.arange(len(places))
    ranks, tops = np.full((len(SOURCES), len(places)), np.inf), np.full((len(SOURCES), 1), np.inf)
    for source, of in enumerate(named):
        kept = row[of] >= 0
        ranks[source, row[of[kept]]] = np.flatnonzero(kept) + 1
        if len(of) and thought.values[source, of[0]] > 0:
            tops[source] = thought.values[source, of[0]]
    values = thought.values[:, places]
    # an index scores only what it finds
    values[FACTORS] = sources.factors.of(thought.factors, places) * user.interest[places]
    by = np.repeat(np.arange(len(SOURCES)), [len(of) for of in named])[order][first]
    return Candidates(places=places, sources=by, opinions=np.clip(values / tops, -1, 1), ranks=ranks)


def by_popularity(user: User, allowed: Array) -> Array:
    """Places, int64, of what is liked most of late."""
    return best(user.recent, allowed & (user.recent > 0), MOST_CANDIDATES)


def by_ease(catalogue: Catalogue, ease: Array, allowed: Array) -> Array:
    """Places, int64, of the best by EASE, shape (items,); what it says nothing of, by likes of all time."""
    likes = catalogue.likes / max(int(catalogue.likes.max(initial=0)), 1)
    return best(ease + _FAINTEST * likes, allowed, MOST_CANDIDATES)
