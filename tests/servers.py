"""Real servers for tests: on free ports, in folders of their own, with what the platform itself gives them."""

import shutil
import signal
import socket
import subprocess
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from orrery.adapters.redis_acl import users
from orrery.settings import Settings

SECRETS = {"gateway": "gate,way=1", "worker": "1e5", "exporter": "ex porter"}


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class RedisServer:
    """A Redis with the platform's users, and `test`, who may do everything."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> "RedisServer":
        (self.folder / "users.acl").write_text(users(**SECRETS) + "user test on >test ~* &* +@all\n")
        for user, secret in SECRETS.items():
            (self.folder / user).write_text(f"{secret}\n")
        where = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        how = ["--aclfile", str(self.folder / "users.acl"), "--save", "", "--logfile", str(self.folder / "log")]
        how += ["--repl-diskless-sync-delay", "0"]  # a backup would wait for another replica to join
        self.process = subprocess.Popen(["redis-server", *where, *how, *options])
        return self

    def ready(self) -> "RedisServer":
        until = time.monotonic() + 30
        while not self.answers():
            assert time.monotonic() < until, (self.folder / "log").read_text()
            time.sleep(0.02)
        return self

    def answers(self) -> bool:
        try:
            with self.admin() as client:
                return bool(client.ping())
        except RedisError:
            return False

    def kill(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def admin(self) -> "Redis":
        return Redis(port=self.port, username="test", password="test", retry=Retry(NoBackoff(), 0))

    def settings(self, settings: Settings, user: str, **changed: str) -> Settings:
        """`settings` of a service that uses this Redis as `user`."""
        address = {
            "url": f"redis://{user}@127.0.0.1:{self.port}/0",
            "password_file": str(self.folder / user),
            **changed,
        }
        return settings.model_copy(update={"store": settings.store.model_copy(update=address)})


def redis_in(folder: Path) -> RedisServer:
    """A Redis that is not started yet."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not on the PATH; apt-get install redis-server")
    return RedisServer(folder, free_port())
