"""How good the lists are: full ranking by time, for visits of warm and cold users and for what users liked last.

All are means over queries, each weighted; of a group that nobody is in there is no mean, and so no metric.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orrery.usecase import Array, Outputs
from usecases.recommendation.features import unpack
from usecases.recommendation.protocol import KIND, KNOWN_ITEMS, LAST, RELEVANT, VISIT, KnownItems
from usecases.recommendation.scoring import LISTED, WARM_EVENTS
from usecases.recommendation.tables import PAYLOAD

if TYPE_CHECKING:
    import pandas as pd

TOP = 10
HEAD = 0.2
"""share of the items, the most liked, that are not the tail"""
METHODS = {"": "items", "popular_": "popular", "ease_": "ease"}
"""in a metric's name -> the output: what is served, recent popularity alone, EASE alone"""
LIKED_ = "liked_"
"""in a metric's name: what was liked most of all time, which no model says"""
VERSUS = (
    ("warm", "popular"), ("cold", "popular"), ("last", "popular"), ("warm", "ease"), ("last", "ease"),
    ("visits", "liked"), ("warm", "liked"), ("cold", "liked"),
)  # fmt: skip

Weighted = Callable[[Array], Mapping[str, float]]


@dataclass(frozen=True)
class Means:
    """Values of n queries, and which of the queries each name is a mean over; both of shape (n, names)."""

    names: list[str]
    values: Array
    counted: Array

    @classmethod
    def of(cls, columns: Mapping[str, tuple[Array, Array]]) -> "Means":
        """From name -> values, shape (n,), and which count, bool, shape (n,)."""
        values, counted = (np.column_stack(parts) for parts in zip(*columns.values(), strict=True))
        return cls(list(columns), np.where(counted, values, 0.0), counted.astype(np.float64))

    def __call__(self, weights: Array) -> Array:
        """Means under row weights, shape (..., n), of shape (..., names); NaN where no query counts."""
        sums, total = weights @ self.values, weights @ self.counted
        means: Array = np.divide(sums, total, out=np.full_like(sums, np.nan), where=total > 0)
        return means


def measure(rows: "pd.DataFrame", outputs: Outputs) -> Weighted:
    """Prepare all metrics of n query rows and the ranked lists of ids that they got, shape (n, listed), -1 beyond.

    Returns a function of row weights, shape (n,), the same for all rows of a user: how often each row counts. The
    metrics named `<group>_over_<method>` are paired differences in nDCG@10; of a group that nobody is in, which the
    counts show, they are 0, since there is nobody for whom the served lists are worse.
    """
    inside = groups(rows)
    listed = lists_by_method(rows, outputs)
    hits = {prefix: hit(items, rows[RELEVANT].tolist()) for prefix, items in listed.items()}
    size = rows[RELEVANT].map(len).to_numpy()
    columns = {
        prefix + name: (values, inside[group])
        for group, prefix in (("visits", ""), ("warm", "warm_"), ("cold", "cold_"), ("last", "leave_last_"))
        for name, values in _qualities(hits, size)
    }
    gain = {prefix: ndcg(of[:, :TOP], size) for prefix, of in hits.items()}
    columns |= {f"{group}_over_{method}": (gain[""] - gain[f"{method}_"], inside[group]) for group, method in VERSUS}
    columns |= {name: (values, mask & inside["visits"]) for name, values, mask in _beyond(rows, listed[""][:, :TOP])}
    means = Means.of({name: of for name, of in columns.items() if of[1].any()})
    nobody = {f"{group}_over_{method}": 0.0 for group, method in VERSUS if not inside[group].any()}
    counts = {"count_" + group: mask.astype(np.float64) for group, mask in inside.items()}
    covered = coverage(rows[inside["visits"]], listed[""][inside["visits"], :TOP])

    def weighted(weights: Array) -> Mapping[str, float]:
        counted = {name: float(weights @ mask) for name, mask in counts.items()}
        mean = dict(zip(means.names, means(weights).tolist(), strict=True))
        return {**mean, **nobody, "coverage10": covered(weights[inside["visits"]]), **counted}

    return weighted


