"""What the watch has found, a row a window, beside the prediction log."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from sqlalchemy import BigInteger, Column, Engine, Integer, MetaData, String, Table, Text, delete, insert, select

from orrery.adapters.side_table import SideTable
from orrery.moments import micros, moment
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


class _WindowLog(SideTable, Generic[Found]):
    """Every call raises LogUnavailable when the database does not answer."""

    def __init__(self, engine: Engine, table: Table, parse: Callable[[str], Found]) -> None:
        super().__init__(engine, table, "the log of the watch")
        self._parse = parse

    def write(self, found: Found, now: datetime) -> None:
        """Keep what was found of a window, in place of what was found of it before."""
        window = {"use_case": found.use_case, "first": micros(found.first), "last": micros(found.last)}
        same = [self._table.c[name] == value for name, value in window.items()]
        row = insert(self._table).values(**window, watched_at=micros(now), found=found.to_json())
        self._change(delete(self._table).where(*same), row)

    def latest(self, use_case: str, limit: int = 1) -> list[tuple[datetime, Found]]:
        """When it was watched and what was found, of the last `limit` windows, the newest first."""
        columns = self._table.c
        query = select(columns.watched_at, columns.found).where(columns.use_case == use_case)
        rows = self._rows(query.order_by(columns.first.desc()).limit(limit))
        return [(moment(row.watched_at), self._parse(row.found)) for row in rows]

    def newest(self) -> Mapping[str, tuple[datetime, Found]]:
        """Use case -> its last window."""
        query = select(self._table.c.use_case).distinct().order_by(self._table.c.use_case)
        return {row.use_case: self.latest(row.use_case)[0] for row in self._rows(query)}


class WatchLog(_WindowLog[Watched]):
    """Drift and quality, window by window."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, _watched, Watched.from_json)


class SkewLog(_WindowLog[Skew]):
    """Served features against offline ones, window by window."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, _compared, Skew.from_json)
