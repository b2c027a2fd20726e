"""Writes the prediction log: one thread, one transaction for all who wait, and the answer leaves after the commit."""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any

from sqlalchemy import Connection, Engine, Table, bindparam, insert, select, tuple_
from sqlalchemy.exc import DBAPIError, IntegrityError

from orrery.adapters.prediction_log import (
    LabelRecord,
    LogReader,
    LogUnavailable,
    PredictionRecord,
    labels,
    metadata,
    predictions,
    probes,
)

logger = logging.getLogger(__name__)
_GROUP = 256
Record = PredictionRecord | LabelRecord


@dataclass(frozen=True)
class Receipt:
    """Where a record lies in the log. `answer` is the one that was logged first, which is not always the one sent."""

    sequence: int
    answer: str = ""
    fresh: bool = True


_Waiting = tuple[Record, "Future[Receipt]"]


class LogWriter:
    """The log's only writer in this process.

    `after_commit` gets the use cases that were written; it runs in the writer's thread, before the answers leave.
    `floor`: sequences up to it are never given.
    """

    def __init__(
        self, engine: Engine, after_commit: Callable[[set[str]], object] = lambda _: None, floor: int = 0
    ) -> None:
        self._engine = engine
        self._after_commit = after_commit
        self._floor = floor
        self._queue: SimpleQueue[_Waiting | set[str] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="prediction-log", daemon=True)

    def start(self) -> None:
        """Make the tables and begin to write. Raises LogUnavailable."""
        create_tables(self._engine)
        # A store may have learned what a log that does not wait for the disk has lost: never give those numbers again.
        self._floor = max(self._floor, LogReader(self._engine).last())
        self._thread.start()

    def submit(self, record: Record) -> "Future[Receipt]":
        """Have a record written. The future fails with LogUnavailable when it was not."""
        future: Future[Receipt] = Future()
        self._queue.put((record, future))
        return future

    def nudge(self, use_cases: set[str]) -> None:
        """Run `after_commit` for these use cases, although nothing is written."""
        self._queue.put(use_cases)

    def probe(self, moment: int) -> None:
        """Write something that does not matter. Raises LogUnavailable when nothing can be written."""
        try:
            with self._engine.begin() as connection:
                connection.execute(probes.delete())
                connection.execute(insert(probes).values(id=1, recorded_at=moment))
        except DBAPIError as error:
            raise _unavailable(error) from error

    def close(self) -> None:
        """Write what waits, then stop."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        """Take all that wait, up to a group, and write them together."""
        last = False
        while not last:
            items = [self._queue.get()]
            while len(items) < _GROUP and items[-1] is not None:
                try:
                    items.append(self._queue.get_nowait())
                except Empty:
                    break
            last = items[-1] is None
            nudged = set().union(*(item for item in items if isinstance(item, set)))
            waiting = [item for item in items if isinstance(item, tuple)]
            self._write([each for each in waiting if each[1].set_running_or_notify_cancel()], nudged)

    def _write(self, group: Sequence[_Waiting], nudged: set[str]) -> None:
        try:
            receipts = self._commit([record for record, _ in group]) if group else []
        except Exception as error:
            logger.exception("the prediction log did not take %d records", len(group))
            for _, future in group:
                future.set_exception(_unavailable(error))
            return
        try:
            self._after_commit(nudged | {record.use_case for record, _ in group})
        except Exception:  # the rows are committed: their answers leave, and the store catches up later
            logger.exception("what follows a commit of the prediction log failed")
        for (_, future), receipt in zip(group, receipts, strict=True):
            future.set_result(receipt)

    def _commit(self, records: Sequence[Record]) -> list[Receipt]:
        try:
            return self._insert(records)
        except IntegrityError:  # another process wrote meanwhile: now its rows can be seen
            self._floor = max(self._floor, LogReader(self._engine).last())
            return self._insert(records)

    def _insert(self, records: Sequence[Record]) -> list[Receipt]:
        rows: dict[Table, list[dict[str, Any]]] = {predictions: [], labels: []}
        receipts: list[Receipt] = []
        with self._engine.begin() as connection:
            known = dict(_known(connection, records))
            sequence = self._floor
            for record in records:
                receipt = known.get(record.key)
                if receipt is None:
                    sequence += 1
                    receipt = Receipt(sequence, getattr(record, "answer", ""))
                    known[record.key] = replace(receipt, fresh=False)
                    rows[record.table].append(vars(record) | {"sequence": sequence})
                receipts.append(receipt)
            for table, new in rows.items():
                if new:
                    connection.execute(_INSERTS[table], new)
        self._floor = sequence
        return receipts


def create_tables(engine: Engine) -> None:
    """Make the log's tables where they are missing. Raises LogUnavailable."""
    try:
        metadata.create_all(engine)
    except DBAPIError as error:
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> LogUnavailable:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return LogUnavailable(f"the prediction log cannot be written: {cause}; check its disk and its locks")


def _known(connection: Connection, records: Iterable[Record]) -> Iterable[tuple[tuple[object, ...], Receipt]]:
    """What the log has already of these records."""
    wanted = [(record.use_case, record.identity) for record in records if record.table is predictions]
    if wanted:
        for row in connection.execute(_ANSWERED, {"wanted": wanted}):
            yield (row.use_case, row.identity), Receipt(row.sequence, row.answer, fresh=False)
    told = [(record.use_case, record.identity) for record in records if record.table is labels]
    if told:
        rows = connection.execute(_LABELLED, {"wanted": told})
        latest = {(row.use_case, row.identity): row for row in rows}
        for row in latest.values():
            yield (row.use_case, row.identity, row.label), Receipt(row.sequence, fresh=False)


def _of_events(table: Table, column: str) -> Any:
    """Rows of the events in `wanted`, in order. Built once: making a statement costs more than running it."""
    of = table.c
    wanted = tuple_(of.use_case, of.identity).in_(bindparam("wanted", expanding=True))
    return select(of.sequence, of.use_case, of.identity, of[column]).where(wanted).order_by(of.sequence)


_ANSWERED, _LABELLED = _of_events(predictions, "answer"), _of_events(labels, "label")
_INSERTS = {table: insert(table) for table in (predictions, labels)}
