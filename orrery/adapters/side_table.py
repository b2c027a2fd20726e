"""A table beside the prediction log, made by who first writes into it; whoever reads before that finds nothing."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, Executable, Row, Select, Table
from sqlalchemy.exc import DBAPIError

from orrery.adapters.database import cause, reader
from orrery.adapters.prediction_log import LogUnavailable


class SideTable:
    """Every call raises LogUnavailable when the database does not answer. `what`: its name in words."""

    def __init__(self, engine: Engine, table: Table, what: str) -> None:
        self._engine, self._table, self._what = engine, table, what

    def _change(self, *statements: Executable) -> None:
        """All of them or none."""
        try:
            self._table.metadata.create_all(self._engine)
            with self._engine.begin() as connection:
                for statement in statements:
                    connection.execute(statement)
        except DBAPIError as error:
            raise LogUnavailable(f"{self._what} cannot be written: {cause(error)}") from error

    def _rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        try:
            with reader(self._engine).connect() as connection:
                return connection.execute(query).all()
        except DBAPIError as error:
            if self._never_written(cause(error)):
                return []
            raise LogUnavailable(f"{self._what} cannot be read: {cause(error)}") from error

    def _never_written(self, said: str) -> bool:
        return f'"{self._table.name}" does not exist' in said or f"no such table: {self._table.name}" in said
