"""The SQLite file of the online store: Feast's tables, and ours beside them."""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class OnlineView:
    """What must be known of a Feast view to read and write its rows."""

    name: str
    join_key: str
    kinds: dict[str, str]
    """feature -> Feast's value field, such as int64_list_val"""


_TABLES = """
CREATE TABLE IF NOT EXISTS orrery_views (view TEXT PRIMARY KEY, declaration TEXT NOT NULL, materialized_to TEXT);
CREATE TABLE IF NOT EXISTS orrery_applied (use_case TEXT PRIMARY KEY, sequence INTEGER NOT NULL);
"""

# Feast updates in place. A row that has learned something at or after the snapshot's moment knows more than the
# snapshot; created_ts is ours to set, so it tells a learned row from an earlier snapshot of the same moment.
_KEEP_NEWER = """
CREATE TRIGGER IF NOT EXISTS "{table}_keep_newer" BEFORE UPDATE ON "{table}"
WHEN OLD.event_ts > NEW.event_ts OR (OLD.event_ts = NEW.event_ts AND OLD.created_ts IS NOT NULL)
BEGIN SELECT RAISE(IGNORE); END
"""


def table_name(project: str, view: str) -> str:
    """Feast's table of a view."""
    return f"{project}_{view}"


def connect(path: Path, wait_seconds: float) -> sqlite3.Connection:
    """A connection in autocommit mode that waits so long for locks. Raises sqlite3.Error without the file."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=wait_seconds,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        # a checkpoint waits for the disk: rarer ones, at the price of 40 MB of log, keep the 99th percentile at 1 ms
        connection.execute("PRAGMA wal_autocheckpoint = 10000")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def prepare(connection: sqlite3.Connection, project: str, views: Iterable[OnlineView]) -> None:
    """Say which views there are, keep learned rows from older snapshots, and let readers run beside a writer."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(_TABLES)
    for view in views:
        connection.execute(_KEEP_NEWER.format(table=table_name(project, view.name)))
        connection.execute(
            "INSERT INTO orrery_views (view, declaration) VALUES (?, ?) "
            "ON CONFLICT (view) DO UPDATE SET declaration = excluded.declaration",
            (view.name, json.dumps(asdict(view))),
        )


def declared(connection: sqlite3.Connection) -> dict[str, OnlineView]:
    """The views that `prepare` has been told of."""
    rows = connection.execute("SELECT declaration FROM orrery_views")
    views = [OnlineView(**json.loads(declaration)) for (declaration,) in rows]
    return {view.name: view for view in views}


def note_materialized(connection: sqlite3.Connection, views: Iterable[str], moment: datetime) -> None:
    """Remember up to which moment views were materialized."""
    connection.executemany(
        "UPDATE orrery_views SET materialized_to = ? WHERE view = ?",
        [(moment.astimezone(UTC).isoformat(), view) for view in views],
    )


def to_feast_time(moment: datetime) -> int:
    """What Feast writes for a moment: its UTC clock time read as local time, in whole seconds since the epoch."""
    return int(moment.astimezone(UTC).replace(tzinfo=None).timestamp())


def from_feast_time(stamp: int) -> datetime:
    """The moment, to the second, that Feast wrote as `stamp`."""
    return datetime.fromtimestamp(stamp).replace(tzinfo=UTC)  # noqa: DTZ006 - local on purpose, see to_feast_time
