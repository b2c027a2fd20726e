"""A Redis that dies, hangs, loads or is not to be found: who asks is told at once, and it comes back by itself."""

import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from servers import SECRETS, free_port

from orrery.adapters.online_layout import OnlineView
from orrery.adapters.online_store import StoreUnavailable, open_online_store
from orrery.adapters.redis_store import RedisLayout
from orrery.settings import SettingsRefused
from orrery.usecase import Key

SHOP = Key("shops", "north")
AT_ONCE = 0.2
"""a read's socket timeout is 50 ms; the rest is for a busy machine"""


@pytest.fixture
def opened(settings):
    """Opens stores at an address, and closes them."""
    stores = []

    def make(server, user="gateway", **changed):
        stores.append(open_online_store(server.settings(settings, user, **changed)))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def declare(server, settings):
    chosen = server.settings(settings, "worker").store
    RedisLayout(chosen.url, chosen.password_file, chosen.project).prepare(
        [OnlineView("shops", "SHOP", {"open": "bool_val"}, {"open": "00000001"})]
    )


def asks(store):
    return [lambda: store.read([SHOP]), lambda: store.applied("shop"), store.materialized,
            lambda: store.apply("shop", 1, [SHOP], lambda _: [])]  # fmt: skip


def refused(ask, match="is it there"):
    """How long it takes to be told that the store is away."""
    started = time.perf_counter()
    with pytest.raises(StoreUnavailable, match=match):
        ask()
    return time.perf_counter() - started


def eventually(store):
    until = time.monotonic() + 20
    while True:
        try:
            return store.read([SHOP])[SHOP].status
        except StoreUnavailable:
            assert time.monotonic() < until
            time.sleep(0.02)


def connections(server):
    with server.admin() as client:
        return len([each for each in client.client_list() if each["user"] == "gateway"])


def test_a_killed_redis_is_told_at_once_and_comes_back_by_itself(own_redis, settings, opened):
    own_redis.start().ready()
    declare(own_redis, settings)
    store = opened(own_redis)
    assert eventually(store) == "missing"
    own_redis.kill()
    assert max(refused(ask) for _ in range(5) for ask in asks(store)) < AT_ONCE
    own_redis.start().ready()
    declare(own_redis, settings)
    assert eventually(store) == "missing"


def test_an_idle_store_notices_a_restart_before_anyone_asks(own_redis, settings, opened, patience):
    own_redis.start("--appendonly", "yes").ready()
    declare(own_redis, settings)
    store = opened(own_redis)
    store.read([SHOP])
    own_redis.kill()
    own_redis.start("--appendonly", "yes").ready()
    until = time.monotonic() + 20
    while not connections(own_redis):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert store.read([SHOP])[SHOP].status == "missing"


def test_a_redis_that_hangs_costs_one_short_wait(own_redis, settings, opened):
    own_redis.start().ready()
    declare(own_redis, settings)
    store = opened(own_redis)
    eventually(store)
    own_redis.process.send_signal(signal.SIGSTOP)
    assert 0.04 < refused(asks(store)[0]) < AT_ONCE
    assert max(refused(ask) for _ in range(5) for ask in asks(store)) < AT_ONCE
    own_redis.process.send_signal(signal.SIGCONT)
    assert eventually(store) == "missing"


def test_a_redis_that_was_never_there_makes_only_the_first_call_wait_and_is_found_later(own_redis, settings, opened):
    store = opened(own_redis)
    assert refused(asks(store)[0]) < 1.5
    assert max(refused(ask) for ask in asks(store)) < AT_ONCE
    own_redis.start().ready()
    declare(own_redis, settings)
    assert eventually(store) == "missing"


def test_a_socket_that_never_answers_makes_only_the_first_call_wait(own_redis, opened):
    with closing(socket.create_server(("127.0.0.1", 0))) as mute:
        store = opened(own_redis, url=f"redis://gateway@127.0.0.1:{mute.getsockname()[1]}/0", password_file="")
        assert refused(asks(store)[0]) < 1.5
        assert max(refused(ask) for _ in range(5) for ask in asks(store)) < AT_ONCE


