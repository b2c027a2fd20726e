"""Which windows have a report and where its pages lie, a row a window, beside the prediction log."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Engine, MetaData, Row, String, Table, Text, delete, insert, select

from orrery.adapters.side_table import SideTable
from orrery.moments import micros, moment

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
_MOMENTS = ("first", "last", "made_at")


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


class ReportLog(SideTable):
    """Every call raises LogUnavailable when the database does not answer."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, _reports, "the list of reports")

    def write(self, kept: Kept) -> None:
        """Note a report, in place of an earlier one on the same window."""
        values: dict[str, Any] = vars(kept) | {"pages": json.dumps(kept.pages)}
        values |= {name: micros(getattr(kept, name)) for name in _MOMENTS}
        self._change(delete(_reports).where(*_of(kept)), insert(_reports).values(**values))

    def forget(self, kept: Kept) -> None:
        """Take a report off the list."""
        self._change(delete(_reports).where(*_of(kept)))

    def newest(self, use_case: str | None = None) -> list[Kept]:
        """The reports there are, of one use case or of all, the one on the newest window first."""
        query = select(_reports).order_by(_reports.c.first.desc(), _reports.c.use_case)
        rows = self._rows(query if use_case is None else query.where(_reports.c.use_case == use_case))
        return [_kept(row) for row in rows]


def _of(kept: Kept) -> tuple[Any, Any]:
    return _reports.c.use_case == kept.use_case, _reports.c.first == micros(kept.first)


def _kept(row: Row[Any]) -> Kept:
    values = dict(row._mapping) | {"pages": tuple(json.loads(row.pages))}
    return Kept(**values | {name: moment(values[name]) for name in _MOMENTS})
