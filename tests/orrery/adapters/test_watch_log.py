"""What was found of windows is kept in either kind of database: one row a window, the newest first."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orrery.adapters.database import open_database
from orrery.adapters.watch_log import SkewLog, WatchLog
from orrery.skew import Ages, Skew, ViewSkew
from orrery.watching import Watched

pytest_plugins = ["postgres_server"]
START, DAY = datetime(2024, 5, 1, tzinfo=UTC), timedelta(days=1)
SKEW = Skew("a", START, START + DAY, 9, 1, 2, {"rows": ViewSkew(6, 1, {"x": 1})}, {"history": Ages(1.5, 9.0)})
WINDOW = Watched("a", START, START + DAY, "1", "stable", 900, 0)


@pytest.fixture
def engine(log_url):
    engine = open_database(log_url, durable=False)
    yield engine
    engine.dispose()


@pytest.mark.parametrize(("kind", "found"), [(SkewLog, SKEW), (WatchLog, WINDOW)])
def test_a_window_is_kept_once_and_the_newest_comes_first(engine, kind, found):
    log = kind(engine)
    assert (log.newest(), log.latest("a")) == ({}, []), "the first look makes the table"
    later = replace(found, first=START + DAY, last=START + 2 * DAY)
    for now, each in ((1, later), (2, found), (3, found), (4, replace(found, use_case="b"))):
        log.write(each, START + now * DAY)
    assert log.latest("a", 9) == [(START + DAY, later), (START + 3 * DAY, found)]
    assert {name: window for name, (_, window) in log.newest().items()} == {
        "a": later,
        "b": replace(found, use_case="b"),
    }


def test_windows_of_drift_and_of_skew_lie_apart(engine):
    WatchLog(engine).write(WINDOW, START)
    assert SkewLog(engine).newest() == {}
    SkewLog(engine).write(SKEW, START)
    assert WatchLog(engine).latest("a", 9) == [(START, WINDOW)]
