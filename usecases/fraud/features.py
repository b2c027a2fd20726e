"""What the model sees of a transaction: one definition for whole tables and for a single request.

Every window is a range of positions in an entity's events. Both sides find the range with `_starts` and `_ends`, sum
integer cents, and pass integers to `_assemble`, so a served row and its offline row are the same bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from orrery.errors import OrreryError

Integers = NDArray[np.int64]
Mark = Literal["cents", "frauds"]

SECOND = 1_000_000
DAY = 86_400 * SECOND
WINDOWS = (1, 7, 30)
"""days"""
LABEL_DELAY = timedelta(days=7)
CUSTOMER_MEMORY = timedelta(days=30)
TERMINAL_MEMORY = CUSTOMER_MEMORY + LABEL_DELAY
MOST_ENTRIES = 5_000
"""of one entity: a bound on what a flood of events can make the store hold"""

FEATURES = (
    "TX_AMOUNT",
    "TX_DURING_WEEKEND",
    "TX_DURING_NIGHT",
    *(f"CUSTOMER_ID_{what}_{days}DAY_WINDOW" for days in WINDOWS for what in ("NB_TX", "AVG_AMOUNT")),
    *(f"TERMINAL_ID_{what}_{days}DAY_WINDOW" for days in WINDOWS for what in ("NB_TX", "RISK")),
    "AMOUNT_TO_CUSTOMER_MEAN_RATIO",
    "AMOUNT_TO_CUSTOMER_MEAN_DIFFERENCE",
)

_DELAY = LABEL_DELAY // timedelta(microseconds=1)
_LENGTHS = np.array(WINDOWS, dtype=np.int64) * DAY


class Unordered(OrreryError):
    """Rows are not in event order."""


class History(NamedTuple):
    """One entity's events in event order: int64 arrays of equal length."""

    times: Integers
    """microseconds since the Unix epoch"""
    marks: Integers
    """cents of a customer's events, fraud 0/1 of a terminal's"""


