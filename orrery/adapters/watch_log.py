"""What the watch has found, a row a window, beside the prediction log."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Integer,
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
from orrery.skew import Skew
from orrery.watching import Watched


class _Window(Protocol):
    @property
    def use_case(self) -> str: ...
    @property
    def first(self) -> datetime: ...
    @property
    def last(self) -> datetime: ...
    def to_json(self) -> str: ...


Found = TypeVar("Found", bound=_Window)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_metadata = MetaData()


def _table(name: str) -> Table:
    return Table(
        name,
        _metadata,
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("use_case", String(64), nullable=False, index=True),
        Column("first", BigInteger, nullable=False),
        Column("last", BigInteger, nullable=False),
        Column("watched_at", BigInteger, nullable=False),
        Column("found", Text, nullable=False),
    )


_watched, _compared = _table("watched_windows"), _table("compared_windows")


class _WindowLog(Generic[Found]):
    """Every call raises LogUnavailable when the database does not answer."""

    def __init__(self, engine: Engine, table: Table, parse: Callable[[str], Found]) -> None:
        self._engine, self._table, self._parse = engine, table, parse

    def write(self, found: Found, now: datetime) -> None:
        """Keep what was found of a window, in place of what was found of it before."""
        window = {"use_case": found.use_case, "first": _micros(found.first), "last": _micros(found.last)}
        same = [self._table.c[name] == value for name, value in window.items()]
        row = insert(self._table).values(**window, watched_at=_micros(now), found=found.to_json())
        try:
            _metadata.create_all(self._engine)
            with self._engine.begin() as connection:
                connection.execute(delete(self._table).where(*same))
                connection.execute(row)
        except DBAPIError as error:
            raise LogUnavailable(f"the log of the watch cannot be written: {cause(error)}") from error

    def latest(self, use_case: str, limit: int = 1) -> list[tuple[datetime, Found]]:
        """When it was watched and what was found, of the last `limit` windows, the newest first."""
        columns = self._table.c
        query = select(columns.watched_at, columns.found).where(columns.use_case == use_case)
        rows = self._rows(query.order_by(columns.first.desc()).limit(limit))
        return [(datetime.fromtimestamp(row.watched_at / 1e6, UTC), self._parse(row.found)) for row in rows]

    def newest(self) -> Mapping[str, tuple[datetime, Found]]:
        """Use case -> its last window."""
        query = select(self._table.c.use_case).distinct().order_by(self._table.c.use_case)
        return {row.use_case: self.latest(row.use_case)[0] for row in self._rows(query)}

    def _rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        try:
            with reader(self._engine).connect() as connection:
                return connection.execute(query).all()
        except DBAPIError as error:
            if self._never_written(error):
                return []
            raise LogUnavailable(f"the log of the watch cannot be read: {cause(error)}") from error

    def _never_written(self, error: DBAPIError) -> bool:
        """The first watch makes the table."""
        said = cause(error)
        return self._table.name in said and ("no such table" in said or "does not exist" in said)


class WatchLog(_WindowLog[Watched]):
    """Drift and quality, window by window."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, _watched, Watched.from_json)


class SkewLog(_WindowLog[Skew]):
    """Served features against offline ones, window by window."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, _compared, Skew.from_json)


def _micros(moment: datetime) -> int:
    """Microseconds since the epoch; `orrery.recording` has it too, but brings NumPy to whoever only reads."""
    return (moment - _EPOCH) // timedelta(microseconds=1)
