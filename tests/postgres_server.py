"""A real Postgres for tests, which may be killed, frozen and started again."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psutil
import psycopg
import pytest

_names = count(1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class PostgresServer:
    """A cluster in a folder of its own. It does not wait for the disk, which a killed process does not need."""

    programs: Path
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def _user(self) -> dict[str, object]:
        """Postgres refuses to run as root."""
        if os.geteuid():
            return {}
        other = pwd.getpwnam("postgres")
        return {"user": other.pw_uid, "group": other.pw_gid, "extra_groups": []}

    def make(self) -> None:
        options = ["--username=orrery", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        if self._user:
            shutil.chown(self.folder, self._user["user"], self._user["group"])
        subprocess.run(
            [self.programs / "initdb", "-D", self.folder / "data", *options],
            check=True, capture_output=True, cwd=self.folder, **self._user,
        )  # fmt: skip

    def start(self) -> None:
        where = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        options = [f"--{name}={value}" for name, value in (where | {"fsync": "off"}).items()]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.folder / "data", *options],
                stdout=log, stderr=log, cwd=self.folder, **self._user,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()[-4_000:]
            assert time.monotonic() < deadline, "postgres did not start in time"
            time.sleep(0.02)

    def answers(self) -> bool:
        try:
            psycopg.connect(self._address("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """What `kill -9` does to a container: no process of it is left."""
        if self.process is not None:
            others = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            for each in others:
                with suppress(psutil.NoSuchProcess):  # they leave by themselves when the postmaster is gone
                    each.kill()
            self.process.wait()
            psutil.wait_procs(others, 10)
            self.process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Every process of it stands still; its kernel still takes what is sent."""
        assert self.process is not None
        postmaster = psutil.Process(self.process.pid)
        postmaster.suspend()  # first, so that no other appears
        processes = [postmaster, *postmaster.children(recursive=True)]
        for each in processes:
            with suppress(psutil.NoSuchProcess):
                each.suspend()
        try:
            yield
        finally:
            for each in processes:
                with suppress(psutil.NoSuchProcess):
                    each.resume()

    def database(self) -> str:
        """The URL of a new and empty database."""
        name = f"test{next(_names)}"
        self.run(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://orrery@127.0.0.1:{self.port}/{name}"

    def run(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _address(self, database: str) -> str:
        return f"host=127.0.0.1 port={self.port} user=orrery dbname={database}"


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A Postgres that runs, or a skipped test."""
    found = [shutil.which("initdb"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)]
    programs = next((Path(each).parent for each in found if each), None)
    if programs is None:
        pytest.skip("there is no initdb on the PATH or under /usr/lib/postgresql; apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # pytest's own folders are closed to other users
    server = PostgresServer(programs, folder, free_port())
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def standing_postgres() -> Iterator[PostgresServer]:
    """One Postgres for all tests of a process."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres(standing_postgres: PostgresServer) -> PostgresServer:
    """A Postgres that runs now; the test may kill it."""
    if standing_postgres.process is None:
        standing_postgres.start()
    return standing_postgres


@pytest.fixture(params=["sqlite", "postgres"])
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'log.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.database()
