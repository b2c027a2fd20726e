"""Retrieval, merge, rank: from rows of inputs to ranked items; the same offline and online."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from orrery.usecase import Array, Model, Outputs
from usecases.recommendation.catalogue import Catalogue
from usecases.recommendation.features import unpack
from usecases.recommendation.ranking_features import BLENDED, INPUTS, ranking_features
from usecases.recommendation.retrieval import (
    EASE,
    SOURCES,
    Opinions,
    Sources,
    User,
    by_ease,
    by_popularity,
    opinions,
    retrieve,
    unseen,
    user_of,
)

__all__ = ["SOURCES", "Ranking", "because", "rank", "score"]
LISTED = 100
_TOP, _RECENT = 10, 20
"""so many items of a list, and of those seen last, the watch looks at"""
RANKER = "ranker.onnx"
BLEND, LAMBDARANK, DEEP = "blend", "lambdarank", "deep"
COLD, WARM = "cold", "warm"
WARM_EVENTS = 5
"""a user with fewer events is cold"""
_LOG_EVENTS = INPUTS.index("user_events")

Ranker = Callable[[Array], Array]
"""inputs, float32, shape (m, ranking_features.INPUTS) -> scores, float64, shape (m,)"""


@dataclass(frozen=True)
class Ranking:
    """Items, best first."""

    items: Array
    """int64 ids, shape (m,)"""
    scores: Array
    """float64 in (0, 1), shape (m,)"""
    sources: Array
    """int64, places in SOURCES, shape (m,)"""


def score(model: Model, inputs: Array) -> Outputs:
    """Rows of inputs, float32, shape (n, width), to "score" (n,), and "items", "scores", "sources", "popular" and
    "ease" (n, LISTED), all float64; ids and sources are -1, scores 0 where a list is shorter.

    "score" is that of the best item; "popular" and "ease" are what recent popularity and EASE alone would list, EASE
    the items most liked of all where it has no opinion. For the watch: "top" and "standing", shape (n, 10), the ids of
    the first items and how popular they are, -1 beyond the end, and "unknown" (n,), the share of what the user has seen
    of late that the model does not know.
    """
    sources, ranker = sources_of(model), ranker_of(model)
    lists = {name: np.full((len(inputs), LISTED), -1.0) for name in ("items", "sources", "popular", "ease")}
    lists["scores"], unknown = np.zeros((len(inputs), LISTED)), np.zeros(len(inputs))
    for place, row in enumerate(inputs):
        user = user_of(row, sources.catalogue)
        allowed = unseen(sources.catalogue, user)
        thought = opinions(sources, user, allowed)
        ranking = _ranked(sources, ranker, user, thought, allowed)
        alone = {
            "popular": by_popularity(user, allowed),
            "ease": by_ease(sources.catalogue, thought.values[EASE], allowed),
        }
        found = {**vars(ranking), **{name: sources.catalogue.ids[places] for name, places in alone.items()}}
        for name, values in found.items():
            lists[name][place, : min(len(values), LISTED)] = values[:LISTED]
        unknown[place] = _unknown(row, sources.catalogue)
    top = lists["items"][:, :_TOP].copy()
    standing = np.append(sources.catalogue.standing, -1.0)[sources.catalogue.place(top.astype(np.int64))]
    return {"score": lists["scores"][:, 0].copy(), "top": top, "standing": standing, "unknown": unknown, **lists}


def rank(model: Model, row: Array, allowed: Array | None = None) -> Ranking:
    """One row of inputs, shape (width,), to a ranking of at most 200 unseen items.

    `allowed`, bool over `catalogue.ids`, says which items may be in it; None allows all.
    """
    sources = sources_of(model)
    user = user_of(row, sources.catalogue)
    inside = unseen(sources.catalogue, user) if allowed is None else unseen(sources.catalogue, user) & allowed
    return _ranked(sources, ranker_of(model), user, opinions(sources, user, inside), inside)


def because(model: Model, row: Array, items: Array) -> Array:
    """For each of the ids `items`, int64 (m,): the liked item of the user's history that speaks most for it, or -1.

    By EASE; where that does not know the item, by what is liked next; else by content.
    """
    sources = sources_of(model)
    catalogue = sources.catalogue
    user, places = user_of(row, catalogue), catalogue.place(items)
    if not len(user.likes):
        return np.full(len(items), -1)
    found = sources.ease.strongest(user.likes, user.weights, places)
    found = np.where(found < 0, sources.markov.strongest(user.likes, user.weights, places), found)
    alike = np.einsum("md,nd->mn", sources.content[places], sources.content[user.likes]) * user.weights
    closest = np.where(alike.max(axis=1) > 0, user.likes[alike.argmax(axis=1)], -1)
    found = np.where(found < 0, closest, found)
    return np.where((found >= 0) & (places >= 0), catalogue.ids[found], -1)


def sources_of(model: Model) -> Sources:
    """What retrieval has learned, of a bundle, read once."""
    return model.derived("sources", Sources.load)


def ranker_of(model: Model) -> Ranker:
    """The ranker that training chose."""
    learned = model.manifest.learned["ranker"]
    if learned["name"] == BLEND:
        return lambda inputs: blended(learned["weights"], inputs)
    return lambda inputs: model.run(RANKER, inputs)[0].reshape(-1).astype(np.float64)


def blended(weights: Mapping[str, list[float]], inputs: Array) -> Array:
    """The linear ranker: weights of BLENDED for COLD and for WARM users, inputs of one user's m candidates, m > 0."""
    kind = COLD if is_cold(inputs[0]) else WARM
    scores: Array = inputs[:, : len(BLENDED)].astype(np.float64) @ np.array(weights[kind])
    return scores


def is_cold(inputs: Array) -> Array:
    """Whether inputs of candidates, shape (..., INPUTS), are of cold users: bool, shape (...)."""
    few: Array = inputs[..., _LOG_EVENTS] < np.log1p(WARM_EVENTS - 0.5)
    return few


def _unknown(row: Array, catalogue: Catalogue) -> float:
    seen = unpack(row[None]).items[0]
    recent = seen[seen >= 0][-_RECENT:]
    return float((catalogue.place(recent) < 0).mean()) if len(recent) else 0.0


def _ranked(sources: Sources, ranker: Ranker, user: User, thought: Opinions, allowed: Array) -> Ranking:
    candidates = retrieve(sources, user, thought, allowed)
    places = candidates.places
    if not len(places):
        return Ranking(places, np.empty(0), places)
    raw = ranker(ranking_features(sources, user, candidates))
    raw += (np.ptp(raw) + 1) * user.asked[places]  # what was asked for comes before all else
    scores = 1 / (1 + np.exp(-raw))
    order = np.lexsort((places, -scores))
    return Ranking(sources.catalogue.ids[places[order]], scores[order], candidates.sources[order])