class Totals(NamedTuple):
    """What lies in each window: int64, shape (windows, rows)."""

    counts: Integers
    sums: Integers


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
NOTHING = History(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def micros(moment: datetime) -> int:
    """An aware moment as microseconds since the Unix epoch, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def history(values: Mapping[str, Any], mark: Mark) -> History:
    """Stored values as a history; an entity nobody has seen has `NOTHING`."""
    return History(values["times"], values[mark]) if values else NOTHING


def values(past: History, mark: Mark) -> dict[str, Integers]:
    """A history as the values to store."""
    return {"times": past.times, mark: past.marks}


# --- the definitions --------------------------------------------------------------------------


def _starts(ends: Integers) -> Integers:
    """Where the windows (start, end] that end at `ends` start. Shape (windows, rows)."""
    return ends - _LENGTHS[:, None]


def _matured(times: Integers) -> Integers:
    """Where the windows of labels end: the last moment whose labels have arrived."""
    return times - _DELAY


def _totals(marks: Integers, first: Integers, last: Integers) -> Totals:
    """Counts and sums of `marks[first:last]`, for each pair of positions."""
    running = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(marks, dtype=np.int64)))
    return Totals(last - first, running[last] - running[first])


def _ratio(numerator: Integers, denominator: Integers, default: float) -> NDArray[np.float64]:
    """The one float64 division of a feature; `default` where there is nothing to divide by."""
    out = np.full(np.broadcast(numerator, denominator).shape, default)
    np.divide(numerator, denominator, out=out, where=denominator != 0)
    return out


def _assemble(times: Integers, cents: Integers, customer: Totals, terminal: Totals) -> NDArray[np.float64]:
    """The features of rows, shape (rows, features). Customer totals include the row itself."""
    earlier, spent = customer.counts[-1] - 1, customer.sums[-1] - cents
    amounts = _ratio(customer.sums, 100 * customer.counts, 0.0)
    risks = _ratio(terminal.sums, terminal.counts, 0.0)
    columns = [
        cents / 100,
        (times // DAY + 3) % 7 >= 5,  # day 0 of the epoch was a Thursday
        times % DAY < 7 * 3_600 * SECOND,
        *(column for pair in zip(customer.counts, amounts, strict=True) for column in pair),
        *(column for pair in zip(terminal.counts, risks, strict=True) for column in pair),
        _ratio(cents * earlier, spent, 1.0),
        _ratio(cents * earlier - spent, 100 * earlier, 0.0),
    ]
    out = np.empty((len(times), len(columns)), dtype=np.float64)
    for index, column in enumerate(columns):
        out[:, index] = column
    return out


# --- online: one row ---------------------------------------------------------------------------


def online_features(time: int, cents: int, customer: History, terminal: History) -> NDArray[np.float32]:
    """The inputs of one request at its own moment, shape (features,).

    `time` is in microseconds; the histories hold what was learned before, without this request.
    """
    now, amount = np.array([time], dtype=np.int64), np.array([cents], dtype=np.int64)
    before = _recent(customer, now)
    spent = Totals(before.counts + 1, before.sums + amount)
    row: NDArray[np.float32] = _assemble(now, amount, spent, _recent(terminal, _matured(now)))[0].astype(np.float32)
    return row


def _recent(past: History, ends: Integers) -> Totals:
    first = np.searchsorted(past.times, _starts(ends), side="right")
    return _totals(past.marks, first, np.searchsorted(past.times, ends, side="right"))


def customer_after(past: History, time: int, cents: int) -> History:
    """A customer's history once a transaction at `time` (microseconds) has happened."""
    return _insert(past, time, cents, CUSTOMER_MEMORY)


def terminal_after(past: History, time: int) -> History:
    """A terminal's history once a transaction at `time` has happened; its label is not known yet."""
    return _insert(past, time, 0, TERMINAL_MEMORY)


def label_after(past: History, time: int, fraud: bool) -> History:
    """A terminal's history once the label of its transaction at `time` is known.

    The entry of that very time is the transaction; without one, it is inserted. Of several, a fraud marks one that is
    not marked yet; "no fraud" changes none, for it may speak of another.
    """
    first, last = np.searchsorted(past.times, (time, time + 1), side="left").tolist()
    if first == last:
        return _insert(past, time, int(fraud), TERMINAL_MEMORY)
    if last - first > 1 and not fraud:
        return past
    marks = past.marks.copy()
    marks[first + int(np.argmin(marks[first:last]))] = int(fraud)
    return History(past.times, marks)


def _insert(past: History, time: int, mark: int, memory: timedelta) -> History:
    """Add an event after those of its own time; forget what no window ending at `time` or later can reach.

    Forgetting counts from the event, not from the newest entry: an absurd future event costs the history once,
    and later events mend it.
    """
    first = int(np.searchsorted(past.times, time - memory // timedelta(microseconds=1), side="right"))
    place = int(np.searchsorted(past.times, time, side="right"))
    times = np.concatenate((past.times[first:place], [time], past.times[place:]))
    marks = np.concatenate((past.marks[first:place], [mark], past.marks[place:]))
    return History(times[-MOST_ENTRIES:], marks[-MOST_ENTRIES:])


# --- offline: all rows -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Grouped:
    """Rows by entity, in event order within each, so that one binary search serves all entities at once."""

    order: Integers
    """position -> row"""
    groups: Integers
    """position -> entity, 0, 1, ..."""
    moments: Integers
    """the different event times there are"""
    keys: Integers
    """position -> entity and rank of its moment in one ascending number"""

    @classmethod
    def of(cls, entities: Integers, times: Integers, moments: Integers) -> "_Grouped":
        groups = np.unique(entities, return_inverse=True)[1].astype(np.int64)
        order = np.argsort(groups, kind="stable")
        ranks = np.searchsorted(moments, times[order])
        return cls(order, groups[order], moments, groups[order] * (len(moments) + 1) + ranks)

    def until(self, ends: Integers) -> Integers:
        """For each position, the position after its entity's last event at or before `ends`."""
        ranks = np.searchsorted(self.moments, ends, side="right")
        return np.searchsorted(self.keys, self.groups * (len(self.moments) + 1) + ranks, side="left")

    def rows(self, totals: Totals) -> Totals:
        """Totals by position as totals by row."""
        counts, sums = np.empty_like(totals.counts), np.empty_like(totals.sums)
        counts[:, self.order], sums[:, self.order] = totals
        return Totals(counts, sums)


def offline_features(
    times: Integers, customers: Integers, terminals: Integers, cents: Integers, frauds: Integers
) -> NDArray[np.float64]:
    """The features of every row at its own moment, shape (rows, features); cast to float32 for a model.

    `times` are microseconds; rows are in event order, which also decides between rows of one moment. Raises Unordered.
    """
    if np.any(np.diff(times) < 0):
        raise Unordered(f"row {int(np.argmax(np.diff(times) < 0)) + 1} is earlier than the row before it; sort by time")
    moments = np.unique(times)
    by_customer = _Grouped.of(customers, times, moments)
    spent = times[by_customer.order]
    own = np.arange(1, len(times) + 1)
    customer = _totals(cents[by_customer.order], by_customer.until(_starts(spent)), own[None, :])
    by_terminal = _Grouped.of(terminals, times, moments)
    ends = _matured(times[by_terminal.order])
    terminal = _totals(frauds[by_terminal.order], by_terminal.until(_starts(ends)), by_terminal.until(ends))
    return _assemble(times, cents, by_customer.rows(customer), by_terminal.rows(terminal))
