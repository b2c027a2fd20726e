"""Opens the SQL database that the prediction log and the API keys share."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.errors import _WaitTimeout
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from orrery.errors import OrreryError, TransientError

LOCK_SECONDS = 1.0
"""how long a write waits for another process's write before it fails"""
WRITE_SECONDS = 1.5
"""how long a kept connection waits for a server's word; with the wait for the lock, less than a prediction waits"""
READ_SECONDS = 10.0
_AGAIN_SECONDS = 0.01
_CONNECT_SECONDS = 2
_IDLE_SECONDS = 5
"""a process that froze inside a transaction keeps the others from writing for so long"""
_LOCK = f"SELECT pg_advisory_xact_lock({int.from_bytes(b'orrery')})"


class DatabaseRefused(OrreryError):
    """The database is of a kind that the log cannot live in."""


class DatabaseAway(TransientError):
    """The database's server does not answer."""


def open_database(url: str, durable: bool) -> Engine:
    """An engine for `url`. `durable`: a commit waits for the disk (SQLite only; servers have their own setting).

    A transaction on it has the one lock for writing, so that who reads first may write then. Raises DatabaseRefused.
    """
    parsed = make_url(url)
    match parsed.get_backend_name():
        case "sqlite":
            return _file(parsed, durable)
        case "postgresql":
            return _server(parsed.set(drivername="postgresql+psycopg"))
        case other:
            raise DatabaseRefused(f"the log cannot live in {other}; use sqlite:/// or postgresql://")


def reader(engine: Engine) -> Engine:
    """The same database for single reads, which neither take nor wait for the lock of writers."""
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def on_server(engine: Engine) -> bool:
    """Whether the database is a process of its own, which can be away while this one runs."""
    return engine.dialect.name != "sqlite"


def check_reachable(engine: Engine) -> None:
    """Raises DatabaseAway when its server does not answer."""
    try:
        with reader(engine).connect():
            pass
    except DBAPIError as error:
        raise DatabaseAway(
            f"the database {engine.url.database} on {engine.url.host}:{engine.url.port or 5432} does not answer: "
            f"{cause(error)}; start it, or set ORRERY_LOG__URL"
        ) from error


def cause(error: Exception) -> str:
    """What the database said, in one line."""
    return " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())


def kept(engine: Engine) -> Connection:
    """A connection for one thread, which never becomes another one by itself: when it breaks, it stays broken.

    It is for single reads and for `locked`, and waits WRITE_SECONDS for each word of the server.
    """
    connection = reader(engine).connect()
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, _Patient)
    raw.seconds = WRITE_SECONDS
    return connection


@contextmanager
def locked(connection: Connection) -> Iterator[Connection]:
    """A transaction on a kept connection, with the write lock. If it fails, the connection is not to be used again."""
    connection.exec_driver_sql(f"BEGIN; {_LOCK}")
    yield connection
    connection.exec_driver_sql("COMMIT")


def _file(url: URL, durable: bool) -> Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": LOCK_SECONDS})
    event.listen(engine, "connect", lambda raw, _: _prepare(raw, durable))
    event.listen(engine, "begin", lambda connection: _begin(connection, "BEGIN IMMEDIATE"))
    return engine


def _prepare(raw: Any, durable: bool) -> None:
    raw.isolation_level = None  # sqlite3 would begin by itself, and too late
    _write_ahead(raw)
    raw.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")


def _write_ahead(raw: sqlite3.Connection) -> None:
    """Reads beside writes. Of many that open a new file at once one changes it; SQLite tells the others to come back
    at once, whatever timeout they have."""
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            raw.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_AGAIN_SECONDS)
        else:
            return


def _server(url: URL) -> Engine:
    limits = {"lock_timeout": LOCK_SECONDS, "statement_timeout": READ_SECONDS,
              "idle_in_transaction_session_timeout": _IDLE_SECONDS}  # fmt: skip
    options = {
        "application_name": "orrery",
        "connect_timeout": _CONNECT_SECONDS,
        "tcp_user_timeout": _CONNECT_SECONDS * 1_000,
        "keepalives_idle": 5, "keepalives_interval": 1, "keepalives_count": 3,
        "options": " ".join(f"-c {name}={round(1_000 * seconds)}" for name, seconds in limits.items()),
    }  # fmt: skip
    engine = create_engine(url, connect_args=options, pool_pre_ping=True)
    event.listen(
        engine, "do_connect", lambda _dialect, _record, arguments, named: _Patient.connect(*arguments, **named)
    )
    event.listen(engine, "begin", lambda connection: _begin(connection, _LOCK))
    return engine


def _begin(connection: Connection, lock: str) -> None:
    """Take the write lock first: a transaction that reads and then writes may otherwise fail between the two."""
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql(lock)


class _Patient(psycopg.Connection[Any]):
    """Does not wait for ever: the timeouts of a server that is frozen do not pass, and its kernel still answers TCP."""

    seconds = READ_SECONDS + 1

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, self.seconds if timeout is None else timeout)
        except _WaitTimeout:
            self.pgconn.finish()
            raise psycopg.OperationalError(f"the server said nothing for {self.seconds} s") from None
