"""Which films train, which validate, which test: by time, patients on one side only, the label delay between."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from orrery.errors import OrreryError
from orrery.usecase import Split, Window

if TYPE_CHECKING:
    import pandas as pd

MOMENT, LABEL, PATIENT = "taken_at", "label", "patient_id"
LABEL_DELAY = timedelta(days=7)
"""a film counts as read a week after it was taken"""
TEST_SPAN = VALIDATION_SPAN = timedelta(days=90)
_LEAST = 5
"""films of each class in each part"""


class WindowRefused(OrreryError):
    """The window holds too few films to train or to test on."""


def split(rows: "pd.DataFrame", window: Window) -> Split:
    """The last 90 days whose films had been read at `as_of` test; the 90 before them validate.

    Where all films have an official part, that is kept.
    Raises WindowRefused when a part has too few films of a class.
    """
    known = rows[rows[MOMENT] <= window.as_of - LABEL_DELAY]
    if len(known) and (known["part"] != "").all():
        learn, check, test = (known[known["part"] == part] for part in ("train", "validation", "test"))
        train = known[known["part"] != "test"]
    else:
        train, test = _apart(known, window.as_of - LABEL_DELAY - TEST_SPAN)
        last = train[MOMENT].max() if len(train) else window.as_of
        train = train[train[MOMENT] > last - timedelta(days=window.days)]
        learn, check = _apart(train, last - VALIDATION_SPAN)
    for name, part in (("train", learn), ("validate", check), ("test", test)):
        counts = [int((part[LABEL] == label).sum()) for label in (0, 1)]
        if min(counts) < _LEAST:
            raise WindowRefused(
                f"to {name}, {_LEAST} films with a finding and as many without are needed, and the window has "
                f"{counts[1]} and {counts[0]}; choose another --as-of, more --days, or more data"
            )
    return Split(train=train, folds=((learn, check),), test=test)


def _apart(rows: "pd.DataFrame", after: datetime) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """The rows after a moment, and before them those that had been read by then, of other patients."""
    later = rows[rows[MOMENT] > after]
    if later.empty:
        return rows, later
    earlier = rows[rows[MOMENT] <= later[MOMENT].min() - LABEL_DELAY]
    return earlier[~earlier[PATIENT].isin(later[PATIENT])], later
