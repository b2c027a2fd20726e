"""The users of Redis, on a real one: what each needs, and what it may not."""

import subprocess

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.retry import Retry
from servers import SECRETS

from orrery.adapters.redis_acl import users

DENIED = [
    ("FLUSHALL",), ("FLUSHDB",), ("CONFIG", "GET", "maxmemory"), ("EVAL", "return 1", "0"), ("SHUTDOWN",),
    ("ACL", "LIST"), ("KEYS", "*"), ("SAVE",), ("REPLICAOF", "NO", "ONE"), ("CLIENT", "LIST"), ("SCRIPT", "FLUSH"),
    ("FUNCTION", "LIST"), ("MONITOR",), ("SWAPDB", "0", "1"), ("PUBLISH", "a", "b"), ("INFO",),
]  # fmt: skip


def client(server, user, password=None):
    return Redis(port=server.port, username=user, password=password or SECRETS[user], retry=Retry(NoBackoff(), 0))


@pytest.mark.parametrize("user", ["gateway", "worker"])
@pytest.mark.parametrize("command", DENIED, ids=lambda command: command[0])
def test_nothing_dangerous_is_allowed(redis, user, command):
    with client(redis, user) as connection, pytest.raises(NoPermissionError):
        connection.execute_command(*command)


def test_the_gateway_sees_only_the_project_and_looks_for_nothing(redis):
    with client(redis, "gateway") as connection:
        for command in (("SCAN", "0"), ("DEL", "x:orrery"), ("SYNC",), ("GET", "other"), ("HSET", "other", "a", "b")):
            with pytest.raises(NoPermissionError):
                connection.execute_command(*command)
        connection.hset(b"\x01\x00\x00\x00\n*\xfforrery", "a", "b")


def test_the_file_holds_no_password(redis):
    text = users("first secret", "second secret", "third secret", "shop")
    assert "secret" not in text
    assert text.count("~*shop ") == 2


def test_nobody_is_let_in_without_a_password_and_health_may_only_ping(redis):
    with client(redis, "gateway", "wrong") as connection, pytest.raises(AuthenticationError):
        connection.ping()
    with Redis(port=redis.port, retry=Retry(NoBackoff(), 0)) as connection, pytest.raises(AuthenticationError):
        connection.ping()
    with client(redis, "health", "anything") as connection:
        assert connection.ping()
        with pytest.raises(NoPermissionError):
            connection.get("a:orrery")


def test_the_exporter_reads_how_redis_is_and_no_data(redis):
    with redis.admin() as connection:
        connection.set("a:orrery", "b")
    with client(redis, "exporter") as connection:
        assert connection.info("memory")["used_memory"] > 0
        for command in (*DENIED[:-1], ("GET", "a:orrery"), ("SCAN", "0"), ("SET", "a:orrery", "c"), ("SYNC",)):
            with pytest.raises(NoPermissionError):
                connection.execute_command(*command)


def test_the_worker_can_take_a_backup(redis, tmp_path):
    with redis.admin() as connection:
        connection.set("a:orrery", "b")
    command = ["redis-cli", "-p", str(redis.port), "--user", "worker", "--rdb", str(tmp_path / "dump.rdb")]
    environment = {"REDISCLI_AUTH": SECRETS["worker"]}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "dump.rdb").read_bytes().startswith(b"REDIS")
    to_stdout = subprocess.run([*command[:-1], "-"], check=False, capture_output=True, timeout=60, env=environment)
    assert to_stdout.stdout.startswith(b"REDIS")


@pytest.mark.parametrize("user", ["gateway", "worker"])
def test_transactions_outlive_a_crash(own_redis, user):
    """Redis replays its log as the default user, and drops in silence the transactions that this one may not do."""
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    own_redis.start(*durable).ready()
    with client(own_redis, user) as connection:
        connection.pipeline(transaction=True).hset("row:orrery", "a", "b").set("mark:orrery", 7).execute()
    own_redis.kill()
    own_redis.start(*durable).ready()
    with client(own_redis, user) as connection:
        assert connection.hgetall("row:orrery") == {b"a": b"b"}
        assert connection.get("mark:orrery") == b"7"