def resampled(users: Array, draws: int = 200, seed: int = 7) -> Array:
    """How often each row counts when users are drawn again with replacement, float64, shape (draws, n)."""
    distinct, codes = np.unique(users, return_inverse=True)
    drawn = np.random.default_rng(seed).integers(len(distinct), size=(draws, len(distinct)))
    counts = np.stack([np.bincount(each, minlength=len(distinct)) for each in drawn])
    return counts[:, codes].astype(np.float64)


def groups(rows: "pd.DataFrame") -> dict[str, Array]:
    """Which of the query rows, bool, shape (n,), are visits, visits of warm users and of cold ones, last likes."""
    visits, warm = rows[KIND].to_numpy() == VISIT, rows["user_events"].to_numpy() >= WARM_EVENTS
    return {"visits": visits, "warm": visits & warm, "cold": visits & ~warm, "last": rows[KIND].to_numpy() == LAST}


def known_of(rows: "pd.DataFrame") -> KnownItems:
    """What could be shown in query rows of one period."""
    known: KnownItems = rows[KNOWN_ITEMS].iloc[0]
    return known


def lists_by_method(rows: "pd.DataFrame", outputs: Outputs) -> dict[str, Array]:
    """Of METHODS and LIKED_ the ids that each lists, int64, shape (n, listed), -1 beyond."""
    listed = {prefix: np.asarray(outputs[name]).astype(np.int64) for prefix, name in METHODS.items()}
    return listed | {LIKED_: most_liked(rows)}


def most_liked(rows: "pd.DataFrame") -> Array:
    """The ids, int64, shape (n, LISTED), that were liked most before the period, but for what the user has seen."""
    known, table = known_of(rows), np.full((len(rows), LISTED), -1)
    ordered = known.ids[np.argsort(-known.likes, kind="stable")]
    for place, payload in enumerate(rows[PAYLOAD]):
        seen = unpack(payload[None]).items[0]
        first = ordered[: LISTED + len(seen)]
        found = first[~np.isin(first, seen)][:LISTED]
        table[place, : len(found)] = found
    return table


def hit(items: Array, relevant: Sequence[Array]) -> Array:
    """Which of the listed ids, int64, shape (n, listed), are among the row's relevant ids: bool of that shape."""
    size = [len(ids) for ids in relevant]
    wanted = np.repeat(np.arange(len(items)), size) << 32 | np.concatenate([np.empty(0, np.int64), *relevant])
    found: Array = np.isin(np.arange(len(items))[:, None] << 32 | np.maximum(items, 0), wanted) & (items >= 0)
    return found


def ndcg(hits: Array, size: Array) -> Array:
    """nDCG, shape (n,), of binary gains, bool (n, k), where `size` items are relevant: the best list has min(k, size)
    of them in front."""
    discounts = 1 / np.log2(np.arange(2, hits.shape[1] + 2))
    best: Array = np.cumsum(discounts)[np.minimum(size, len(discounts)) - 1]
    gained: Array = hits @ discounts / best
    return gained


def recall(hits: Array, size: Array) -> Array:
    """Share, shape (n,), of the min(k, size) relevant items that k places can hold; hits are bool, shape (n, k)."""
    share: Array = hits.sum(axis=1) / np.minimum(size, hits.shape[1])
    return share


def average_precision(hits: Array, size: Array) -> Array:
    """Mean, shape (n,), over min(k, size) items, of the precision at each one's place, 0 for those not listed."""
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    mean: Array = (precision * hits).sum(axis=1) / np.minimum(size, hits.shape[1])
    return mean


def _qualities(hits: Mapping[str, Array], size: Array) -> Iterator[tuple[str, Array]]:
    """Of the served lists all metrics, of the baselines their nDCG."""
    for prefix, of in hits.items():
        yield f"{prefix}ndcg{TOP}", ndcg(of[:, :TOP], size)
    top = hits[""][:, :TOP]
    yield f"recall{TOP}", recall(top, size)
    yield f"precision{TOP}", np.asarray(top.mean(axis=1))
    yield f"map{TOP}", average_precision(top, size)
    reciprocal = top / np.arange(1, TOP + 1)
    yield f"hit{TOP}", np.asarray(top.any(axis=1), np.float64)
    yield f"mrr{TOP}", np.asarray(reciprocal.max(axis=1))