def test_a_name_that_takes_long_to_resolve_holds_nobody_up(own_redis, opened, monkeypatch):
    answered = threading.Event()
    resolve = socket.getaddrinfo

    def slow(*arguments):
        answered.wait(20)
        return resolve(*arguments)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    store = opened(own_redis, url=f"redis://gateway@gone.invalid:{free_port()}/0", password_file="")
    try:
        assert refused(asks(store)[0]) < 1.5
        assert max(refused(ask) for _ in range(5) for ask in asks(store)) < AT_ONCE
    finally:
        answered.set()


def test_a_killed_redis_whose_name_is_gone_holds_nobody_up(own_redis, settings, opened, monkeypatch):
    """What `docker kill` does: the connection is reset, and then the name takes long to fail."""
    own_redis.start().ready()
    declare(own_redis, settings)
    store = opened(own_redis)
    eventually(store)
    gone = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: gone.wait(20) and [])
    own_redis.kill()
    try:
        assert max(refused(ask) for _ in range(5) for ask in asks(store)) < AT_ONCE
    finally:
        gone.set()


def test_a_redis_that_still_loads_its_data_is_away(own_redis, settings, opened):
    own_redis.start().ready()
    declare(own_redis, settings)
    with own_redis.admin() as client:
        client.mset({f"row{number}": os.urandom(2048) for number in range(150)})
        client.save()
    own_redis.kill()
    own_redis.start("--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
    store, seen = opened(own_redis), set()
    until = time.monotonic() + 20
    while not seen or time.monotonic() < until:
        try:
            assert store.read([SHOP])[SHOP].status == "missing"
            break
        except StoreUnavailable as error:
            seen.add(str(error))
            time.sleep(0.02)
    assert any("loading" in reason for reason in seen), seen


def test_a_wrong_password_is_said_and_not_shown(redis, tmp_path, opened):
    (tmp_path / "secret").write_text("not this one")
    for changed in ({"password_file": str(tmp_path / "secret")}, {"password_file": ""}):
        store = opened(redis, **changed)
        with pytest.raises(StoreUnavailable, match="refuses the password of user gateway") as refusal:
            store.applied("shop")
        assert "not this one" not in str(refusal.value)
        assert SECRETS["gateway"] not in str(refusal.value)


def test_a_password_file_that_comes_later_is_read_then(redis, settings, tmp_path, opened):
    store = opened(redis, password_file=str(tmp_path / "later"))
    refused(asks(store)[0], match="No such file")
    (tmp_path / "later").write_text(SECRETS["gateway"])
    declare(redis, settings)
    assert eventually(store) == "missing"


def test_an_address_that_is_none_is_refused_with_its_setting(redis, settings):
    with pytest.raises(SettingsRefused, match="ORRERY_STORE__URL"):
        open_online_store(redis.settings(settings, "gateway", url="http://redis"))


def test_more_threads_than_connections_are_all_served(redis, settings, opened, patience):
    declare(redis, settings)
    store = opened(redis)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: store.read([SHOP])[SHOP].status, range(1000)))
    assert set(found) == {"missing"}


def test_who_finds_all_connections_busy_is_told_so_in_time(redis, settings, opened):
    declare(redis, settings)
    store, done, held = opened(redis), threading.Event(), threading.Barrier(5)

    def teach(_):
        held.wait(20)
        done.wait(20)
        return []

    def hold(group):
        """The connections open one after the other: who comes too early is told so, and asks again."""
        until = time.monotonic() + 20
        while True:
            try:
                return store.apply(group, 1, [], teach)
            except StoreUnavailable:
                assert time.monotonic() < until
                time.sleep(0.02)

    with ThreadPoolExecutor(4) as pool:
        holders = [pool.submit(hold, f"shop{number}") for number in range(4)]
        try:
            held.wait(20)
            assert refused(lambda: store.applied("shop"), match="busy") < AT_ONCE
        finally:
            held.abort()
            done.set()
    assert [holder.result() for holder in holders]


def test_a_closed_store_says_so_and_leaves_no_thread_and_no_connection(own_redis, settings, opened):
    own_redis.start().ready()
    declare(own_redis, settings)
    store = opened(own_redis)
    eventually(store)
    store.close()
    assert refused(asks(store)[0], match="was closed") < AT_ONCE
    until = time.monotonic() + 10
    while any(thread.name == f"online store 127.0.0.1:{own_redis.port}" for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert connections(own_redis) == 0
