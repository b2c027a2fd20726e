"""Which transactions train, which are held back, which test: always by time, with the label delay between."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from orrery.errors import OrreryError
from orrery.usecase import Split, Window
from usecases.fraud.features import LABEL_DELAY

if TYPE_CHECKING:
    import pandas as pd

DAY = timedelta(days=1)
WEEK = timedelta(days=7)
HELD_BACK = WEEK + LABEL_DELAY
"""of the rows whose labels have arrived: the test week, and the label delay before it"""
_FOLDS = 2


class WindowRefused(OrreryError):
    """The window holds too little to train or to test on."""


@dataclass(frozen=True)
class Fold:
    """One week of the published protocol."""

    test_from: datetime
    rows: int
    frauds: int

    @property
    def train_to(self) -> datetime:
        """The first moment after training: the label delay before the test."""
        return self.test_from - LABEL_DELAY


def _fold(month: int, day: int, rows: int, frauds: int) -> Fold:
    return Fold(datetime(2018, month, day, tzinfo=UTC), rows, frauds)


VALIDATION_FOLDS = (
    _fold(7, 25, 58_505, 374),
    _fold(7, 18, 57_931, 351),
    _fold(7, 11, 57_800, 411),
    _fold(7, 4, 57_182, 416),
)
TEST_FOLDS = (
    _fold(8, 29, 57_604, 422),
    _fold(8, 22, 58_337, 408),
    _fold(8, 15, 57_937, 387),
    _fold(8, 8, 58_264, 385),
)


def between(rows: "pd.DataFrame", start: datetime, end: datetime) -> "pd.DataFrame":
    """The rows of [start, end)."""
    moments = rows["TX_DATETIME"]
    return rows[(moments >= start) & (moments < end)]


def unknown_cards(rows: "pd.DataFrame", start: datetime) -> "pd.DataFrame":
    """The rows of the week from `start`, without cards known to be compromised when the row's day begins.

    Known is a card with a fraud in the last week whose labels had arrived by `start`, or later, once its label came.
    """
    recent = between(rows, start - LABEL_DELAY - WEEK, start + WEEK)
    day = (recent["TX_DATETIME"] - start) // DAY
    first_fraud = day[recent["TX_FRAUD"] == 1].groupby(recent["CUSTOMER_ID"]).min()
    known_from = recent["CUSTOMER_ID"].map(first_fraud) + LABEL_DELAY // DAY + 1
    return recent[(day >= 0) & ~(known_from <= day)]


def published(rows: "pd.DataFrame", fold: Fold, train_days: int) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """Training and test rows of a published fold. Raises WindowRefused when these are not the published rows."""
    test = unknown_cards(rows, fold.test_from)
    found = (len(test), int(test["TX_FRAUD"].sum()))
    if found != (fold.rows, fold.frauds):
        raise WindowRefused(
            f"the week of {fold.test_from:%Y-%m-%d} has {found[0]} rows and {found[1]} frauds, published are "
            f"{fold.rows} and {fold.frauds}; prepare the simulated data set in full"
        )
    return between(rows, fold.train_to - train_days * DAY, fold.train_to), test


def split(rows: "pd.DataFrame", window: Window) -> Split:
    """The last week whose labels had all arrived by `as_of` tests; training ends the label delay before it.

    Raises WindowRefused when a part is empty or has transactions of one kind only.
    """
    test_from = window.as_of - LABEL_DELAY - WEEK
    train_to = test_from - LABEL_DELAY
    train_from = train_to - window.days * DAY
    folds = tuple(
        (between(rows, train_from, start - LABEL_DELAY), unknown_cards(rows, start))
        for start in (train_to - weeks * WEEK for weeks in range(_folds(window), 0, -1))
    )
    whole = Split(
        train=between(rows, train_from, train_to),
        folds=folds,
        test=unknown_cards(rows, test_from),
        usual=between(rows, test_from, test_from + WEEK),
    )
    for part in (whole.train, whole.test, *(part for fold in folds for part in fold)):
        if part["TX_FRAUD"].nunique() < 2:
            raise WindowRefused(
                f"a part of the {window.days} days of training before {train_to:%Y-%m-%d}, or the test week from "
                f"{test_from:%Y-%m-%d}, has no frauds or no others; choose another --as-of or more --days"
            )
    return whole


def _folds(window: Window) -> int:
    fitting = (window.days * DAY - LABEL_DELAY) // WEEK - 1
    if fitting < 1:
        raise WindowRefused(f"{window.days} days hold no week to validate on; train on 21 days or more")
    return min(_FOLDS, fitting)
