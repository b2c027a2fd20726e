"""Computes the features of a sample of answers again, offline, from what is known by then: is it what models saw?"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Row

from orrery.adapters.data_versions import NoData
from orrery.adapters.online_store import filled_until
from orrery.adapters.traffic_log import TrafficLog, still_valid
from orrery.adapters.watch_log import SkewLog
from orrery.collecting import served, together
from orrery.moments import micros
from orrery.parity import compare
from orrery.preparation import current
from orrery.settings import Settings
from orrery.skew import Ages, Skew, ViewSkew
from orrery.usecase import Case, Progress, silent

if TYPE_CHECKING:
    import pandas as pd

_LOOKED_BACK = 50
"""windows with answers: one event with a wrong year must not hide the window that is just over"""
_STAGE, _STEPS = "features again", 3
Tables = Mapping[str, "pd.DataFrame"]


def recompute(
    case: Case, traffic: TrafficLog, found: SkewLog, settings: Settings, now: datetime, progress: Progress = silent
) -> Skew | None:
    """Compare a sample of the newest window that is over, once, and write it down; later looks note that they looked.

    None: no window is over, the use case stores no features, or the sample is set to none. Killed at any point, the
    next look does it. Raises LogUnavailable, StoreUnavailable, and what reading and validating raw data raise.
    """
    first = _newest_over(case, traffic) if settings.watch.sample and _views(case) else None
    if first is None:
        return None
    known = next((each for _, each in found.latest(case.name, _LOOKED_BACK) if each.first == first), None)
    skew = known or judge(case, first, traffic, settings, progress)
    found.write(skew, now)
    return skew


def judge(case: Case, first: datetime, traffic: TrafficLog, settings: Settings, progress: Progress = silent) -> Skew:
    """What a sample of one window says."""
    last = first + case.training.watching.window
    progress(_STAGE, 0, _STEPS, "draw")
    rows = traffic.sample(case.name, first, last, settings.watch.sample)
    whole = [row for row in rows if not row.degraded and row.features]
    degraded = len(rows) - len(whole)
    skew = Skew(case.name, first, last, len(rows), degraded, len(whole), ages=_ages(rows))
    if case.training.collected is None:
        return _because(skew, f"{case.name} does not say how its requests become raw rows")
    if not whole:
        return skew
    progress(_STAGE, 1, _STEPS, f"{len(whole)} of {len(rows)} answers")
    tables = again(case, whole, first, last, traffic, settings)
    if not tables:
        return _because(skew, "no raw rows are known that features can be computed from")
    progress(_STAGE, 2, _STEPS, "compare")
    views, unknown = _compared(case, whole, tables)
    progress(_STAGE, _STEPS, _STEPS, f"{sum(each.differing for each in views.values())} differ")
    return Skew(case.name, first, last, len(rows), degraded, unknown, views, skew.ages)


def raw_until(case: Case, first: datetime, last: datetime, traffic: TrafficLog, settings: Settings) -> "pd.DataFrame":
    """The raw rows that the online store can know of and that features of [first, last) can depend on.

    They are those it was filled with, and what was served. Later rows of the raw data are left out: nobody has told
    them yet, and a replay knows the future.
    """
    training, memory = case.training, case.training.watching.memory
    since = first - memory if memory else None
    filled = filled_until(settings, _views(case))
    base = _base(case.name, settings) if filled else None
    rows = served(case, traffic, base, last, since)
    if filled is not None and base is not None:
        known = [(training.moment, "<", min(filled, last)), *([(training.moment, ">=", since)] if since else [])]
        rows = together(base, rows, training.identity, known)
    return rows if rows.empty else training.validate(rows)


def again(
    case: Case, rows: Sequence[Row[Any]], first: datetime, last: datetime, traffic: TrafficLog, settings: Settings
) -> Tables:
    """The offline features of answers of [first, last), and perhaps of other events then; nothing where none can be."""
    training, raw = case.training, raw_until(case, first, last, traffic, settings)
    if raw.empty:
        return {}
    if training.asked is None:
        return _of_window(training.features(raw), first, last)
    return training.asked(raw, list(still_valid(case.serving.request, (row.request for row in rows))))


def _base(use_case: str, settings: Settings) -> Path | None:
    try:
        return current(use_case, settings).path
    except NoData:
        return None


def _newest_over(case: Case, traffic: TrafficLog) -> datetime | None:
    clock, length = traffic.clock(case.name), case.training.watching.window
    if clock is None:
        return None
    over = [first for first in traffic.starts(case.name, length, _LOOKED_BACK) if first + length <= clock]
    return over[-1] if over else None


def _views(case: Case) -> set[str]:
    """The online views that a request reads."""
    return {key.view for key in case.serving.keys(case.serving.example)}


def _because(skew: Skew, reason: str) -> Skew:
    return Skew(skew.use_case, skew.first, skew.last, skew.sampled, skew.degraded, skew.unknown, {}, skew.ages, reason)


def _of_window(tables: Tables, first: datetime, last: datetime) -> Tables:
    from orrery.adapters.feature_store import MOMENT

    return {name: table[(table[MOMENT] >= first) & (table[MOMENT] < last)] for name, table in tables.items()}


def _compared(case: Case, rows: Sequence[Row[Any]], tables: Tables) -> tuple[Mapping[str, ViewSkew], int]:
    """Each offline view's comparison, and how many rows were in none of them."""
    seen = {row.identity: json.loads(row.features) for row in rows}
    views: dict[str, ViewSkew] = {}
    unknown = 0
    for view, table in tables.items():
        names = [name for name in case.serving.feature_names if name in table.columns]
        if not names:
            continue
        served = [(who, [each.get(name, np.nan) for name in names]) for who, each in seen.items()]
        found = compare(served, table.set_index(case.training.identity), names)
        differing = found.mismatches - found.unknown
        views[view] = ViewSkew(
            found.rows - found.unknown, differing, {name: found.features.get(name, 0) for name in names}
        )
        unknown = max(unknown, found.unknown)
    return views, unknown


def _ages(rows: Sequence[Row[Any]]) -> Mapping[str, Ages]:
    """Online view -> how old its values were, in the answers that had any."""
    ages: dict[str, list[float]] = {}
    for view, seconds in (each for row in rows for each in _aged(row)):
        ages.setdefault(view, []).append(seconds)
    return {
        view: Ages(*(float(each) for each in np.percentile(known, [50, 95]))) for view, known in sorted(ages.items())
    }


def _aged(row: Row[Any]) -> Iterator[tuple[str, float]]:
    for view, source in json.loads(row.sources).items():
        if source["event_time"] is not None:
            yield view, (row.event_time - micros(datetime.fromisoformat(source["event_time"]))) / 1e6
