"""Writes the prediction log: one thread, one transaction for all who wait, and the answer leaves after the commit."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, fields, replace
from queue import Empty, SimpleQueue
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    Table,
    bindparam,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError

from orrery.adapters.database import cause
from orrery.adapters.prediction_log import (
    IDENTITY_CHARACTERS,
    INDICES,
    LAST,
    LabelRecord,
    LogReader,
    LogUnavailable,
    PredictionRecord,
    labels,
    metadata,
    predictions,
    probes,
)
from orrery.errors import OrreryError

logger = logging.getLogger(__name__)
_GROUP = 256
Record = PredictionRecord | LabelRecord
Begin = Callable[[], AbstractContextManager[Connection]]


class IdentityRefused(OrreryError):
    """What a client calls its event is not what every database can keep."""


@dataclass(frozen=True)
class Receipt:
    """What became of a record. `answer` is the one that was logged first, which is not always the one sent."""

    sequence: int
    """its place in the log; 0 while it has none"""
    answer: str = ""
    fresh: bool = True


_Latest = tuple[float | None, Receipt]
_Waiting = tuple[Record, "Future[Receipt]"]


class LogTables:
    """The log's tables in one database, for adding to them.

    `floor`: sequences up to it are never given, nor are those again that were: a store may have learned what a log
    that does not wait for the disk has lost. `begin`: a transaction that has the database's write lock.
    """

    away = moving = False
    """whether the log cannot be read now; whether rows can `move`"""
    spooled = 0
    """rows that were answered and are not in the log yet"""

    def __init__(self, engine: Engine, floor: int = 0, begin: Begin | None = None) -> None:
        self._engine = engine
        self._floor = floor
        self._begin = begin or engine.begin
        self.wake: Callable[[], object] = lambda: None
        """has the writer's thread call `move`; set by the writer"""

    def open(self) -> None:
        """Make the tables where they are missing. Raises LogUnavailable."""
        try:
            metadata.create_all(self._engine)
            for index in INDICES:
                index.create(self._engine, checkfirst=True)
            self._add_subject()
        except DBAPIError as error:
            raise unavailable(error) from error

    def _add_subject(self) -> None:
        """Labels of before 0.2 had none."""
        if "subject" not in {column["name"] for column in inspect(self._engine).get_columns(labels.name)}:
            kind = labels.c.subject.type.compile(self._engine.dialect)
            with self._engine.begin() as connection:
                connection.execute(text(f"ALTER TABLE labels ADD COLUMN subject {kind} DEFAULT '' NOT NULL"))

    def append(self, records: Sequence[Record], again: bool = False) -> list[Receipt]:
        """Write a group, all or none. `again`: these very rows may be there already and are not written twice."""
        rows: dict[Table, list[dict[str, Any]]] = {predictions: [], labels: []}
        receipts: list[Receipt] = []
        with self._begin() as connection:
            latest = dict(_latest(connection, records))
            there = set(_there(connection, records)) if again else ()
            sequence = max(self._floor, *(row[0] or 0 for row in connection.execute(LAST)))
            for record in records:
                label, (was, receipt) = getattr(record, "label", None), latest.get(record.key, (None, None))
                if receipt is None or (was != label and record not in there):
                    sequence += 1
                    receipt = Receipt(sequence, getattr(record, "answer", ""))
                    latest[record.key] = label, replace(receipt, fresh=False)
                    rows[record.table].append(vars(record) | {"sequence": sequence})
                receipts.append(receipt)
            for table, new in rows.items():
                if new:
                    connection.execute(_INSERTS[table], new)
        self._floor = sequence
        return receipts

    def known(self, records: Iterable[Record]) -> dict[tuple[str, ...], Receipt]:
        """What the log has already of these predictions, by their key."""
        with self._begin() as connection:
            found = _latest(connection, [record for record in records if record.table is predictions])
            return {key: receipt for key, (_, receipt) in found}

    def probe(self, moment: int) -> str:
        """Write something that does not matter, and say where it went."""
        with self._begin() as connection:
            connection.execute(probes.delete())
            connection.execute(insert(probes).values(id=1, recorded_at=moment))
        return "writable"

    def move(self) -> set[str]:
        """Bring rows that wait elsewhere into the log, a group of them; the use cases that they are of."""
        return set()

    def reader(self) -> LogReader:
        """Looks things up in the log, for any thread."""
        return LogReader(self._engine)

    def own_reader(self) -> LogReader:
        """Looks things up in the log, for the thread that writes."""
        return self.reader()

    def close(self) -> None:
        """Let go of it."""


