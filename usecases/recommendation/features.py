"""What the model sees of a user and of the moment: one definition for one request online and for all rows offline.

Named features first; after them the payload: what is popular now, what the user looks at, and the whole history.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from orrery.usecase import Array
from usecases.recommendation.items import GENRES, VECTOR, genre_flags

LIKED = 4.0
"""the least rating, of 5, that says that a user liked an item"""
MOST_EVENTS = 10_000
"""of a user, the newest; who has seen more may be shown again what is older"""
POPULAR = 200
TRENDING_DAYS = 30
MOST_TRENDING = 5_000
HALF_LIFE_DAYS = 15.0
DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER_DAYS = 3_650.0
_NOBODY = -1

_USER = (
    "user_events", "user_events_1d", "user_events_30d", "user_likes", "user_mean_rating", "user_rating_std",
    "user_days_since_last", "user_days_since_first", "trending_likes", "hour", "weekday",
)  # fmt: skip
_SLUGS = tuple(name.lower().replace("-", "_") for name in GENRES)
FEATURES: tuple[str, ...] = (*_USER, *(f"taste_{name}" for name in _SLUGS), *(f"asked_{name}" for name in _SLUGS))
"""names of the features, in the order of the inputs"""


@dataclass(frozen=True)
class History:
    """Events, oldest first; all arrays of shape (events,)."""

    times: Array
    """int64, microseconds since the Unix epoch"""
    items: Array
    """int64"""
    ratings: Array
    """float64 in (0, 5]"""
    genres: Array
    """int64, bits of `items.GENRES`"""

    def until(self, moment: int) -> "History":
        """The events before a moment, without those of that very moment."""
        end = int(np.searchsorted(self.times, moment, side="left"))
        part = slice(max(end - MOST_EVENTS, 0), end)
        return History(self.times[part], self.items[part], self.ratings[part], self.genres[part])

    def after(self, moment: int, item: int, rating: float, genres: int) -> "History":
        """The history with one event more, in order of time; the oldest of too many is forgotten."""
        at = int(np.searchsorted(self.times, moment, side="right"))
        return History(
            np.insert(self.times, at, moment)[-MOST_EVENTS:],
            np.insert(self.items, at, item)[-MOST_EVENTS:],
            np.insert(self.ratings, at, rating)[-MOST_EVENTS:],
            np.insert(self.genres, at, genres)[-MOST_EVENTS:],
        )


@dataclass(frozen=True)
class Trending:
    """Likes of all users, oldest first: times, int64 microseconds, and items, int64, of shape (likes,)."""

    times: Array
    items: Array

    def until(self, moment: int) -> "Trending":
        """The newest likes of the last 30 days before a moment."""
        end = int(np.searchsorted(self.times, moment, side="left"))
        start = int(np.searchsorted(self.times, moment - TRENDING_DAYS * DAY_US, side="left"))
        start = max(start, end - MOST_TRENDING)
        return Trending(self.times[start:end], self.items[start:end])

    def after(self, moment: int, item: int) -> "Trending":
        """With one like more, in order of time; what no later moment can count is forgotten."""
        at = int(np.searchsorted(self.times, moment, side="right"))
        times, items = np.insert(self.times, at, moment), np.insert(self.items, at, item)
        start = int(np.searchsorted(times, times[-1] - TRENDING_DAYS * DAY_US, side="left"))
        start = max(start, len(times) - 2 * MOST_TRENDING)  # so many are enough for a request of the same moment too
        return Trending(times[start:], items[start:])


NOTHING = History(*(np.empty(0, kind) for kind in (np.int64, np.int64, np.float64, np.int64)))
NOTHING_TRENDS = Trending(np.empty(0, np.int64), np.empty(0, np.int64))


def micros(moment: datetime) -> int:
    """Microseconds since the Unix epoch of an aware moment."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def history_of(values: Mapping[str, Any]) -> History:
    """The stored row of the view `user_history`."""
    return History(**{name: np.asarray(values[name]) for name in ("times", "items", "ratings", "genres")})


def trending_of(values: Mapping[str, Any]) -> Trending:
    """The stored row of the view `trending`."""
    return Trending(np.asarray(values["times"]), np.asarray(values["items"]))


