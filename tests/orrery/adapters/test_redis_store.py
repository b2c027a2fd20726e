"""What only the Redis store does: it tries again where another writer came first, and says what Redis refuses."""

from datetime import UTC, datetime, timedelta

import mmh3
import numpy as np
import pytest

from orrery.adapters import redis_store
from orrery.adapters.feast_values import entity_key
from orrery.adapters.online_layout import OnlineView
from orrery.adapters.online_store import StoreUnavailable, open_online_store
from orrery.adapters.redis_store import RedisLayout
from orrery.usecase import Key, Update

NOW = datetime(2018, 7, 1, 12, 30, 1, 250_001, tzinfo=UTC)
GUEST = Key("guests", 7)
KEY = entity_key("GUEST", 7) + b"orrery"


@pytest.fixture
def configured(redis, settings, patience):
    chosen = redis.settings(settings, "worker").store
    fields = {"times": mmh3.hash("guests:times", signed=False).to_bytes(4, "little").hex()}
    view = OnlineView("guests", "GUEST", {"times": "int64_list_val"}, fields)
    RedisLayout(chosen.url, chosen.password_file, chosen.project).prepare([view])
    return redis.settings(settings, "gateway")


@pytest.fixture
def stores(configured):
    stores = [open_online_store(configured) for _ in range(2)]
    yield stores
    for store in stores:
        store.close()


def guest(*times, moment=NOW):
    return [Update(GUEST, {"times": np.array(times, dtype=np.int64)}, moment)]


def times(stored):
    return stored[GUEST].values["times"].tolist()


def test_a_lesson_is_taught_again_on_what_another_wrote_meanwhile(stores):
    mine, other = stores
    mine.apply("mine", 1, [], lambda _: guest(1))
    lessons = []

    def teach(stored):
        if not lessons:
            other.apply("other", 1, [GUEST], lambda stored: guest(*times(stored), 2))
        lessons.append(times(stored))
        return guest(*times(stored), 3)

    mine.apply("mine", 2, [GUEST], teach)
    assert lessons == [[1], [1, 2]]
    assert times(mine.read([GUEST])) == [1, 2, 3]


def test_the_same_row_of_the_log_taught_by_two_is_applied_once(stores):
    mine, other = stores
    mine.apply("shop", 1, [], lambda _: guest())

    def teach(stored):
        other.apply("shop", 2, [GUEST], lambda stored: guest(*times(stored), 2))
        return guest(*times(stored), 2)

    mine.apply("shop", 2, [GUEST], teach)
    assert times(mine.read([GUEST])) == [2]


def test_who_never_comes_first_gives_up_in_time_and_has_changed_nothing(stores, monkeypatch):
    mine, other = stores
    monkeypatch.setattr(redis_store, "WRITE_SECONDS", 0.5)
    mine.apply("mine", 1, [], lambda _: guest(0))
    rows = iter(range(1, 100_000))

    def teach(stored):
        row = next(rows)
        other.apply("other", row, [], lambda _: guest(row))
        return guest(-1)

    with pytest.raises(StoreUnavailable, match="all the time"):
        mine.apply("mine", 2, [GUEST], teach)
    assert times(mine.read([GUEST])) == [next(rows) - 1]
    assert mine.applied("mine") == 1


def test_moments_are_kept_to_the_microsecond(stores):
    store = stores[0]
    for moment in (NOW, datetime(1970, 1, 1, tzinfo=UTC), NOW - timedelta(days=40_000)):
        store.apply("shop", store.applied("shop") + 1, [], lambda _, moment=moment: guest(1, moment=moment))
        assert store.read([GUEST])[GUEST].event_time == moment


def test_a_feature_that_came_later_is_not_there_yet(stores, redis):
    stores[0].apply("shop", 1, [], lambda _: guest(1))
    with redis.admin() as client:
        (field,) = [field for field in client.hkeys(KEY) if not field.startswith(b"_")]
        client.hdel(KEY, field)
    found = stores[0].read([GUEST])[GUEST]
    assert (found.values, found.event_time, found.status) == ({}, NOW, "present")


def test_values_that_are_not_feasts_are_unavailable_and_only_they(stores, redis):
    store = stores[0]
    store.apply("shop", 1, [], lambda _: guest(1))
    with redis.admin() as client:
        for field in client.hkeys(KEY):
            client.hset(KEY, field, b"\xff")
    for _ in range(10):
        with pytest.raises(StoreUnavailable, match="cannot be used"):
            store.read([GUEST])
        assert store.read([Key("guests", 8)])[Key("guests", 8)].status == "missing"


def test_a_full_redis_refuses_to_learn_says_why_and_still_answers(stores, redis):
    store = stores[0]
    store.apply("shop", 1, [], lambda _: guest(1))
    with redis.admin() as client:
        client.config_set("maxmemory", 1)
        try:
            with pytest.raises(StoreUnavailable, match="maxmemory"):
                store.apply("shop", 2, [GUEST], lambda _: guest(2))
            assert times(store.read([GUEST])) == [1]
            assert store.applied("shop") == 1
        finally:
            client.config_set("maxmemory", 0)
    store.apply("shop", 2, [GUEST], lambda _: guest(2))
    assert times(store.read([GUEST])) == [2]


def test_a_key_of_another_kind_is_said(stores, redis):
    with redis.admin() as client:
        client.set(KEY, "no hash")
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        stores[0].apply("shop", 1, [], lambda _: guest(1))
