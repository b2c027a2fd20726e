"""Which windows have a report and where its pages lie, a row a window, beside the prediction log."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Engine,
    MetaData,
    Row,
    Select,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
)
from sqlalchemy.exc import DBAPIError

from orrery.adapters.database import cause, reader
from orrery.adapters.prediction_log import LogUnavailable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_metadata = MetaData()
_reports = Table(
    "reports",
    _metadata,
    Column("use_case", String(64), primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("last", BigInteger, nullable=False),
    Column("version", String(32), nullable=False),
    Column("run_id", String(64), nullable=False),
    Column("address", Text, nullable=False),
    Column("pages", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("labelled", Boolean, nullable=False),
    Column("made_at", BigInteger, nullable=False),
)


@dataclass(frozen=True)
class Kept:
    """The report on one window, first <= event time < last."""

    use_case: str
    first: datetime
    last: datetime
    version: str
    run_id: str
    """of the training that made the version"""
    address: str
    """of the folder with its pages, in the artifact store"""
    pages: tuple[str, ...]
    """file names"""
    rows: int
    labelled: bool
    """whether the labels of the window had arrived"""
    made_at: datetime

    @property
    def window(self) -> str:
        """Its name in addresses."""
        return named(self.first)


def named(first: datetime) -> str:
    """A window's name in addresses."""
    return f"{first:%Y%m%dT%H%M%SZ}"


class ReportLog:
    """Every call raises LogUnavailable when the database does not answer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def write(self, kept: Kept) -> None:
        """Note a report, in place of an earlier one on the same window."""
        values: dict[str, Any] = vars(kept) | {"pages": json.dumps(kept.pages)}
        values |= {name: _micros(getattr(kept, name)) for name in ("first", "last", "made_at")}
        try:
            _metadata.create_all(self._engine)
            with self._engine.begin() as connection:
                connection.execute(delete(_reports).where(*_of(kept)))
                connection.execute(insert(_reports).values(**values))
        except DBAPIError as error:
            raise LogUnavailable(f"the list of reports cannot be written: {cause(error)}") from error

    def forget(self, kept: Kept) -> None:
        """Take a report off the list."""
        try:
            with self._engine.begin() as connection:
                connection.execute(delete(_reports).where(*_of(kept)))
        except DBAPIError as error:
            raise LogUnavailable(f"the list of reports cannot be written: {cause(error)}") from error

    def newest(self, use_case: str | None = None) -> list[Kept]:
        """The reports there are, of one use case or of all, the one on the newest window first."""
        query = select(_reports).order_by(_reports.c.first.desc(), _reports.c.use_case)
        rows = self._rows(query if use_case is None else query.where(_reports.c.use_case == use_case))
        return [_kept(row) for row in rows]

    def _rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        try:
            with reader(self._engine).connect() as connection:
                return connection.execute(query).all()
        except DBAPIError as error:
            if _never_written(error):
                return []
            raise LogUnavailable(f"the list of reports cannot be read: {cause(error)}") from error


def _of(kept: Kept) -> tuple[Any, Any]:
    return _reports.c.use_case == kept.use_case, _reports.c.first == _micros(kept.first)


def _kept(row: Row[Any]) -> Kept:
    values = dict(row._mapping) | {"pages": tuple(json.loads(row.pages))}
    return Kept(**values | {name: _moment(values[name]) for name in ("first", "last", "made_at")})


def _never_written(error: DBAPIError) -> bool:
    """The first report makes the table."""
    said = cause(error)
    return f'"{_reports.name}" does not exist' in said or f"no such table: {_reports.name}" in said


def _moment(micros: int) -> datetime:
    return datetime.fromtimestamp(micros / 1e6, UTC)


def _micros(moment: datetime) -> int:
    """Microseconds since the epoch; `orrery.recording` has it too, but brings NumPy to whoever only reads."""
    return (moment - _EPOCH) // timedelta(microseconds=1)
