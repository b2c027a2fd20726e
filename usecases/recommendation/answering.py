"""The answer to a request: from a model's ranking, or without one from what is popular."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np

from orrery.usecase import Answer, Array, Asked, Model, Scored
from usecases.recommendation import policy, scoring
from usecases.recommendation.catalogue import Catalogue, catalogue_of
from usecases.recommendation.features import LIKED, Unpacked, micros, popular, unpack
from usecases.recommendation.feedback import stored_history, stored_trends
from usecases.recommendation.items import content_vectors, genres_of
from usecases.recommendation.policy import Items, Limits, Place, Slots
from usecases.recommendation.reasons import reason, titled
from usecases.recommendation.requests import Filters, Policy, RecommendationAnswer, RecommendationRequest, Shown
from usecases.recommendation.rules import RuleSet, chosen, rule_set
from usecases.recommendation.scoring import Ranking

_SOURCES = (*scoring.SOURCES, "new")
_NONE = np.empty(0, np.int64)
_NO_ITEMS = Catalogue(ids=_NONE, titles=[], bits=_NONE, years=_NONE, likes=_NONE, lately=_NONE, days=_NONE)
_CERTAIN = Place(0, 1.0)
_genres = lru_cache(maxsize=100_000)(genres_of)


@dataclass(frozen=True)
class _Page:
    """A request, and what is known of the items that may answer it."""

    request: RecommendationRequest
    rules: RuleSet
    catalogue: Catalogue
    limits: Limits

    def shown(
        self,
        item: int,
        rank: int,
        source: str,
        place: Place = _CERTAIN,
        scores: tuple[float | None, float | None, float | None] = (None, None, None),
        liked: str | None = None,
    ) -> Shown:
        """An item as it is answered; `scores`: its own, the best left, the pool's; `liked`: see `reasons.reason`."""
        title, genres = self.named(item)
        score, best, pool = scores
        return Shown(
            item_id=item,
            title=title,
            genres=genres,
            rank=rank,
            score=score,
            source=source,
            reason=reason(source, place.explored, self.request, liked),
            propensity=place.propensity,
            pool=place.pool,
            best_score=best,
            pool_score=pool,
            explored=place.explored,
            promoted=place.promotion is not None,
        )

    def named(self, item: int) -> tuple[str, tuple[str, ...]]:
        """An item's title and genres, as far as they are known."""
        for table in (self.catalogue, self.rules.new):
            at = int(np.searchsorted(table.ids, item))
            if at < len(table.ids) and table.ids[at] == item:
                return titled(item, table.titles[at], int(table.years[at])), _genres(int(table.bits[at]))
        return titled(item, "", 0), ()

    def described(self, items: Array) -> tuple[Items, Array]:
        """Items by id, int64, and which of them are in the catalogue, bool."""
        places = self.catalogue.place(items)
        known = places >= 0
        bits, years = np.zeros((2, len(items)), np.int64)
        bits[known], years[known] = self.catalogue.bits[places[known]], self.catalogue.years[places[known]]
        return Items(items, bits, years), known

    def may_show(self, item: int) -> bool:
        """Whether an item is known and meets all conditions."""
        one, known = self.described(np.array([item], np.int64))
        if known[0]:
            return bool(policy.allowed(one, self.limits)[0])
        new = self.rules.new
        return bool(((new.ids == item) & policy.allowed(new, self.limits)).any())

    def vectors(self, items: Array) -> Array:
        """Content of items of the catalogue, shape (n, items.VECTOR)."""
        return self.catalogue.vectors[self.catalogue.place(items)]

    def taste(self, before: Unpacked) -> Array:
        """What the user is after, by content, shape (items.VECTOR,)."""
        places = self.catalogue.place(before.items[0][before.ratings[0] >= LIKED])
        asked = content_vectors(np.array([self.request.context.bits]), np.zeros(1))[0]
        return policy.taste(self.catalogue.vectors[places[places >= 0]], before.context[0], asked)


def _page(asked: Asked, catalogue: Catalogue, seen: Array) -> _Page:
    request, rules = cast("RecommendationRequest", asked.request), rule_set(asked.rules)
    limits = {**policy.limits(request, rules), "unseen": policy.none_of(seen)}
    return _Page(request, rules, catalogue, limits)


# --- with a model -------------------------------------------------------------------------------


def respond(scored: Scored) -> Answer:
    """The ranker's items, but for what rules, filters, diversity, new items, promotions and chance make of them."""
    before = unpack(scored.inputs[None, :])
    page = _page(scored, catalogue_of(scored.model), before.items[0])
    request, rules = page.request, page.rules
    ranking = _ranked(scored, page)
    slots = policy.reachable(chosen(request.request_id, rules, page.may_show), request.k, ranking)
    ranking = policy.without(ranking, slots)
    if request.diversity:
        ranking = policy.diversified(ranking, page.vectors(ranking.items), request.diversity, request.k)
    if rules.new_items:
        ranking = _with_new(ranking, page, before, slots)
    places = policy.placed(request, rules, len(ranking.items), slots)
    liked = _liked(scored, page, ranking, places) if request.explain else {}
    return RecommendationAnswer(
        request_id=request.request_id,
        user_id=request.user_id,
        items=tuple(_one(page, ranking, rank, place, liked) for rank, place in enumerate(places, 1)),
        reason=None if places else policy.nothing_left(page.catalogue, page.limits),
        policy=Policy(
            rules=rules.version,
            ranker=scored.model.manifest.learned["ranker"]["name"],
            epsilon=policy.epsilon_of(request, rules),
            catalogue=len(page.catalogue.ids),
        ),
    )


