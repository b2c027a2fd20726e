"""The online store without Feast; that Feast's SDK sees the same is tested with the feature store."""

import sqlite3
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta, timezone

import mmh3
import numpy as np
import pytest

from orrery.adapters.feature_store import online_layout
from orrery.adapters.online_layout import OnlineView, connect, from_feast_time, to_feast_time
from orrery.adapters.online_store import NotDeclared, StoreUnavailable, online_path, open_online_store
from orrery.usecase import Key, Update

JULY = datetime(2018, 7, 1, 12, 30, 1, tzinfo=UTC)
SHOP, GUEST = Key("shops", "north"), Key("guests", 7)
BOTH = pytest.mark.parametrize("kind", ["sqlite", "redis"], indirect=True)
TABLE = (
    'CREATE TABLE "{}" (entity_key BLOB, feature_name TEXT, value BLOB, value_text TEXT, vector_value BLOB,'
    " event_ts timestamp, created_ts timestamp, PRIMARY KEY(entity_key, feature_name))"
)


def view(name, join_key, **kinds):
    fields = {feature: struct.pack("<I", mmh3.hash(f"{name}:{feature}", signed=False)).hex() for feature in kinds}
    return OnlineView(name, join_key, kinds, fields)


@pytest.fixture
def declare(as_worker, kind):
    """Makes views as Feast and `FeatureStore.apply` do."""

    def make(*views):
        if kind == "sqlite":
            path = online_path(as_worker)
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(path)) as connection:
                for each in views:
                    connection.execute(TABLE.format(f"orrery_{each.name}"))
        online_layout(as_worker).prepare(views)

    return make


@pytest.fixture
def views(declare):
    declare(
        view("guests", "GUEST", times="int64_list_val", mean="float_val"),
        view("shops", "SHOP", open="bool_val"),
    )


@pytest.fixture
def path(settings, views):
    return online_path(settings)


@pytest.fixture
def store(as_gateway, views):
    store = open_online_store(as_gateway)
    yield store
    store.close()


def guest(times, moment=JULY):
    return [Update(GUEST, {"times": np.array(times, dtype=np.int64), "mean": 0.5}, moment)]


def count(stored):
    """One more time than is stored."""
    before = stored[GUEST].values.get("times", np.zeros(0, dtype=np.int64))
    return guest([*before, len(before)])


@BOTH
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


@BOTH
def test_a_row_of_the_log_is_applied_once(store):
    assert store.applied("shop") == 0
    for sequence in (1, 2, 2, 1, 5):
        store.apply("shop", sequence, [GUEST], count)
    assert store.read([GUEST])[GUEST].values["times"].tolist() == [0, 1, 2]
    assert store.applied("shop") == 5
    assert store.applied("other") == 0


@BOTH
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


@BOTH
def test_a_view_that_nobody_applied_is_refused_until_it_is(store, declare):
    for ask in (lambda: store.read([Key("rooms", 1)]), lambda: store.apply("shop", 1, [Key("rooms", 1)], count)):
        with pytest.raises(NotDeclared, match="no view 'rooms'"):
            ask()
    declare(view("rooms", "ROOM", beds="int64_val"))
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


@BOTH
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


@BOTH
def test_clients_that_learn_at_once_lose_nothing(store, as_gateway):
    """Each has its own part of the log; all write the same row."""

    def learn(name):
        mine = open_online_store(as_gateway)
        for sequence in range(1, 101):
            while mine.applied(name) < sequence:
                with suppress(StoreUnavailable):  # as the learner does: what was not applied is applied later
                    mine.apply(name, sequence, [GUEST], count)
        mine.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(learn, ["one", "two"]))
    assert store.read([GUEST])[GUEST].values["times"].tolist() == list(range(200))
    assert store.applied("one") == store.applied("two") == 100


@BOTH
def test_values_that_are_nothing_stay_nothing_and_moments_are_kept_to_the_second(store):
    moment = JULY.astimezone(timezone(timedelta(hours=5)))
    store.apply("shop", 1, [], lambda _: [Update(SHOP, {"open": None}, moment)])
    assert (store.read([SHOP])[SHOP].values, store.read([SHOP])[SHOP].event_time) == ({"open": None}, JULY)


@BOTH
def test_what_was_materialized_is_known_by_view(store, as_worker):
    assert store.materialized() == {}
    online_layout(as_worker).note_materialized("guests", JULY)
    assert store.materialized() == {"guests": JULY}


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
