"""Opens the SQL database that the prediction log and the API keys share."""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url

LOCK_SECONDS = 1.0
"""how long a write waits for another process's write before it fails"""


def open_database(url: str, durable: bool) -> Engine:
    """An engine for `url`. `durable`: a commit waits for the disk (SQLite only; servers have their own setting)."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": LOCK_SECONDS})
    event.listen(engine, "connect", lambda raw, _: _prepare(raw, durable))
    event.listen(engine, "begin", _begin)
    return engine


def reader(engine: Engine) -> Engine:
    """The same database for single reads, which neither take nor wait for the lock of writers."""
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def _prepare(raw: Any, durable: bool) -> None:
    raw.isolation_level = None  # sqlite3 would begin by itself, and too late
    raw.execute("PRAGMA journal_mode=WAL")
    raw.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")


def _begin(connection: Connection) -> None:
    """Take the write lock first: a transaction that reads and then writes may otherwise fail between the two."""
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