class LogWriter:
    """The log's only writer in this process.

    `after_commit` gets the use cases that were written; it runs in the writer's thread, before the answers leave.
    """

    def __init__(self, log: LogTables, after_commit: Callable[[set[str]], object] = lambda _: None) -> None:
        self._log = log
        self._after_commit = after_commit
        self._queue: SimpleQueue[_Waiting | tuple[int, Future[str]] | set[str] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="prediction-log", daemon=True)
        log.wake = lambda: self.nudge(set())

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def submit(self, record: Record) -> "Future[Receipt]":
        """Have a record written. The future fails with LogUnavailable when it was not, or with IdentityRefused."""
        future: Future[Receipt] = Future()
        if len(record.identity) > IDENTITY_CHARACTERS or "\0" in record.identity:
            future.set_exception(
                IdentityRefused(f"an event's identity has at most {IDENTITY_CHARACTERS} characters, and no NUL")
            )
        else:
            self._queue.put((record, future))
        return future

    def probe(self, moment: int) -> "Future[str]":
        """Have something written that does not matter; where it went. The future fails with LogUnavailable."""
        future: Future[str] = Future()
        self._queue.put((moment, future))
        return future

    def nudge(self, use_cases: set[str]) -> None:
        """Run `after_commit` for these use cases, although nothing is written."""
        self._queue.put(use_cases)

    def close(self) -> None:
        """Write what waits, then stop."""
        self._queue.put(None)
        self._thread.join()
        self._log.close()

    def _work(self) -> None:
        """Take all that wait, up to a group, and write them together; what waits elsewhere moves between groups."""
        last = False
        while not last:
            items = self._take()
            last = None in items
            nudged = set().union(*(item for item in items if isinstance(item, set)))
            asked = [item for item in items if isinstance(item, tuple) and item[1].set_running_or_notify_cancel()]
            self._write([each for each in asked if not isinstance(each[0], int)], nudged)
            for moment, future in (each for each in asked if isinstance(each[0], int)):
                self._probe(moment, future)
            self._follow(self._log.move())

    def _take(self) -> list[Any]:
        items: list[Any] = []
        with suppress(Empty):
            while len(items) < _GROUP and None not in items:
                items.append(self._queue.get(block=not (items or self._log.moving)))
        return items

    def _write(self, group: Sequence[_Waiting], nudged: set[str]) -> None:
        try:
            receipts = self._log.append([record for record, _ in group]) if group else []
        except Exception as error:
            logger.exception("the prediction log did not take %d records", len(group))
            for _, future in group:
                future.set_exception(unavailable(error))
            return
        self._follow(nudged | {record.use_case for record, _ in group})
        for (_, future), receipt in zip(group, receipts, strict=True):
            future.set_result(receipt)

    def _probe(self, moment: int, future: "Future[str]") -> None:
        try:
            future.set_result(self._log.probe(moment))
        except Exception as error:
            logger.warning("the prediction log did not take a probe", exc_info=True)
            future.set_exception(unavailable(error))

    def _follow(self, use_cases: set[str]) -> None:
        if not use_cases or self._log.away:
            return
        try:
            self._after_commit(use_cases)
        except Exception:  # the rows are committed: their answers leave, and the store catches up later
            logger.exception("what follows a commit of the prediction log failed")


def unavailable(error: Exception) -> LogUnavailable:
    """What went wrong, as what a client is told."""
    return LogUnavailable(f"the prediction log cannot be written: {cause(error)}; check its disk and its locks")


def _latest(connection: Connection, records: Iterable[Record]) -> Iterator[tuple[tuple[str, ...], _Latest]]:
    """What the log says of these records' events: the first answer, the latest label."""
    for table, query in _LATEST.items():
        for row in _asked(connection, query, [record for record in records if record.table is table]):
            receipt = Receipt(row.sequence, getattr(row, "answer", ""), fresh=False)
            subject = (row.subject,) if table is labels else ()
            yield (table.name, row.use_case, row.identity, *subject), (getattr(row, "label", None), receipt)


def _there(connection: Connection, records: Iterable[Record]) -> Iterator[LabelRecord]:
    """The labels that the log has of these records' events, also those that are not the latest."""
    for row in _asked(connection, _THERE, [record for record in records if record.table is labels]):
        yield LabelRecord(**{each.name: row._mapping[each.name] for each in fields(LabelRecord)})


def _asked(connection: Connection, query: Select[Any], records: Sequence[Record]) -> Sequence[Row[Any]]:
    """Rows of these records' events in the order they were logged; where two use cases share an identity, of both."""
    if not records:
        return ()
    wanted = {name: sorted({getattr(record, name) for record in records}) for name in ("use_case", "identity")}
    return sorted(connection.execute(query, wanted), key=lambda row: int(row.sequence))


def _of_events(table: Table, *columns: ColumnElement[Any]) -> Select[Any]:
    """Rows of the events that are asked for. Built once: making a statement costs more than running it.

    Neither of pairs nor in order: SQLite would look at every row, for a list of pairs or to be spared the sorting.
    """
    wanted = (each.in_(bindparam(each.name, expanding=True)) for each in (table.c.use_case, table.c.identity))
    return select(*columns).where(*wanted)


def _latest_of(table: Table, *columns: str) -> Select[Any]:
    named = [table.c[name] for name in columns]
    return _of_events(table, table.c.sequence, table.c.use_case, table.c.identity, *named)


_LATEST = {predictions: _latest_of(predictions, "answer"), labels: _latest_of(labels, "subject", "label")}
_THERE = _of_events(labels, *labels.c)
_INSERTS = {table: insert(table) for table in (predictions, labels)}
