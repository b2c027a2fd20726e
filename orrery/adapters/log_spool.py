"""A log on a server that may be away: until it is back, what is answered is kept in a spool on this machine's disk."""

import logging
import threading
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path

from sqlalchemy import Connection, Engine, Table, func, select
from sqlalchemy.exc import DBAPIError

from orrery.adapters.database import (
    cause,
    check_reachable,
    kept,
    locked,
    on_server,
    open_database,
    reader,
)
from orrery.adapters.log_writer import LogTables, Receipt, Record, unavailable
from orrery.adapters.prediction_log import LabelRecord, LogReader, LogUnavailable, PredictionRecord, labels, predictions

logger = logging.getLogger(__name__)
_RETRY_SECONDS = 0.5
_MOVED = 64
"""rows that move at once: what is asked meanwhile waits for them"""
_RECENT = 10_000
"""predictions whose answer is remembered for the time that the log cannot be asked"""


class Spool(LogTables):
    """Rows that wait for the log: the same tables, in a file that waits for the disk."""

    def __init__(self, path: Path) -> None:
        super().__init__(open_database(f"sqlite:///{path}", durable=True))
        self.rows = 0
        self._moved = 0

    def open(self) -> None:
        super().open()
        with reader(self._engine).connect() as connection:
            self.rows = sum(connection.scalars(select(func.count()).select_from(each)).one() for each in _TABLES)

    def append(self, records: Sequence[Record], again: bool = False) -> list[Receipt]:
        receipts = super().append(records, again)
        self.rows += sum(receipt.fresh for receipt in receipts)
        return receipts

    def oldest(self) -> list[tuple[int, Record]]:
        """The next rows to move, in order, each with its place here."""
        found: list[tuple[int, Record]] = []
        with reader(self._engine).connect() as connection:
            for table, kind in _TABLES.items():
                after = select(table).where(table.c.sequence > self._moved).order_by(table.c.sequence).limit(_MOVED)
                names = [each.name for each in fields(kind)]
                rows = connection.execute(after).mappings()
                found += [(row["sequence"], kind(**{name: row[name] for name in names})) for row in rows]
        return sorted(found, key=lambda each: each[0])[:_MOVED]

    def forget(self, moved: Sequence[tuple[int, Record]]) -> None:
        """The log has these. Where they cannot be deleted, they stay: moving them again adds nothing."""
        self._moved = moved[-1][0]
        self.rows -= len(moved)
        try:
            with self._begin() as connection:
                for table in _TABLES:
                    connection.execute(table.delete().where(table.c.sequence <= self._moved))
        except DBAPIError as error:
            logger.warning("the spool still has rows that are in the log: %s", cause(error))

    def close(self) -> None:
        self._engine.dispose()


