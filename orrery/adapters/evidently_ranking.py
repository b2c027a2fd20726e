"""Lists that were shown, and what of them was taken, as Evidently's ranking report reads them.

Its "user" is a list here: of two lists of one user it would make one, with two items at each rank. Lists and items are
numbers that chance gives them, and no metric is used that shows rows (its tables of cases and of most listed items).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from orrery.usecase import Array
from orrery.watching import Impressions

if TYPE_CHECKING:
    import pandas as pd

TOP = 10
_MOST_ROWS, _MOST_TAKEN = 200_000, 1_000_000
_KNOWN = "current_train_data"
"""as Evidently calls what popularity is measured by"""


@dataclass(frozen=True)
class Lists:
    """What was shown, and how popular the items are that could have been."""

    shown: Impressions
    popularity: tuple[Array, Array] | None = None
    """items, and how often each had been taken, both of shape (n,); None: not known"""


@dataclass(frozen=True)
class RankingReport:
    """What Evidently is given."""

    metrics: list[Any]
    rows: "pd.DataFrame"
    roles: dict[str, Any]
    more: "dict[str, pd.DataFrame]"


def ranking_report(lists: Lists) -> RankingReport | None:
    """The report on lists of which something was taken; None: there are none."""
    import pandas as pd
    from evidently.core.datasets import Recsys

    if not lists.shown.taken.any():
        return None
    draw = np.random.default_rng()
    known, taken = lists.popularity or (lists.shown.items[:0], np.zeros(0))
    shown_items, known_items = _numbered(draw, lists.shown.items, known)
    items, hits = _table(draw, lists.shown, shown_items)
    number, length = items.shape
    rows = pd.DataFrame(
        {
            "list": np.repeat(np.arange(number), length),
            "item": items.ravel(),
            "place": np.tile(-np.arange(1, length + 1), number),
            "taken": hits.ravel().astype(int),
        }
    )
    roles = {"ranking": [Recsys(user_id="list", item_id="item", target="taken", prediction="place")]}
    some = np.isin(items, known_items).any() and len(np.unique(items[np.isfinite(items)])) > 1
    more = {_KNOWN: _takers(known_items, taken)} if some else {}
    return RankingReport(_metrics(min(TOP, length), popularity=bool(more)), rows, roles, more)


def _metrics(k: int, *, popularity: bool) -> list[Any]:
    """Of all lists how much of them was taken; of those in which something was, where it stood."""
    from evidently.metrics import MAP, MRR, NDCG, HitRate, PopularityBiasMetric, PrecisionTopK, RecallTopK

    of_all: tuple[Callable[..., Any], ...] = (PrecisionTopK, HitRate)
    found = [metric(k=k, no_feedback_users=True) for metric in of_all]
    found += [metric(k=k) for metric in (NDCG, MAP, MRR, RecallTopK)]
    return [*found, PopularityBiasMetric(k=k, normalize_arp=True)] if popularity else found


def _numbered(draw: np.random.Generator, *columns: Array) -> list[Array]:
    """Each value as a number that chance gives it, the same in all columns."""
    distinct, codes = np.unique(np.concatenate(columns), return_inverse=True)
    numbers: Array = draw.permutation(len(distinct))[codes]
    return np.split(numbers, np.cumsum([len(each) for each in columns])[:-1])


def _table(draw: np.random.Generator, shown: Impressions, items: Array) -> tuple[Array, Array]:
    """Items, NaN beyond the end of a list, and whether each was taken, both of shape (lists, longest), in no order.

    All lists are given one length: Evidently counts the last item of a shorter one again at each later rank.
    """
    (lists,) = _numbered(draw, shown.lists)
    longest = int(np.bincount(lists).max())
    chosen = np.flatnonzero(lists < max(_MOST_ROWS // longest, 1))
    order = chosen[np.lexsort((shown.ranks[chosen], lists[chosen]))]
    size = np.bincount(lists[order])
    place = np.arange(len(order)) - np.repeat(np.cumsum(size) - size, size)
    filled, hits = np.full((len(size), longest), np.nan), np.zeros((len(size), longest), bool)
    filled[lists[order], place] = items[order]
    hits[lists[order], place] = shown.taken[order]
    return filled, hits


def _takers(items: Array, taken: Array) -> "pd.DataFrame":
    """A row each time an item was taken, and one more for each item, so that none is unknown; fewer of all if many."""
    import pandas as pd

    times = np.floor(taken * min(1.0, _MOST_TAKEN / max(taken.sum(), 1))).astype(int) + 1
    by = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
    return pd.DataFrame({"list": by, "item": np.repeat(items, times).astype(float)})
