import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from orrery.adapters.api_keys import ALL_SCOPES, ApiKeys, KeyRing, KeysUnavailable, ScopeRefused, UnknownKey
from orrery.adapters.database import open_database

pytest_plugins = ["postgres_server"]


@pytest.fixture
def engine(log_url):
    engine = open_database(log_url, durable=False)
    yield engine
    engine.dispose()


@pytest.fixture
def keys(engine):
    return ApiKeys(engine)


def test_a_key_is_shown_once_and_never_kept(keys, engine):
    text, key = keys.create("first", ALL_SCOPES)
    assert text.startswith(f"ork_{key.key_id}_")
    assert len(text.split("_", 2)[2]) >= 32
    with engine.connect() as connection:
        kept = connection.exec_driver_sql("SELECT * FROM api_keys").all()
    assert text.split("_", 2)[2] not in repr(kept)
    assert keys.list() == [key]


def test_a_ring_knows_living_keys_only(keys):
    text, key = keys.create("first", ["read"])
    ring = KeyRing(keys)
    assert ring.verify(text) is None
    ring.refresh()
    assert ring.verify(text) == key
    for wrong in ("", "ork_", text[:-1], text + "x", text.upper(), f"ork_{key.key_id}_{'x' * 43}", "ork_\u00e4" * 9):
        assert ring.verify(wrong) is None
    keys.revoke(key.key_id)
    ring.refresh()
    assert ring.verify(text) is None
    assert keys.list()[0].revoked_at is not None


def test_a_ring_asks_again_sooner_for_unknown_keys_but_not_for_each(keys):
    ring = KeyRing(keys)
    assert ring.stale()
    assert ring.stale(unknown=True)
    ring.refresh()
    assert not ring.stale()
    assert not ring.stale(unknown=True)


@pytest.mark.parametrize(
    ("scopes", "scope", "allowed"),
    [
        (["predict:*"], "predict:toy", True),
        (["predict:toy"], "predict:toy", True),
        (["predict:toy"], "predict:toys", False),
        (["predict:*"], "feedback:toy", False),
        (["read"], "read", True),
        (["admin"], "read", False),
    ],
)
def test_scopes_say_what_a_key_may(keys, scopes, scope, allowed):
    assert keys.create("any", scopes)[1].allows(scope) is allowed


@pytest.mark.parametrize("scope", ["", "*", "predict", "predict:", "predict:Toy", "write", "read:*"])
def test_scopes_that_mean_nothing_are_refused(keys, scope):
    with pytest.raises(ScopeRefused, match="there is no scope"):
        keys.create("any", [scope])


def test_only_living_keys_are_revoked(keys):
    _, key = keys.create("first", ["read"])
    keys.revoke(key.key_id)
    for key_id in (key.key_id, "00000000"):
        with pytest.raises(UnknownKey):
            keys.revoke(key_id)


def test_a_table_that_is_gone_is_said_and_the_ring_keeps_what_it_has(keys, engine):
    text, _ = keys.create("first", ["read"])
    ring = KeyRing(keys)
    ring.refresh()
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE api_keys")
    with pytest.raises(KeysUnavailable):
        ring.refresh()
    with pytest.raises(KeysUnavailable):
        keys.create("second", ["read"])
    assert ring.verify(text) is not None


class Slow:
    """Keys whose table takes its time."""

    def __init__(self):
        self.asked, self.answer = threading.Event(), threading.Event()

    def list(self):
        self.asked.set()
        self.answer.wait(10)
        return []


def test_a_table_that_is_slow_holds_one_thread_only():
    slow = Slow()
    ring = KeyRing(slow)
    first = threading.Thread(target=ring.refresh)
    first.start()
    slow.asked.wait(10)
    with pytest.raises(KeysUnavailable, match="takes long"):
        ring.refresh()
    slow.answer.set()
    first.join(10)
    ring.refresh()


def test_many_processes_may_make_the_table_at_once(log_url):
    engines = [open_database(log_url, durable=False) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(ApiKeys, engines))) == 8
    for engine in engines:
        engine.dispose()