def _ranked(scored: Scored, page: _Page) -> Ranking:
    """What was scored already, if all of it may be shown; else a ranking of what may."""
    listed = scored.outputs["items"][0] >= 0
    items, scores, sources = (scored.outputs[name][0][listed] for name in ("items", "scores", "sources"))
    top = Ranking(items.astype(np.int64), scores, sources.astype(np.int64))
    if policy.allowed(page.described(top.items)[0], page.limits).all():
        return top
    return scoring.rank(scored.model, scored.inputs, policy.allowed(page.catalogue, page.limits))


def _with_new(ranking: Ranking, page: _Page, before: Unpacked, slots: Slots) -> Ranking:
    new, k, wanted = page.rules.new, page.request.k, page.taste(before)
    fresh = policy.allowed(new, page.limits) & (page.catalogue.place(new.ids) < 0)
    fresh &= ~np.isin(new.ids, policy.promoted(slots))
    fit = page.vectors(ranking.items[:k]) @ wanted
    return policy.with_new(ranking, fit, (new.ids[fresh], new.vectors[fresh] @ wanted), page.rules, k)


def _liked(scored: Scored, page: _Page, ranking: Ranking, places: Sequence[Place]) -> dict[int, str]:
    """Item -> the title of the liked one that speaks most for it; "" where that is what the user looks at."""
    ranked = np.array([place.at for place in places if place.promotion is None], np.int64)
    items = ranking.items[ranked[ranking.sources[ranked] != policy.NEW]]
    pairs = zip(items.tolist(), scoring.because(scored.model, scored.inputs, items).tolist(), strict=True)
    looked_at = page.request.context.item_id
    return {item: "" if liked == looked_at else page.named(liked)[0] for item, liked in pairs if liked >= 0}


def _one(page: _Page, ranking: Ranking, rank: int, place: Place, liked: Mapping[int, str]) -> Shown:
    if place.promotion is not None:
        return page.shown(place.promotion.item_id, rank, "promotion", place)
    item, source = int(ranking.items[place.at]), int(ranking.sources[place.at])
    pool = ranking.scores[list(place.drawn_from)]
    known = pool[~np.isnan(pool)]
    scores = (ranking.scores[place.at], pool[0], known.mean() if len(known) else np.nan)
    own, best, mean = (None if np.isnan(score) else round(float(score), 6) for score in scores)
    return page.shown(item, rank, _SOURCES[source], place, (own, best, mean), liked.get(item))


# --- without one --------------------------------------------------------------------------------


def fallback(asked: Asked, model: Model | None) -> Answer:
    """What is popular now, then what was liked most of all time, then what the rules list: as much as is there.

    Nothing is left to chance. Without a catalogue no item is known to pass a filter: such a list is empty, and says so.
    """
    request = cast("RecommendationRequest", asked.request)
    seen = stored_history(asked.stored, request.user_id).items
    looked_at = [] if request.context.item_id is None else [request.context.item_id]
    page = _page(asked, catalogue_of(model) if model else _NO_ITEMS, np.append(seen, np.array(looked_at, np.int64)))
    sources = _popular(asked, page)
    items, known = page.described(np.array([*sources], np.int64))
    possible = policy.allowed(items, page.limits) & (known | (request.filters == Filters()))
    chosen_ones = items.ids[possible][: request.k].tolist()
    return RecommendationAnswer(
        request_id=request.request_id,
        user_id=request.user_id,
        items=tuple(page.shown(item, rank, sources[item]) for rank, item in enumerate(chosen_ones, 1)),
        reason="fallback" if chosen_ones else f"fallback, {_why_nothing(page, items)}",
        policy=Policy(rules=page.rules.version, catalogue=len(page.catalogue.ids)),
        degraded=True,
    )


def _popular(asked: Asked, page: _Page) -> dict[int, str]:
    """Items, best first, and where each is from."""
    moment = micros(page.request.at)
    lately, _ = popular(stored_trends(asked.stored).until(moment), moment)
    ever = page.catalogue.ids[np.lexsort((page.catalogue.ids, -page.catalogue.likes))]
    found: dict[int, str] = {}
    for ids, source in (
        (lately[lately >= 0].astype(np.int64).tolist(), "popular"),
        (ever.tolist(), "all-time"),
        (page.rules.fallback_items, "listed"),
    ):
        found |= {item: source for item in ids if item not in found}
    return found


def _why_nothing(page: _Page, items: Items) -> str:
    if not len(items.ids):
        return "nothing left: there is no model and nothing stored; name fallback_items in the rules"
    if page.request.filters != Filters() and not len(page.catalogue.ids):
        return "nothing left: there is no catalogue to filter by"
    return policy.nothing_left(items, page.limits)