class SpooledLog(LogTables):
    """The log on a server. All but `reader`, `away` and `spooled` is for the writer's thread, which never connects.

    That the server is away shows at a write that fails, and so does that it is frozen: no word in WRITE_SECONDS. The
    connection is then given up, another thread tries to make a new one, and groups go to the spool. When there is one,
    the spool moves into the log bit by bit, in order, and new groups go behind it until it is empty.
    """

    def __init__(
        self, engine: Engine, spool: Path, floor: int = 0, failed: Callable[[], object] = lambda: None
    ) -> None:
        super().__init__(engine, floor, lambda: locked(self._usable()))
        self._spool = Spool(spool)
        self._failed = failed
        self._connection: Connection | None = None
        self._offered: Connection | None = None
        self._recent: dict[tuple[str, ...], Receipt] = {}
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._said = False

    @property
    def away(self) -> bool:  # type: ignore[override]
        return self._connection is None

    @property
    def moving(self) -> bool:  # type: ignore[override]
        return not self.away and self._spool.rows > 0

    @property
    def spooled(self) -> int:  # type: ignore[override]
        return self._spool.rows

    def open(self) -> None:
        """Connect, and move what an earlier process left in the spool. Raises DatabaseAway or LogUnavailable."""
        try:
            check_reachable(self._engine)
            self._spool.open()
            super().open()
            self._connection = kept(self._engine)
            if self._spool.rows:
                logger.warning("%d rows that an earlier process left in the spool move into the log", self._spool.rows)
            while self._spool.rows:
                self._move()
        except DBAPIError as error:
            self.close()
            raise unavailable(error) from error

    def append(self, records: Sequence[Record], again: bool = False) -> list[Receipt]:
        known: Mapping[tuple[str, ...], Receipt] = {}
        if not self.away:
            try:
                if not self._spool.rows:
                    receipts = super().append(records, again)
                    self._remember(records, receipts)
                    return receipts
                known = self.known(records)
            except Exception as error:  # whatever it is, the spool can keep the group
                logger.debug("the log did not take a group", exc_info=True)
                self._leave(error)
        return self._keep(records, ChainMap(dict(known), self._recent))

    def probe(self, moment: int) -> str:
        if not self.away:
            try:
                super().probe(moment)
            except Exception as error:
                logger.debug("the log did not take a probe", exc_info=True)
                self._leave(error)
        if not (self.away or self._spool.rows):
            return "writable"
        self._spool.probe(moment)
        return f"spooling: {self._spool.rows} rows wait"

    def move(self) -> set[str]:
        if self._offered is not None:
            self._connection, self._offered = self._offered, None
        if self.away:
            return set()
        try:
            self._usable()
            moved = self._move() if self._spool.rows else set()
        except Exception as error:
            logger.debug("the log did not take what was spooled", exc_info=True)
            self._leave(error)
            return set()
        if self._said and not self._spool.rows:
            self._said = False
            logger.warning("the prediction log is back, and has all that was spooled")
        return moved

    def reader(self) -> LogReader:
        return LogReader(self._engine, self._reading)

    def own_reader(self) -> LogReader:
        return LogReader(self._engine, lambda: nullcontext(self._usable()))

    def close(self) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        for connection in filter(None, (self._connection, self._offered)):
            connection.invalidate()
        self._spool.close()

    def _usable(self) -> Connection:
        if self._connection is None or self._connection.invalidated:
            raise LogUnavailable("the connection to the prediction log's database broke")
        return self._connection

    def _reading(self) -> AbstractContextManager[Connection]:
        """While rows wait, the log does not have all that was answered: then it says nothing rather than half."""
        if self.away or self._spool.rows:
            raise LogUnavailable("the prediction log's database was away and is not whole yet; ask again in a moment")
        return reader(self._engine).connect()

    def _keep(self, records: Sequence[Record], known: Mapping[tuple[str, ...], Receipt]) -> list[Receipt]:
        spooled = iter(self._spool.append([record for record in records if record.key not in known]))
        return [known.get(record.key) or replace(next(spooled), sequence=0) for record in records]

    def _move(self) -> set[str]:
        moved = self._spool.oldest()
        records = [record for _, record in moved]
        # a crash after this line leaves rows in both, and so may a commit whose word was lost: hence `again`
        self._remember(records, super().append(records, again=True))
        self._spool.forget(moved)
        return {record.use_case for record in records}

    def _remember(self, records: Sequence[Record], receipts: Sequence[Receipt]) -> None:
        for record, receipt in zip(records, receipts, strict=True):
            if record.table is predictions:
                self._recent[record.key] = replace(receipt, fresh=False)
        for key in list(islice(self._recent, max(0, len(self._recent) - _RECENT))):
            del self._recent[key]

    def _leave(self, error: Exception) -> None:
        if not self._said:
            self._said = True
            logger.warning("the prediction log is away, the spool keeps what is answered: %s", cause(error))
        self._failed()
        if self._connection is not None:
            self._connection.invalidate()
            self._connection = None
        self._thread = threading.Thread(target=self._connect, name="prediction-log-connect", daemon=True)
        self._thread.start()

    def _connect(self) -> None:
        """Try until there is a connection; each try may take long, such as for a name that nobody knows just now."""
        while not self._closed.wait(_RETRY_SECONDS):
            try:
                super().open()
                self._offered = kept(self._engine)
            except Exception:
                logger.debug("the log's database does not answer", exc_info=True)
                self._failed()
            else:
                self.wake()
                return


_TABLES: dict[Table, type[Record]] = {predictions: PredictionRecord, labels: LabelRecord}


def open_log(engine: Engine, spool: Path, floor: int = 0, failed: Callable[[], object] = lambda: None) -> LogTables:
    """The log in `engine`, with a spool where it needs one. Raises DatabaseAway or LogUnavailable."""
    log = SpooledLog(engine, spool, floor, failed) if on_server(engine) else LogTables(engine, floor)
    log.open()
    return log
