"""The online store of either kind, as the gateway sees it and as the worker sees it."""

import pytest
from servers import redis_in

from orrery.adapters import redis_link, redis_store


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    server = redis_in(tmp_path_factory.mktemp("redis")).start().ready()
    yield server
    server.kill()


@pytest.fixture
def redis(redis_server):
    """A Redis that is empty."""
    with redis_server.admin() as client:
        client.flushall()
        client.acl_log_reset()
    return redis_server


@pytest.fixture
def own_redis(tmp_path):
    """A Redis that a test may kill, not started yet."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = redis_in(folder)
    yield server
    server.kill()


@pytest.fixture
def patience(monkeypatch):
    """A store that waits for a busy machine, where a test is about something else."""
    monkeypatch.setattr(redis_store, "READ_SECONDS", 20)
    monkeypatch.setattr(redis_store, "WRITE_SECONDS", 20)
    monkeypatch.setattr(redis_link, "WRITE_SECONDS", 20)
    monkeypatch.setattr(redis_link, "_FIRST_SECONDS", 20)


@pytest.fixture
def kind(request):
    """Which store; a test for both has `@pytest.mark.parametrize("kind", ["sqlite", "redis"], indirect=True)`."""
    return getattr(request, "param", "sqlite")


@pytest.fixture
def as_gateway(kind, settings, request, patience):
    return settings if kind == "sqlite" else request.getfixturevalue("redis").settings(settings, "gateway")


@pytest.fixture
def as_worker(kind, settings, request):
    return settings if kind == "sqlite" else request.getfixturevalue("redis").settings(settings, "worker")
