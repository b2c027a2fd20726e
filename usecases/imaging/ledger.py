"""What became of every file: one row each, one state, and why; the queue of films that wait for a reader."""

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from orrery.errors import TransientError

State = Literal["scored", "refused", "quarantined"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS films (
    film_id TEXT PRIMARY KEY,
    study_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    state TEXT CHECK (state IN ('scored', 'refused', 'quarantined')),
    code TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    steps TEXT NOT NULL DEFAULT '[]',
    prediction_id TEXT,
    model_version TEXT,
    decision TEXT,
    priority TEXT,
    read_at INTEGER
);
CREATE INDEX IF NOT EXISTS films_of_study ON films (study_id);
CREATE INDEX IF NOT EXISTS unread ON films (priority, received_at) WHERE read_at IS NULL AND priority IS NOT NULL;
CREATE TABLE IF NOT EXISTS complete_studies (study_id TEXT PRIMARY KEY, complete_at INTEGER NOT NULL);
"""
_UNREAD = """
WITH allowances (priority, rank, early, most) AS (VALUES {allowances})
SELECT films.* FROM films JOIN allowances USING (priority)
WHERE read_at IS NULL AND priority IS NOT NULL
ORDER BY received_at + early > :now,
    CASE WHEN received_at + early > :now THEN rank ELSE received_at + most END,
    received_at, film_id
LIMIT :limit
"""


class LedgerUnavailable(TransientError):
    """The ledger cannot be read or written now."""


@dataclass(frozen=True)
class Ending:
    """How a file ended, and the answer it got if it got one. `steps`: what was done to it, without values."""

    state: State
    code: str = ""
    reason: str = ""
    steps: tuple[str, ...] = ()
    prediction_id: str | None = None
    model_version: str | None = None
    decision: str | None = None
    priority: str | None = None


@dataclass(frozen=True)
class Row:
    """A file that ended."""

    film_id: str
    study_id: str
    """empty where the file did not say, or could not be read"""
    ending: Ending
    received_at: datetime
    read_at: datetime | None


@dataclass(frozen=True)
class Allowance:
    """How long films of a priority may wait: until `early` by their priority, then by what is left until `most`."""

    rank: int
    early: timedelta
    most: timedelta


class Ledger:
    """SQLite at `path`. Any thread may use it; one at a time does."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        for pragma in ("journal_mode = WAL", "synchronous = FULL"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.executescript(_SCHEMA)
        path.chmod(0o600)

    def claim(self, film_id: str, study_id: str, digest: str, now: datetime) -> bool:
        """Put a film down before it is scored. False when the same name was given to other pixels."""
        with self._transaction() as connection:
            values = (film_id, study_id, digest, _micros(now))
            insert = "INSERT OR IGNORE INTO films (film_id, study_id, digest, received_at) VALUES (?, ?, ?, ?)"
            if connection.execute(insert, values).rowcount:
                connection.execute("DELETE FROM complete_studies WHERE study_id = ?", (study_id,))
            found = connection.execute("SELECT digest FROM films WHERE film_id = ?", (film_id,)).fetchone()
            return bool(found["digest"] == digest)

    def close(self, film_id: str, ending: Ending) -> Row:
        """End what was claimed. What has ended stays as it is; returns what stands there."""
        with self._transaction() as connection:
            values = vars(ending) | {"steps": json.dumps(ending.steps), "film_id": film_id}
            changes = ", ".join(f"{name} = :{name}" for name in vars(ending))
            connection.execute(f"UPDATE films SET {changes} WHERE film_id = :film_id AND state IS NULL", values)  # noqa: S608
            return _row(connection.execute("SELECT * FROM films WHERE film_id = ?", (film_id,)).fetchone())

    def find(self, film_id: str) -> Row | None:
        """The row of a file that ended."""
        found = self._rows("SELECT * FROM films WHERE film_id = ? AND state IS NOT NULL", (film_id,))
        return found[0] if found else None

    def study(self, study_id: str) -> list[Row]:
        """Every film of a study that ended, as they came."""
        query = "SELECT * FROM films WHERE study_id = ? AND state IS NOT NULL ORDER BY received_at, film_id"
        return self._rows(query, (study_id,))

    def complete(self, study_id: str, now: datetime) -> None:
        """Nothing more of this study is to come. Another film of it opens it again."""
        with self._transaction() as connection:
            values = (study_id, _micros(now))
            connection.execute("INSERT OR IGNORE INTO complete_studies (study_id, complete_at) VALUES (?, ?)", values)

    def completed(self) -> set[str]:
        """The studies of unread films that are complete."""
        query = """SELECT DISTINCT study_id FROM films JOIN complete_studies USING (study_id)
            WHERE read_at IS NULL AND priority IS NOT NULL"""
        with self._transaction() as connection:
            return {row["study_id"] for row in connection.execute(query)}

    def read(self, film_id: str, now: datetime) -> bool:
        """A person has read a film; the first time counts. False when there is no such film."""
        with self._transaction() as connection:
            change = "UPDATE films SET read_at = coalesce(read_at, ?) WHERE film_id = ? AND priority IS NOT NULL"
            return connection.execute(change, (_micros(now), film_id)).rowcount > 0

    def unread(self, allowances: Mapping[str, Allowance], now: datetime, limit: int) -> list[Row]:
        """The films that wait for a reader, first those that have waited for long enough to be due."""
        parts = [
            f"('{priority}', {one.rank}, {one.early // _MICROSECOND}, {one.most // _MICROSECOND})"
            for priority, one in allowances.items()
        ]
        query = _UNREAD.format(allowances=", ".join(parts))
        return self._rows(query, {"now": _micros(now), "limit": limit})

    def waiting(self) -> Mapping[str, tuple[int, datetime]]:
        """How many films of each priority wait, and since when the oldest does."""
        query = """SELECT priority, count(*) AS films, min(received_at) AS since FROM films
            WHERE read_at IS NULL AND priority IS NOT NULL GROUP BY priority"""
        with self._transaction() as connection:
            return {row["priority"]: (row["films"], _moment(row["since"])) for row in connection.execute(query)}

    def close_file(self) -> None:
        """Let go of the database."""
        self._connection.close()

    def _rows(self, query: str, values: Any) -> list[Row]:
        with self._transaction() as connection:
            return [_row(row) for row in connection.execute(query, values)]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise LedgerUnavailable("the ledger cannot be written now; is the disk full?") from error
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")


_MICROSECOND = timedelta(microseconds=1)


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def _row(row: sqlite3.Row) -> Row:
    values = {name: row[name] for name in Ending.__dataclass_fields__}
    ending = Ending(**values | {"steps": tuple(json.loads(values["steps"]))})
    read_at = None if row["read_at"] is None else _moment(row["read_at"])
    return Row(row["film_id"], row["study_id"], ending, _moment(row["received_at"]), read_at)
