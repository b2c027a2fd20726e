"""Which events train, and what users are asked about at which moments: always by time, the answers always later."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from orrery.errors import OrreryError
from orrery.usecase import Array, Split, Window
from usecases.recommendation import tables
from usecases.recommendation.features import FEATURES, LIKED
from usecases.recommendation.items import content_vectors

KIND, RELEVANT, KNOWN_ITEMS = "KIND", "RELEVANT", "KNOWN_ITEMS"
"""columns of query rows: which protocol asks, what the user liked then (int64 ids), and what could be shown"""
VISIT, LAST = "visit", "last"

DAY = timedelta(days=1)
YEAR = timedelta(days=365)
_SHARE = 5
_FOLDS = 4
_TICK = timedelta(microseconds=1)


class WindowRefused(OrreryError):
    """The window holds too little to train or to test on."""


@dataclass(frozen=True)
class KnownItems:
    """The items of the training rows: what could be shown, and how much it had been liked."""

    ids: Array
    """int64, ascending, shape (n,)"""
    likes: Array
    """int64, shape (n,)"""
    vectors: Array
    """content, float32, of unit length, shape (n, items.VECTOR)"""

    def place(self, ids: Array) -> Array:
        """Where ids, int64, any shape, stand in `self.ids`; -1 where they do not."""
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[at] == ids, at, -1)


def split(rows: pd.DataFrame, window: Window) -> Split:
    """The queries of the last year before `as_of` test, those of up to four years before it validate.

    Where there is less, a period is as long as a fifth of the span of the rows, or of `window.days`. What trains is all
    earlier than the queries that it is asked. Raises WindowRefused when there is nothing to learn, or nothing to ask.
    """
    known = rows[rows["AT"] <= window.as_of]
    if known.empty:
        raise WindowRefused(f"there are no events until {window.as_of:%Y-%m-%d}; choose a later --as-of")
    length = min(YEAR, (window.as_of - known["AT"].min().to_pydatetime()) / _SHARE, window.days * DAY / _SHARE)
    test_from = window.as_of - length
    train = _between(known, test_from - window.days * DAY, test_from)
    folds = []
    for start in (test_from - periods * length for periods in range(_FOLDS, 0, -1)):
        earlier = train[train["AT"] < start]
        asked = _asked(known, earlier, start, start + length)
        if _likes(earlier) and len(asked):
            folds.append((earlier, asked))
    test = _asked(known, train, test_from, window.as_of + _TICK)
    if not folds or not {VISIT, LAST} <= set(test[KIND]):
        raise WindowRefused(
            f"in the {length.days} days before or after {test_from:%Y-%m-%d} no visit began in which a user liked "
            "something new, or nothing was liked earlier; choose another --as-of or more --days"
        )
    return Split(train=train, folds=tuple(folds), test=test)


def judged(rows: pd.DataFrame, raw: pd.DataFrame) -> pd.DataFrame:
    """The queries in the time of `rows`, which have features; `raw` are all events until then.

    Raises WindowRefused when nothing was liked in that time, or nothing was known before.
    """
    start, end = rows["AT"].min(), rows["AT"].max() + _TICK
    earlier = raw[raw["AT"] < start]
    asked = _asked(raw, earlier, start.to_pydatetime(), end.to_pydatetime())
    if earlier.empty or asked.empty:
        raise WindowRefused("there is nothing to ask in that window, or nothing before it; choose another")
    return asked.merge(rows[["EVENT_ID", *FEATURES]], on="EVENT_ID", how="left", validate="m:1")


def queries(rows: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    """What users are asked about in [start, end): the rows at whose moments they are, with `KIND` and `RELEVANT`.

    Rows are in order of time. A visit begins a day or more after the user's last event; at its first row, relevant is
    what is liked in it until `end`. The last item that a user liked in the period is relevant at its own moment. What
    was seen before the moment, by any event, is not relevant; where nothing is, nothing is asked.
    """
    known = rows[rows["AT"] < end]
    users, moments = known["USER_ID"], known["AT"]
    begins = ~(moments - moments.groupby(users).shift() < DAY)
    visit = begins.groupby(users).cumsum()
    opened = moments.groupby([users, visit]).transform("min")
    first_seen = moments.groupby([users, known["ITEM_ID"]]).transform("min")
    liked = known[(known["RATING"] >= LIKED) & (first_seen >= opened) & (opened >= start)]
    found = liked.groupby(["USER_ID", visit])["ITEM_ID"].unique()
    firsts = known[begins & (moments >= start)].assign(KIND=VISIT, VISIT=visit)
    firsts = firsts.join(found.rename(RELEVANT), on=["USER_ID", "VISIT"], how="inner").drop(columns="VISIT")
    fresh = (known["RATING"] >= LIKED) & (first_seen == moments) & (moments >= start)
    last = known[fresh].groupby("USER_ID").tail(1)
    last = last.assign(KIND=LAST, RELEVANT=list(last["ITEM_ID"].to_numpy()[:, None]))
    return pd.concat([firsts, last]).sort_values(["AT", "USER_ID", KIND], kind="stable", ignore_index=True)


def known_items(rows: pd.DataFrame) -> KnownItems:
    """The items of rows, with their likes."""
    items = tables.item_table(rows)
    likes = rows["ITEM_ID"][rows["RATING"] >= LIKED].value_counts().reindex(items["ITEM_ID"], fill_value=0)
    return KnownItems(
        items["ITEM_ID"].to_numpy(np.int64),
        likes.to_numpy(np.int64),
        content_vectors(items["genres"].to_numpy(), items["YEAR"].to_numpy()),
    )


def _asked(rows: pd.DataFrame, earlier: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    """Queries with the model's inputs, and the items of the rows that were there to learn from."""
    asked = tables.with_payload(queries(rows, start, end), rows[rows["AT"] < end])
    return asked.assign(KNOWN_ITEMS=pd.Series([known_items(earlier)] * len(asked), asked.index, dtype=object))


def _between(rows: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    return rows[(rows["AT"] >= start) & (rows["AT"] < end)]


def _likes(rows: pd.DataFrame) -> int:
    return int((rows["RATING"] >= LIKED).sum())
