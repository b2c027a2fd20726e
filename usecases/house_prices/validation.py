"""Holds raw sales to what a request may say of a house, and brings them into canonical types and order."""

from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, get_args

import numpy as np
import pandas as pd
from annotated_types import Ge, Le
from pydantic import Field
from pydantic.fields import FieldInfo

from usecases.house_prices.house import House, contradictions
from usecases.house_prices.serving import EARLIEST, LARGEST_ID, LATEST
from usecases.house_prices.source import ROW, SOLD_AT, DataRefused

TARGET = "log_price"
_BLANK = ("", "NA", "nan", "None")
"""what files write where a house does not have something"""


class Sale(House):
    """A house that was sold, as data tell it."""

    sale_id: Annotated[int, Field(ge=0, le=LARGEST_ID)]
    price: Annotated[float, Field(ge=1_000, le=100_000_000)]
    year_sold: Annotated[int, Field(ge=1990, le=2099)]
    month_sold: Annotated[int, Field(ge=1, le=12)]


_MONTH = ("year_sold", "month_sold")
_MADE_IF_ABSENT = "sale_id"


def validate(frame: pd.DataFrame) -> pd.DataFrame:
    """Raw rows as read -> canonical types, columns and order, with the logarithm of the price.

    A blank in an optional column, and one that is absent, is what a request means that leaves the field out: none, 0,
    unknown, or the most usual code. The moment is the first of the month of sale, UTC, unless the data have `sold_at`.
    Rows are sorted by moment and id. Raises DataRefused with row and column.
    """
    if frame.empty:
        raise DataRefused("the data have no rows")
    if frame.index.name != ROW:
        frame = frame.set_axis(pd.RangeIndex(1, 1 + len(frame), name=ROW))
    converted = pd.DataFrame(dict(_columns(frame)), index=frame.index)
    _check_rows(converted, frame)
    if SOLD_AT not in converted:
        month = converted[list(_MONTH)].set_axis(["year", "month"], axis=1).assign(day=1)
        converted[SOLD_AT] = pd.to_datetime(month, utc=True).dt.as_unit("us")
    _check_contradictions(converted)
    return _canonical(converted)


def describe(frame: pd.DataFrame) -> dict[str, int]:
    """Counts to print."""
    return {
        "rows": len(frame),
        "neighborhoods": frame["neighborhood"].nunique(),
        "median_price": round(frame["price"].median()),
    }


def _columns(frame: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """The columns there are or could be, converted; what cannot be is NaN, NaT or infinite."""
    if SOLD_AT in frame:
        yield SOLD_AT, _moments(frame[SOLD_AT])
    for name, field in Sale.model_fields.items():
        if name in _MONTH and SOLD_AT in frame:
            continue
        if name in frame:
            yield name, _converted(frame[name], field)
        elif not field.is_required():
            yield name, pd.Series(field.default, index=frame.index, dtype="float64" if field.default is None else None)
        elif name != _MADE_IF_ABSENT:
            raise DataRefused(f"the data have no column {name}; name it by --column {name}=THEIRS")


def _converted(column: pd.Series, field: FieldInfo) -> pd.Series:
    blank = column.isna() | column.isin(_BLANK)
    default = None if field.is_required() else field.default
    if _bounds(field) is None:
        return column.map(str).mask(blank, default)
    numbers = pd.to_numeric(column.mask(blank), errors="coerce").astype("float64")
    return numbers.where(numbers.notna() | blank, np.inf).fillna(np.nan if default is None else default)


def _moments(column: pd.Series) -> pd.Series:
    if pd.api.types.is_numeric_dtype(column):  # of which epoch?
        return pd.Series(pd.NaT, index=column.index, dtype="datetime64[us, UTC]")
    if not pd.api.types.is_datetime64_any_dtype(column):
        column = pd.to_datetime(column, utc=True, format="ISO8601", errors="coerce")
    aware = column.dt.tz_localize("UTC") if column.dt.tz is None else column.dt.tz_convert("UTC")
    micros: pd.Series = aware.dt.as_unit("us")
    return micros


def _bounds(field: FieldInfo) -> tuple[float, float] | None:
    """Least and most of a number; None for a code."""
    least = [each.ge for each in field.metadata if isinstance(each, Ge)]
    most = [each.le for each in field.metadata if isinstance(each, Le)]
    return (float(least[0]), float(most[0])) if least else None  # type: ignore[arg-type]


def _meaning(name: str) -> str:
    if name == SOLD_AT:
        return f"a time from {EARLIEST.year} to {LATEST.year}, as 2010-07-31T12:00:00Z"
    field = Sale.model_fields[name]
    if bounds := _bounds(field):
        return f"a {'whole ' if field.annotation is int else ''}number from {bounds[0]:.0f} to {bounds[1]:.0f}"
    return (
        f"one of {', '.join(get_args(field.annotation))}" if get_args(field.annotation) else "a code of 1 to 40 letters"
    )


@cache
def _schema() -> Any:
    from pandera.pandas import Check, Column, DataFrameSchema

    def checks(field: FieldInfo) -> list[Any]:
        if bounds := _bounds(field):
            whole = [Check(lambda column: column % 1 == 0, name="whole")] if field.annotation is int else []
            return [Check.in_range(*bounds), *whole]
        codes = get_args(field.annotation)
        return [Check.isin(codes) if codes else Check.str_length(1, 40)]

    columns = {
        name: Column(checks=checks(field), required=False, nullable=not field.is_required() and field.default is None)
        for name, field in Sale.model_fields.items()
    }
    columns["sale_id"] = Column(
        checks=checks(Sale.model_fields["sale_id"]), required=False, unique=True, report_duplicates="exclude_first"
    )
    return DataFrameSchema({**columns, SOLD_AT: Column(checks=[Check.in_range(EARLIEST, LATEST)], required=False)})


def _check_rows(converted: pd.DataFrame, raw: pd.DataFrame) -> None:
    from pandera.errors import SchemaErrors

    try:
        _schema().validate(converted, lazy=True)
    except SchemaErrors as error:
        cases = error.failure_cases.astype({"index": "int64"}).sort_values("index", kind="stable")
        row, column, check = cases.iloc[0][["index", "column", "check"]]
        wrong = "is there twice" if check == "field_uniqueness" else f"is not {_meaning(column)}"
        value = repr(str(raw.at[row, column])[:60])
        raise DataRefused(f"row {row}, column {column}: {value} {wrong}; mend or remove that row") from error


def _check_contradictions(frame: pd.DataFrame) -> None:
    columns = {name: frame[name].to_numpy() for name in House.model_fields}
    for field, wrong, where in contradictions(columns, frame[SOLD_AT].dt.year.to_numpy()):
        if where.any():
            row = frame.index[int(where.argmax())]
            raise DataRefused(f"row {row}, column {field}: {wrong}; mend or remove that row")


def _canonical(frame: pd.DataFrame) -> pd.DataFrame:
    order = [SOLD_AT, _MADE_IF_ABSENT] if _MADE_IF_ABSENT in frame else [SOLD_AT]
    frame = frame.sort_values(order, kind="stable", ignore_index=True)
    if _MADE_IF_ABSENT not in frame:
        frame[_MADE_IF_ABSENT] = np.arange(len(frame))
    whole = {name: "int64" for name, field in Sale.model_fields.items() if field.annotation is int and name in frame}
    names = ["sale_id", SOLD_AT, "price", *House.model_fields]
    return frame.astype(whole)[names].assign(**{TARGET: np.log(frame["price"])})