def _beyond(rows: "pd.DataFrame", items: Array) -> Iterator[tuple[str, Array, Array]]:
    """What lists, int64 ids, shape (n, k), show: name, values, and which rows have any; both of shape (n,)."""
    known, relevant = known_of(rows), _padded(rows[RELEVANT].tolist())
    shown, wanted = items >= 0, relevant >= 0
    at, at_wanted = known.place(items), known.place(relevant)
    some: Array = np.any(shown, axis=1)
    yield f"novelty{TOP}", _mean(surprise(known)[at], shown), some
    yield f"diversity{TOP}", diversity(_and_unknown(known.vectors)[at], shown), shown.sum(axis=1) > 1
    standing = percentile(known)
    yield f"popularity_bias{TOP}", _mean(standing[at], shown) - _mean(standing[at_wanted], wanted), some
    found = hit(items, rows[RELEVANT].tolist())
    for part, inside in (("head", head(known)), ("tail", ~head(known))):
        size = (inside[at_wanted] & wanted).sum(axis=1)
        yield f"{part}_recall{TOP}", recall(found & inside[at], np.maximum(size, 1)), size > 0


def surprise(known: KnownItems) -> Array:
    """Bits, shape (items + 1,): how unlikely a like is of the item, by its share of all, each counted once more; the
    last one is that of an unknown item."""
    likes = _and_unknown(known.likes) + 1.0
    bits: Array = -np.log2(likes / likes.sum())
    return bits


def percentile(known: KnownItems) -> Array:
    """Share, shape (items + 1,), of the known items that are liked less, and half of those liked as much; the last one
    is that of an unknown item, which nobody liked."""
    likes, ordered = _and_unknown(known.likes), np.sort(known.likes)
    below: Array = np.searchsorted(ordered, likes, side="left") + np.searchsorted(ordered, likes, side="right")
    return below / (2 * len(ordered))


def head(known: KnownItems) -> Array:
    """Which are of the most liked fifth, bool, shape (items + 1,); an unknown item, the last one, is not."""
    chosen = np.zeros(len(known.ids) + 1, dtype=bool)
    chosen[np.argsort(-known.likes, kind="stable")[: int(np.ceil(HEAD * len(known.ids)))]] = True
    return chosen


def diversity(vectors: Array, shown: Array) -> Array:
    """1 - the mean cosine of the pairs in each list, shape (n,); vectors are (n, k, d), of unit length or zero."""
    of = np.where(shown[..., None], vectors, 0.0).astype(np.float64)
    together = (of.sum(axis=1) ** 2).sum(axis=1) - (of**2).sum(axis=(1, 2))
    count = shown.sum(axis=1)
    spread: Array = 1 - together / np.maximum(count * (count - 1), 1)
    return spread


def coverage(rows: "pd.DataFrame", items: Array) -> Callable[[Array], float]:
    """Share of the known items that are in one of the lists, int64 ids of shape (n, k), of the rows that count.

    It grows with the number of rows, and rows drawn again are fewer distinct ones: its interval lies below it.
    """
    known = known_of(rows)
    places = known.place(items) + 1

    def weighted(weights: Array) -> float:
        times = np.bincount(places.ravel(), np.repeat(weights, places.shape[1]), len(known.ids) + 1)
        return float((times[1:] > 0).mean())

    return weighted


def _padded(ids: Sequence[Array]) -> Array:
    """Arrays of ids as one, int64, shape (n, most), -1 beyond the end of each."""
    size = np.array([len(each) for each in ids])
    table = np.full((len(ids), size.max()), -1)
    table[np.arange(size.max()) < size[:, None]] = np.concatenate(ids)
    return table


def _mean(values: Array, counted: Array) -> Array:
    mean: Array = (values * counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
    return mean


def _and_unknown(values: Array) -> Array:
    """Values of the known items, and zeros for one that is not known."""
    return np.append(values, np.zeros_like(values[:1]), axis=0)
