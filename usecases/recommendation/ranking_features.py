"""What a ranker sees of a candidate and of the user; nothing that grows with the catalogue or with training."""

import numpy as np

from orrery.usecase import Array
from usecases.recommendation.catalogue import Catalogue
from usecases.recommendation.features import FEATURES
from usecases.recommendation.retrieval import SOURCES, Candidates, Sources, User

_LOGS = (
    "user_events", "user_events_30d", "user_likes", "user_days_since_last", "user_days_since_first", "trending_likes",
)  # fmt: skip
_PLAIN = ("user_mean_rating", "user_rating_std")
BLENDED = (*SOURCES, "lately", "likes", "newness")
"""what a linear ranker weighs, each in [-1, 1]"""
CANDIDATE = (
    *BLENDED,
    *(f"rank_{source}" for source in SOURCES),
    *(f"by_{source}" for source in SOURCES),
    "recent", "log_likes", "rising", "years_old", "year_known", "years_from_taste", "chances", "chance_share",
)  # fmt: skip
"""of the item, and of the item for the user"""
USER = (*_LOGS, *_PLAIN, "taste_years_old")
"""of the user alone: the same for all candidates"""
INPUTS = (*CANDIDATE, *USER)
_LOG_AT = [FEATURES.index(name) for name in _LOGS]
_PLAIN_AT = [FEATURES.index(name) for name in _PLAIN]
_PER_MILLE = 1_000.0
_DECADE = 10.0
_LONG_AGO = np.log1p(10_000.0)
"""days"""


def ranking_features(sources: Sources, user: User, candidates: Candidates) -> Array:
    """Inputs of the rankers, float32, shape (candidates, INPUTS)."""
    catalogue, places = sources.catalogue, candidates.places
    newest, liked = int(catalogue.years.max(initial=0)), _mean_year(catalogue, user)
    years, likes, lately = catalogue.years[places], catalogue.likes[places], catalogue.lately[places]
    known = years > 0
    days = catalogue.days[places].astype(np.float64)
    chances = np.searchsorted(user.ages, days)
    of_item = [
        *candidates.opinions,
        lately / max(float(catalogue.lately.max(initial=0)), 1e-9),
        likes / max(int(catalogue.likes.max(initial=0)), 1),
        1 - np.log1p(days) / _LONG_AGO,
        *np.sqrt(1 / candidates.ranks),
        *(candidates.sources == source for source in range(len(SOURCES))),
        np.log1p(_PER_MILLE * user.recent[places]),
        np.log1p(likes),
        (lately + 0.1) / (likes + 1),
        np.log1p(np.where(known, newest - years, 0)),
        known,
        np.where(known, years - liked, 0) / _DECADE,
        np.log1p(chances),
        chances / max(len(user.ages), 1),
    ]
    of_user = [*np.log1p(user.named[_LOG_AT]), *user.named[_PLAIN_AT], (newest - liked) / _DECADE]
    table = np.empty((len(places), len(INPUTS)), np.float32)
    table[:, : len(of_item)] = np.stack(of_item, axis=1)
    table[:, len(of_item) :] = of_user
    return table


def _mean_year(catalogue: Catalogue, user: User) -> float:
    """Of what the user likes; a decade before the newest item for who likes nothing of a known year."""
    years = catalogue.years[user.likes]
    weights = user.weights * (years > 0)
    total = weights.sum()
    return float(weights @ years / total) if total > 0 else float(catalogue.years.max(initial=0)) - _DECADE
