"""The online store of one machine: Feast's SQLite layout, read and written without Feast."""

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from orrery.adapters.feast_values import decode, encode, entity_key
from orrery.adapters.online_layout import OnlineView, connect, declared, from_feast_time, table_name, to_feast_time
from orrery.adapters.online_store import MISSING, READ_SECONDS, WRITE_SECONDS, NotDeclared, StoreUnavailable, Teach
from orrery.usecase import Key, Stored, StoredByKey, Update


class SqliteOnlineStore:
    """Feast's SQLite layout. Any thread may use it; each has its own connections."""

    def __init__(self, path: Path, project: str) -> None:
        self._path, self._project = path, project
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._opened: list[sqlite3.Connection] = []
        self._views: dict[str, OnlineView] = {}

    def read(self, keys: Sequence[Key]) -> StoredByKey:
        with self._connected("reader") as connection:
            return self._read(connection, keys)

    def apply(self, use_case: str, sequence: int, keys: Sequence[Key], teach: Teach) -> None:
        with self._connected("writer") as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                if sequence > _applied(connection, use_case):
                    for update in teach(self._read(connection, keys)):
                        self._write(connection, update)
                    connection.execute(
                        "INSERT OR REPLACE INTO orrery_applied (use_case, sequence) VALUES (?, ?)", (use_case, sequence)
                    )
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def applied(self, use_case: str) -> int:
        with self._connected("reader") as connection:
            return _applied(connection, use_case)

    def materialized(self) -> Mapping[str, datetime]:
        with self._connected("reader") as connection:
            rows = connection.execute(
                "SELECT view, materialized_to FROM orrery_views WHERE materialized_to IS NOT NULL"
            )
            return {view: datetime.fromisoformat(moment) for view, moment in rows}

    def close(self) -> None:
        with self._lock:
            while self._opened:
                self._opened.pop().close()
        self._mine = threading.local()

    def _read(self, connection: sqlite3.Connection, keys: Sequence[Key]) -> StoredByKey:
        if not keys:
            return {}
        selects, arguments = [], []
        for index, key in enumerate(keys):
            view = self._view(connection, key.view)
            table = table_name(self._project, view.name)
            selects.append(f'SELECT {index}, feature_name, value, event_ts FROM "{table}" WHERE entity_key = ?')  # noqa: S608
            arguments.append(entity_key(view.join_key, key.entity))
        values: list[dict[str, Any]] = [{} for _ in keys]
        moments: list[int] = [0] * len(keys)
        for index, feature, value, moment in connection.execute(" UNION ALL ".join(selects), arguments):
            values[index][feature] = decode(value)
            moments[index] = moment
        return {
            key: Stored(found, from_feast_time(moment), "present") if found else MISSING
            for key, found, moment in zip(keys, values, moments, strict=True)
        }

    def _write(self, connection: sqlite3.Connection, update: Update) -> None:
        view = self._view(connection, update.key.view)
        if set(update.values) != set(view.kinds):
            raise NotDeclared(f"{view.name} has the features {sorted(view.kinds)}, not {sorted(update.values)}")
        key, moment = entity_key(view.join_key, update.key.entity), to_feast_time(update.event_time)
        # REPLACE, because an UPDATE would meet the trigger that keeps learned rows from older snapshots
        connection.executemany(
            f'INSERT OR REPLACE INTO "{table_name(self._project, view.name)}" '  # noqa: S608
            "(entity_key, feature_name, value, event_ts, created_ts) VALUES (?, ?, ?, ?, ?)",
            [
                (key, name, encode(value, view.kinds[name]), moment, int(time.time()))
                for name, value in update.values.items()
            ],
        )

    def _view(self, connection: sqlite3.Connection, name: str) -> OnlineView:
        if name not in self._views:
            rows = connection.execute("SELECT declaration FROM orrery_views")
            self._views = declared(text for (text,) in rows)
        if name not in self._views:
            raise NotDeclared(f"the online store has no view {name!r}; apply the use case's feature views first")
        return self._views[name]

    @contextmanager
    def _connected(self, role: str) -> Iterator[sqlite3.Connection]:
        """This thread's connection; one that failed is thrown away, so that a mended store is found again."""
        try:
            yield getattr(self._mine, role, None) or self._open(role)
        except (sqlite3.Error, DecodeError) as error:
            self._drop(role)
            raise StoreUnavailable(f"the online store {self._path} does not answer ({error}); is it there?") from error

    def _open(self, role: str) -> sqlite3.Connection:
        connection = connect(self._path, READ_SECONDS if role == "reader" else WRITE_SECONDS)
        with self._lock:
            self._opened.append(connection)
        setattr(self._mine, role, connection)
        return connection

    def _drop(self, role: str) -> None:
        connection = getattr(self._mine, role, None)
        if connection is not None:
            with self._lock:
                self._opened.remove(connection)
            connection.close()
            setattr(self._mine, role, None)


def _applied(connection: sqlite3.Connection, use_case: str) -> int:
    row = connection.execute("SELECT sequence FROM orrery_applied WHERE use_case = ?", (use_case,)).fetchone()
    return int(row[0]) if row else 0
