"""The online store without Feast; that Feast's SDK sees the same is tested with the feature store."""

import sqlite3
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from orrery.adapters.online_layout import OnlineView, connect, from_feast_time, prepare, to_feast_time
from orrery.adapters.online_store import NotDeclared, StoreUnavailable, online_path, open_online_store
from orrery.usecase import Key, Update

JULY = datetime(2018, 7, 1, 12, 30, 1, tzinfo=UTC)
SHOP, GUEST = Key("shops", "north"), Key("guests", 7)
VIEWS = [
    OnlineView("guests", "GUEST", {"times": "int64_list_val", "mean": "float_val"}),
    OnlineView("shops", "SHOP", {"open": "bool_val"}),
]
TABLE = (
    'CREATE TABLE "{}" (entity_key BLOB, feature_name TEXT, value BLOB, value_text TEXT, vector_value BLOB,'
    " event_ts timestamp, created_ts timestamp, PRIMARY KEY(entity_key, feature_name))"
)


@pytest.fixture
def path(settings):
    path = online_path(settings)
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection:
        for view in VIEWS:
            connection.execute(TABLE.format(f"orrery_{view.name}"))
    with closing(connect(path, 1)) as connection:
        prepare(connection, "orrery", VIEWS)
    return path


@pytest.fixture
def store(settings, path):
    store = open_online_store(settings)
    yield store
    store.close()


def guest(times, moment=JULY):
    return [Update(GUEST, {"times": np.array(times, dtype=np.int64), "mean": 0.5}, moment)]


def count(stored):
    """One more time than is stored."""
    before = stored[GUEST].values.get("times", np.zeros(0, dtype=np.int64))
    return guest([*before, len(before)])


def test_what_was_applied_is_read_in_one_trip_and_the_rest_is_missing(store):
    store.apply("shop", 1, [], lambda _: [*guest([1, 2]), Update(SHOP, {"open": True}, JULY)])
    other = Key("guests", 8)
    found = store.read([SHOP, other, GUEST])
    assert list(found) == [SHOP, other, GUEST]
    assert found[SHOP].values == {"open": True}
    assert found[GUEST].values["times"].tolist() == [1, 2]
    assert found[GUEST].values["mean"] == 0.5
    assert (found[GUEST].event_time, found[GUEST].status) == (JULY, "present")
    assert (found[other].values, found[other].event_time, found[other].status) == ({}, None, "missing")
    assert store.read([]) == {}


def test_a_row_of_the_log_is_applied_once(store):
    assert store.applied("shop") == 0
    for sequence in (1, 2, 2, 1, 5):
        store.apply("shop", sequence, [GUEST], count)
    assert store.read([GUEST])[GUEST].values["times"].tolist() == [0, 1, 2]
    assert store.applied("shop") == 5
    assert store.applied("other") == 0


def test_a_lesson_that_fails_changes_nothing(store):
    def half(stored):
        raise ValueError("no lesson")

    with pytest.raises(ValueError, match="no lesson"):
        store.apply("shop", 1, [GUEST], half)
    with pytest.raises(NotDeclared, match="has the features"):
        store.apply("shop", 1, [], lambda _: [*guest([1]), Update(SHOP, {"shut": True}, JULY)])
    assert store.read([GUEST])[GUEST].status == "missing"
    assert store.applied("shop") == 0
    store.apply("shop", 1, [GUEST], count)
    assert store.applied("shop") == 1


def test_a_view_that_nobody_applied_is_refused_until_it_is(store, path):
    with pytest.raises(NotDeclared, match="no view 'rooms'"):
        store.read([Key("rooms", 1)])
    with closing(connect(path, 1)) as connection:
        connection.execute(TABLE.format("orrery_rooms"))
        prepare(connection, "orrery", [OnlineView("rooms", "ROOM", {"beds": "int64_val"})])
    assert store.read([Key("rooms", 1)])[Key("rooms", 1)].status == "missing"


def test_without_the_file_it_is_unavailable_and_comes_back_with_it(settings, tmp_path, request):
    store = open_online_store(settings)
    for ask in (lambda: store.read([GUEST]), lambda: store.applied("shop"), lambda: store.apply("shop", 1, [], count)):
        with pytest.raises(StoreUnavailable, match="does not answer"):
            ask()
    assert not online_path(settings).exists()
    request.getfixturevalue("path")
    assert store.read([GUEST])[GUEST].status == "missing"
    store.close()


def test_a_damaged_file_is_unavailable(store, path):
    store.apply("shop", 1, [], lambda _: guest([1]))
    store.close()
    path.write_bytes(b"not a database, " * 4096)
    with pytest.raises(StoreUnavailable):
        store.read([GUEST])


def test_a_value_that_is_not_feasts_is_unavailable(store, path):
    store.apply("shop", 1, [], lambda _: guest([1]))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT OR REPLACE INTO orrery_guests (entity_key, feature_name, value, event_ts) "
                           "SELECT entity_key, feature_name, x'ff', event_ts FROM orrery_guests")  # fmt: skip
    with pytest.raises(StoreUnavailable):
        store.read([GUEST])


def test_readers_do_not_wait_for_a_writer_and_a_second_writer_waits_only_so_long(store, path):
    store.apply("shop", 1, [], lambda _: guest([1]))
    with closing(connect(path, 1)) as other:
        other.execute("BEGIN IMMEDIATE")
        started = time.perf_counter()
        assert store.read([GUEST])[GUEST].values["times"].tolist() == [1]
        assert time.perf_counter() - started < 0.05
        with pytest.raises(StoreUnavailable, match="locked"):
            store.apply("shop", 2, [GUEST], count)
        assert time.perf_counter() - started < 3
        other.execute("ROLLBACK")
    store.apply("shop", 2, [GUEST], count)
    assert store.applied("shop") == 2


def test_a_reader_never_sees_half_an_update(store):
    """Both features of a row come from the same lesson, whatever the writer does meanwhile."""
    store.apply("shop", 1, [], lambda _: guest([]))
    done = threading.Event()

    def write():
        for sequence in range(2, 300):
            lesson = Update(GUEST, {"times": np.full(3, sequence, dtype=np.int64), "mean": float(sequence)}, JULY)
            store.apply("shop", sequence, [], lambda _, lesson=lesson: [lesson])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = 0
    while not done.is_set() or seen == 0:
        values = store.read([GUEST])[GUEST].values
        assert set(values["times"].tolist()) <= {values["mean"]}
        seen += 1
    writer.join()


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_moments_survive_feasts_local_clock(zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for moment in (JULY, JULY.replace(month=1), JULY.astimezone(timezone(timedelta(hours=5)))):
            assert from_feast_time(to_feast_time(moment)) == moment
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
