"""What the watch has found, a row a window, beside the prediction log."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

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
from orrery.watching import Watched

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_metadata = MetaData()
_windows = Table(
    "watched_windows",
    _metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("use_case", String(64), nullable=False, index=True),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("watched_at", BigInteger, nullable=False),
    Column("found", Text, nullable=False),
)


class WatchLog:
    """Every call raises LogUnavailable when the database does not answer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def write(self, found: Watched, now: datetime) -> None:
        """Keep what was found of a window, in place of what was found of it before."""
        window = {"use_case": found.use_case, "first": _micros(found.first), "last": _micros(found.last)}
        same = [_windows.c[name] == value for name, value in window.items()]
        try:
            _metadata.create_all(self._engine)
            with self._engine.begin() as connection:
                connection.execute(delete(_windows).where(*same))
                connection.execute(insert(_windows).values(**window, watched_at=_micros(now), found=found.to_json()))
        except DBAPIError as error:
            raise LogUnavailable(f"the log of the watch cannot be written: {cause(error)}") from error

    def latest(self, use_case: str, limit: int = 1) -> list[tuple[datetime, Watched]]:
        """When it was watched and what was found, of the last `limit` windows, the newest first."""
        query = select(_windows.c.watched_at, _windows.c.found).where(_windows.c.use_case == use_case)
        rows = self._rows(query.order_by(_windows.c.first.desc()).limit(limit))
        return [(datetime.fromtimestamp(row.watched_at / 1e6, UTC), Watched.from_json(row.found)) for row in rows]

    def newest(self) -> Mapping[str, tuple[datetime, Watched]]:
        """Use case -> its last window."""
        query = select(_windows.c.use_case).distinct().order_by(_windows.c.use_case)
        return {row.use_case: self.latest(row.use_case)[0] for row in self._rows(query)}

    def _rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        try:
            with reader(self._engine).connect() as connection:
                return connection.execute(query).all()
        except DBAPIError as error:
            if _never_written(error):
                return []
            raise LogUnavailable(f"the log of the watch cannot be read: {cause(error)}") from error


def _never_written(error: DBAPIError) -> bool:
    """The first watch makes the table."""
    said = cause(error)
    return _windows.name in said and ("no such table" in said or "does not exist" in said)


def _micros(moment: datetime) -> int:
    """Microseconds since the epoch; `orrery.recording` has it too, but brings NumPy to whoever only reads."""
    return (moment - _EPOCH) // timedelta(microseconds=1)
