"""A season of tables at one restaurant, generated."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from orrery.errors import OrreryError
from orrery.usecase import Progress, SourceRequest

START = datetime(2024, 5, 1, tzinfo=UTC)


class BadTable(OrreryError):
    """A row that cannot be a table."""


def generate(request: SourceRequest, progress: Progress) -> pd.DataFrame:
    """Twenty tables an hour for forty days: large bills of small parties tip well."""
    rows, random = 40 * 24 * (5 if request.sample else 20), np.random.default_rng(3)
    at = START + pd.to_timedelta(np.sort(random.choice(40 * 86_400, rows, replace=False)), unit="s")
    bill, guests = random.gamma(4, 15, rows).round(2), random.integers(1, 9, rows)
    chance = 1 / (1 + np.exp(-(bill / guests - 18) / 4))
    progress("tables", rows, rows)
    return pd.DataFrame(
        {
            "table_id": np.arange(rows, dtype=np.int64),
            "waiter_id": random.integers(0, 12, rows),
            "at": pd.DatetimeIndex(at).as_unit("us"),
            "bill": bill,
            "guests": guests,
            "generous": (random.random(rows) < chance).astype(np.int64),
        }
    )


def validate(frame: pd.DataFrame) -> pd.DataFrame:
    """Raises BadTable on a row without a positive bill."""
    bad = frame.index[~(frame["bill"] >= 0)]
    if len(bad):
        raise BadTable(f"row {bad[0]}: bill must not be negative")
    return frame.sort_values("at", ignore_index=True)


def visits_before(frame: pd.DataFrame) -> pd.Series:
    """How many tables the row's waiter had before it."""
    return frame.groupby("waiter_id").cumcount()


def delay() -> timedelta:
    """A guest's tip is known a day later."""
    return timedelta(days=1)