def named(history: History, trending: Trending, moment: int, asked: int = 0) -> Array:
    """The named features, float32, shape (features,), of what was before `moment`; `asked`: bits of genres."""
    likes = history.ratings >= LIKED
    events = len(history.times)
    days = (moment - history.times) / DAY_US
    day, hour = divmod(moment // 3_600_000_000, 24)
    user = (
        events,
        np.count_nonzero(days <= 1),
        np.count_nonzero(days <= 30),
        np.count_nonzero(likes),
        history.ratings.mean() if events else 0.0,
        history.ratings.std() if events else 0.0,
        min(days[-1], _NEVER_DAYS) if events else _NEVER_DAYS,
        days[0] if events else 0.0,
        len(trending.times),
        hour,
        (day + 3) % 7,  # the epoch was a Thursday
    )
    taste = genre_flags(history.genres[likes]).sum(axis=0, dtype=np.float64) / max(np.count_nonzero(likes), 1)
    return np.concatenate([user, taste, genre_flags(np.array([asked]))[0]]).astype(np.float32)


def popular(trending: Trending, moment: int) -> tuple[Array, Array]:
    """Liked items by decayed count, most popular first: ids and weights, float32, shape (POPULAR,); -1 and 0 beyond."""
    ids, code = np.unique(trending.items, return_inverse=True)
    weights = np.bincount(code, 2.0 ** ((trending.times - moment) / DAY_US / HALF_LIFE_DAYS), len(ids))
    order = np.lexsort((ids, -weights))[:POPULAR]
    found, weight = np.full(POPULAR, _NOBODY, np.float32), np.zeros(POPULAR, np.float32)
    found[: len(order)], weight[: len(order)] = ids[order], weights[order]
    return found, weight


@dataclass(frozen=True)
class Unpacked:
    """Rows of inputs, told apart."""

    named: Array
    """float32, shape (n, features)"""
    popular_ids: Array
    """int64, shape (n, POPULAR), -1 where there are fewer"""
    popular_weights: Array
    """float32, shape (n, POPULAR)"""
    context: Array
    """float32, shape (n, VECTOR): the content of what the user looks at now, or zeros"""
    items: Array
    """int64, shape (n, events), oldest first, -1 behind the last"""
    ratings: Array
    """float32, shape (n, events)"""
    ages: Array
    """float32, days, shape (n, events)"""


_HEAD = len(FEATURES) + 2 * POPULAR + VECTOR


def pack(values: Array, popular_now: tuple[Array, Array], context: Array, history: tuple[Array, Array, Array]) -> Array:
    """One row of inputs, float32; `history` is ids, ratings and ages in days."""
    return np.concatenate([values, *popular_now, context, *history]).astype(np.float32)


def inputs(history: History, trending: Trending, moment: int, asked: int = 0, context: Array | None = None) -> Array:
    """One row of inputs, float32, shape (_HEAD + 3 * events,), of what was before `moment`, microseconds."""
    past, likes = history.until(moment), trending.until(moment)
    ages = (moment - past.times) / DAY_US
    looked_at = np.zeros(VECTOR, np.float32) if context is None else context
    return pack(named(past, likes, moment, asked), popular(likes, moment), looked_at, (past.items, past.ratings, ages))


def with_looked_at(row: Array, item: int) -> Array:
    """A row of inputs whose history ends with an item that the user looks at now."""
    blocks = row[_HEAD:].reshape(3, -1)
    return np.concatenate([row[:_HEAD], np.column_stack([blocks, (item, 5.0, 0.0)]).ravel()]).astype(np.float32)


def stacked(rows: list[Array]) -> Array:
    """Rows of inputs of several users, padded to one width, shape (n, _HEAD + 3 * most events)."""
    most = max(((len(row) - _HEAD) // 3 for row in rows), default=0)
    table = np.zeros((len(rows), _HEAD + 3 * most), np.float32)
    table[:, _HEAD : _HEAD + most] = _NOBODY
    for place, row in enumerate(rows):
        table[place, :_HEAD] = row[:_HEAD]
        blocks = row[_HEAD:].reshape(3, -1)
        table[place, _HEAD:].reshape(3, most)[:, : blocks.shape[1]] = blocks
    return table


def unpack(rows: Array) -> Unpacked:
    """Rows of inputs, float32, shape (n, width), told apart."""
    width = (rows.shape[1] - _HEAD) // 3
    sizes = (len(FEATURES), POPULAR, POPULAR, VECTOR, width, width)
    values, ids, weights, context, items, ratings, ages = np.split(rows, np.cumsum(sizes), axis=1)
    return Unpacked(values, ids.astype(np.int64), weights, context, items.astype(np.int64), ratings, ages)
