"""Which sales train, which are held back, which test: always by time, with the label delay between."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from orrery.errors import OrreryError
from orrery.usecase import Split, Window

if TYPE_CHECKING:
    import pandas as pd

    Pair = tuple[pd.DataFrame, pd.DataFrame]

MOMENT = "sold_at"
LABEL_DELAY = timedelta(days=31)
"""data name the month of a sale by its first day; all its prices are known when the month is over"""
TEST_SPAN = timedelta(days=365)
_FOLD_SPAN = timedelta(days=182)
_FOLDS = 3
_LEAST_TRAIN, _LEAST_TEST = 100, 20
"""rows"""


class WindowRefused(OrreryError):
    """The window holds too few sales to train or to test on."""


def split(rows: "pd.DataFrame", window: Window) -> Split:
    """The last year of sales whose prices were known at `as_of` tests; training ends the label delay before it.

    Raises WindowRefused when a part has too few sales.
    """
    test_to = window.as_of - LABEL_DELAY
    train, test = _apart(rows, test_to - TEST_SPAN, test_to)
    if len(train):
        train = train[train[MOMENT] > train[MOMENT].max() - timedelta(days=window.days)]
    if len(train) < _LEAST_TRAIN or len(test) < _LEAST_TEST:
        raise WindowRefused(
            f"{len(test)} sales in the year before {test_to:%Y-%m-%d} to test on and {len(train)} earlier ones are too "
            f"few: {_LEAST_TEST} and {_LEAST_TRAIN} are needed; choose another --as-of, more --days, or more data"
        )
    return Split(train=train, folds=folds(train), test=test)


def folds(train: "pd.DataFrame") -> "tuple[Pair, ...]":
    """The last three half-years, each to be predicted from all that was known before it; fewer where rows are few.

    Raises WindowRefused when there is not one.
    """
    ends = [train[MOMENT].max() - step * _FOLD_SPAN for step in reversed(range(_FOLDS))]
    pairs = [_apart(train, end - _FOLD_SPAN, end) for end in ends]
    found = tuple(pair for pair in pairs if len(pair[0]) >= _LEAST_TRAIN and len(pair[1]) >= _LEAST_TEST)
    if not found:
        raise WindowRefused(
            f"the {len(train)} sales from {train[MOMENT].min():%Y-%m-%d} to {train[MOMENT].max():%Y-%m-%d} hold no "
            "half-year to validate on; train on more"
        )
    return found


def _apart(rows: "pd.DataFrame", after: datetime, to: datetime) -> "Pair":
    """The rows of (after, to], and before them those whose labels were known when they began."""
    moments = rows[MOMENT]
    later = rows[(moments > after) & (moments <= to)]
    return rows[moments <= later[MOMENT].min() - LABEL_DELAY], later
