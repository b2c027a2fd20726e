"""What the side that materializes does to the online store beside Feast, and the SQLite file it does it to."""

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

WAIT_SECONDS = 30.0
"""for a lock or an answer, where nobody waits for the work"""


@dataclass(frozen=True)
class OnlineView:
    """What must be known of a Feast view to read and write its rows."""

    name: str
    join_key: str
    kinds: dict[str, str]
    """feature -> Feast's value field, such as int64_list_val"""
    fields: dict[str, str] = field(default_factory=dict)
    """feature -> its name in Feast's Redis hashes: a checksum, in hex, that only the side with Feast can make"""


class OnlineLayout(Protocol):
    """One kind of online store, as the side that materializes sees it."""

    def feast_config(self) -> dict[str, Any]:
        """What Feast's configuration says of the store."""

    def prepare(self, views: Iterable[OnlineView]) -> None:
        """Say which views there are, once Feast has applied them, and keep what is learned from older snapshots."""

    def note_materialized(self, view: str, moment: datetime) -> None:
        """Remember up to which moment a view was materialized."""


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


class SqliteLayout:
    """Feast's SQLite tables, and ours beside them."""

    def __init__(self, path: Path, project: str) -> None:
        self._path, self._project = path, project

    def feast_config(self) -> dict[str, Any]:
        return {"type": "sqlite", "path": str(self._path)}

    def prepare(self, views: Iterable[OnlineView]) -> None:
        """Also lets readers run beside a writer."""
        with closing(connect(self._path, WAIT_SECONDS)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_TABLES)
            for view in views:
                connection.execute(_KEEP_NEWER.format(table=table_name(self._project, view.name)))
                connection.execute(
                    "INSERT INTO orrery_views (view, declaration) VALUES (?, ?) "
                    "ON CONFLICT (view) DO UPDATE SET declaration = excluded.declaration",
                    (view.name, declaration(view)),
                )

    def note_materialized(self, view: str, moment: datetime) -> None:
        with closing(connect(self._path, WAIT_SECONDS)) as connection:
            connection.execute(
                "UPDATE orrery_views SET materialized_to = ? WHERE view = ?", (moment.astimezone(UTC).isoformat(), view)
            )


def declaration(view: OnlineView) -> str:
    return json.dumps(asdict(view))


def declared(declarations: Iterable[str | bytes]) -> dict[str, OnlineView]:
    """View by name, of what `declaration` wrote."""
    views = [OnlineView(**json.loads(each)) for each in declarations]
    return {view.name: view for view in views}


def to_feast_time(moment: datetime) -> int:
    """What Feast writes for a moment: its UTC clock time read as local time, in whole seconds since the epoch."""
    return int(moment.astimezone(UTC).replace(tzinfo=None).timestamp())


def from_feast_time(stamp: int) -> datetime:
    """The moment, to the second, that Feast wrote as `stamp`."""
    return datetime.fromtimestamp(stamp).replace(tzinfo=UTC)  # noqa: DTZ006 - local on purpose, see to_feast_time
