"""The worklist: urgent films are read early, and nobody waits beyond the most."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from usecases.imaging.ledger import Allowance, Ending, Ledger
from usecases.imaging.worklist import ALLOWANCES, MOST, worklist

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)
NEVER = {name: Allowance(one.rank, timedelta(days=99), timedelta(days=99)) for name, one in ALLOWANCES.items()}
"""no maximum wait: a queue by priority only"""


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db")
    yield ledger
    ledger.close_file()


def put(ledger, film_id, priority, received_at, study_id="s"):
    ledger.claim(film_id, study_id, film_id, received_at)
    ending = Ending("scored", prediction_id=f"p-{film_id}", model_version="3", decision="finding", priority=priority)
    ledger.close(film_id, ending)


def ids(ledger, now, limit=50):
    return [film.film_id for film in worklist(ledger, now, limit)]


def ago(**units):
    return NOW - timedelta(**units)


def test_by_priority_then_by_arrival(ledger):
    for film_id, priority, minutes in [("r1", "routine", 9), ("h2", "high", 3), ("h1", "high", 8), ("s1", "stat", 1)]:
        put(ledger, film_id, priority, ago(minutes=minutes))
    assert ids(ledger, NOW) == ["s1", "h1", "h2", "r1"]
    assert ids(ledger, NOW, limit=2) == ["s1", "h1"]


def test_who_has_waited_for_long_comes_before_the_urgent_by_the_time_that_is_left(ledger):
    put(ledger, "fresh", "stat", ago(minutes=1))
    put(ledger, "old routine", "routine", ago(hours=3, minutes=5))
    put(ledger, "older routine", "routine", ago(hours=3, minutes=30))
    put(ledger, "old stat", "stat", ago(minutes=25))
    put(ledger, "young routine", "routine", ago(hours=2))
    assert ids(ledger, NOW) == ["old stat", "older routine", "old routine", "fresh", "young routine"]


def test_an_entry_says_how_long_it_waited_and_whether_its_study_is_whole(ledger):
    put(ledger, "f1", "high", ago(minutes=61), "s1")
    put(ledger, "f2", "high", ago(minutes=59), "s2")
    ledger.complete("s2", NOW)
    first, second = worklist(ledger, NOW, 10)
    assert (first.film_id, first.waited_seconds, first.overdue, first.study_complete) == ("f1", 3660, True, False)
    assert (second.film_id, second.overdue, second.study_complete) == ("f2", False, True)
    assert (first.prediction_id, first.decision, first.state) == ("p-f1", "finding", "scored")
    ledger.read("f1", NOW)
    assert ids(ledger, NOW) == ["f2"]


def by_allowance(ledger, now):
    return ledger.unread(ALLOWANCES, now, 1)


def by_priority_only(ledger, now):
    return ledger.unread(NEVER, now, 1)


def by_arrival(ledger, now):
    return sorted(ledger.unread(NEVER, now, 500), key=lambda row: row.received_at)


def simulated(path, seed, choose):
    """Waits by priority, in minutes: a film takes 4 to read; films come in a rush of three hours, then slower."""
    ledger = Ledger(path)
    ledger._connection.execute("PRAGMA synchronous = OFF")
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(np.concatenate([rng.exponential(2.0, 90), rng.exponential(4.2, 120)]))
    priorities = rng.choice(list(MOST), len(arrivals), p=[0.05, 0.2, 0.75])
    waits = {priority: [] for priority in MOST}
    minute, came = 0.0, 0
    while sum(map(len, waits.values())) < len(arrivals):
        while came < len(arrivals) and arrivals[came] <= minute:
            put(ledger, str(came), str(priorities[came]), NOW + timedelta(minutes=float(arrivals[came])))
            came += 1
        now = NOW + timedelta(minutes=minute)
        waiting = choose(ledger, now)
        if not waiting:
            minute = float(arrivals[came])
            continue
        waits[waiting[0].ending.priority].append((now - waiting[0].received_at).total_seconds() / 60)
        ledger.read(waiting[0].film_id, now)
        minute += 4
    ledger.close_file()
    return {priority: np.array(found) for priority, found in waits.items()}


@pytest.mark.parametrize("seed", [1, 2])
def test_in_a_rush_urgent_films_are_read_early_and_the_longest_wait_stays_within_the_most(tmp_path, seed):
    orders = (by_allowance, by_priority_only, by_arrival)
    ours, plain, first_come = (simulated(tmp_path / f"{order.__name__}.db", seed, order) for order in orders)
    most = {priority: allowance.total_seconds() / 60 for priority, allowance in MOST.items()}
    assert plain["routine"].max() > most["routine"]
    for priority, waits in ours.items():
        assert waits.max() <= most[priority], priority
    assert ours["stat"].mean() < first_come["stat"].mean() / 5
    assert ours["high"].mean() < first_come["high"].mean() / 4
