"""The simulated card transactions of the Fraud Detection Handbook, regenerated bit for bit from their specification."""

import hashlib
import random
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from orrery.errors import OrreryError
from orrery.usecase import Progress, silent

PUBLISHED_HASH = "e8b474a8a7a962aa75363298aca64cd017a89d2a56c65839a7be58a706d24b8f"
START = datetime(2018, 4, 1, tzinfo=UTC)
DAY = 86_400
STAGE = "simulate"

_PUBLISHED = (5_000, 10_000, 183, 5.0)
_NOON, _SPREAD = 43_200, 20_000
_LARGE_AMOUNT = 220
_TERMINALS_A_DAY, _TERMINAL_DAYS = 2, 28
_CUSTOMERS_A_DAY, _CUSTOMER_DAYS, _CUSTOMER_FACTOR = 3, 14, 5

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class SimulationDiffers(OrreryError):
    """The default run did not give the published content."""


@dataclass
class _Events:
    """Columns of the transactions, made customer by customer."""

    second: list[int]
    customer: list[int]
    terminal: list[int]
    amount: list[float]


def simulate(
    progress: Progress = silent, customers: int = 5_000, terminals: int = 10_000, days: int = 183, radius: float = 5.0
) -> pd.DataFrame:
    """The raw frame, sorted by time, TRANSACTION_ID = position.

    Raises SimulationDiffers when the arguments are the published ones and the content is not.
    """
    events = _transactions(progress, customers, terminals, days, radius)
    frame = _frame(events)
    _large_amounts(frame)
    _compromised_terminals(frame, terminals)
    _compromised_customers(frame, customers)
    if (customers, terminals, days, radius) == _PUBLISHED and content_hash(frame) != PUBLISHED_HASH:
        raise SimulationDiffers(
            "the simulated data differ from the published set; check that numpy and pandas have the locked versions"
        )
    progress(STAGE, customers, customers)
    return frame


def content_hash(frame: pd.DataFrame) -> str:
    """The sha256, hex, of what the rows say, whatever their order and TRANSACTION_ID."""
    keys = ["TX_TIME_SECONDS", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT"]
    rows = frame[[*keys, "TX_FRAUD", "TX_FRAUD_SCENARIO"]].sort_values(keys)
    lines = map("%d,%d,%d,%.2f,%d,%d\n".__mod__, zip(*(rows[name].tolist() for name in rows), strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _transactions(progress: Progress, customers: int, terminals: int, days: int, radius: float) -> _Events:
    profiles = np.random.RandomState(0).uniform((0, 0, 5, 0), (100, 100, 100, 4), (customers, 4))
    places = np.random.RandomState(1).uniform(0, 100, (terminals, 2))
    events = _Events([], [], [], [])
    for customer, (x, y, mean, rate) in enumerate(profiles.tolist()):
        reach = np.flatnonzero(np.sqrt(((places - (x, y)) ** 2).sum(axis=1)) < radius).tolist()
        if reach:
            _spend(events, customer, mean, rate, reach=reach, days=days)
        if customer % 50 == 0:
            progress(STAGE, customer, customers)
    return events


def _spend(events: _Events, customer: int, mean: float, rate: float, *, reach: list[int], days: int) -> None:
    """One customer's life. Both streams start at the customer's id; an amount is drawn only for a time that is kept."""
    numbers = np.random.RandomState(customer)
    poisson, normal, uniform = numbers.poisson, numbers.standard_normal, numbers.random_sample
    choose = random.Random(customer).choice  # noqa: S311 - the published stream
    deviation, twice = mean / 2, mean * 2
    first = len(events.second)
    for midnight in range(0, days * DAY, DAY):
        for _ in range(poisson(rate)):
            second = int(_NOON + _SPREAD * normal())
            if not 0 < second < DAY:
                continue
            amount = mean + deviation * normal()
            events.amount.append(amount if amount >= 0 else twice * uniform())
            events.second.append(midnight + second)
            events.terminal.append(choose(reach))
    events.customer.extend([customer] * (len(events.second) - first))


def _frame(events: _Events) -> pd.DataFrame:
    seconds = np.array(events.second, dtype=np.int64)
    order = np.argsort(seconds, kind="stable")
    seconds = seconds[order]
    start = np.datetime64(START.replace(tzinfo=None), "us")
    return pd.DataFrame(
        {
            "TRANSACTION_ID": np.arange(len(seconds), dtype=np.int64),
            "TX_DATETIME": pd.Series(start + seconds.astype("timedelta64[s]")).dt.tz_localize("UTC"),
            "CUSTOMER_ID": np.array(events.customer, dtype=np.int64)[order],
            "TERMINAL_ID": np.array(events.terminal, dtype=np.int64)[order],
            "TX_AMOUNT": np.round(np.array(events.amount, dtype=np.float64)[order], 2),
            "TX_TIME_SECONDS": seconds,
            "TX_TIME_DAYS": seconds // DAY,
            "TX_FRAUD": np.zeros(len(seconds), dtype=np.int64),
            "TX_FRAUD_SCENARIO": np.zeros(len(seconds), dtype=np.int64),
        }
    )


def _large_amounts(frame: pd.DataFrame) -> None:
    _mark(frame, np.flatnonzero(frame["TX_AMOUNT"] > _LARGE_AMOUNT), scenario=1)


def _compromised_terminals(frame: pd.DataFrame, terminals: int) -> None:
    """Every day two terminals are taken over: all their transactions of 28 days are frauds."""
    for _, rows in _taken_over(frame, "TERMINAL_ID", terminals, _TERMINALS_A_DAY, _TERMINAL_DAYS):
        _mark(frame, rows, scenario=2)


def _compromised_customers(frame: pd.DataFrame, customers: int) -> None:
    """Every day three cards leak: a third of their transactions of 14 days are frauds, at five times the amount."""
    amounts = frame["TX_AMOUNT"].to_numpy(copy=True)
    for day, rows in _taken_over(frame, "CUSTOMER_ID", customers, _CUSTOMERS_A_DAY, _CUSTOMER_DAYS):
        draws = random.Random(day)  # noqa: S311 - the published stream
        taken = np.array(draws.sample(rows.tolist(), k=int(len(rows) / 3)), dtype=np.int64)
        amounts[taken] = np.round(amounts[taken] * _CUSTOMER_FACTOR, 2)
        _mark(frame, taken, scenario=3)
    frame["TX_AMOUNT"] = amounts


def _taken_over(frame: pd.DataFrame, column: str, population: int, a_day: int, days: int) -> list[tuple[int, Ints]]:
    """For each day but the last: the day, and the rows, in table order, of the entities drawn on it."""
    day_of_row, entity = frame["TX_TIME_DAYS"].to_numpy(), frame[column].to_numpy()
    found = []
    for day in range(int(day_of_row[-1])):
        # what pandas' Series.sample(n, random_state=day) draws
        drawn = np.random.RandomState(day).choice(population, size=a_day, replace=False)
        first, end = np.searchsorted(day_of_row, (day, day + days))
        found.append((day, first + np.flatnonzero(np.isin(entity[first:end], drawn))))
    return found


def _mark(frame: pd.DataFrame, rows: Ints, scenario: int) -> None:
    frame.loc[rows, "TX_FRAUD"] = 1
    frame.loc[rows, "TX_FRAUD_SCENARIO"] = scenario
