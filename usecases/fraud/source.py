"""Where raw card transactions come from, and what they must be: simulated ones, or a file of the user's own."""

import csv
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from orrery.errors import OrreryError
from orrery.usecase import Progress, SourceRequest
from usecases.fraud import simulator
from usecases.fraud.features import LABEL_DELAY
from usecases.fraud.serving import EARLIEST, LARGEST_ID, LATEST

REQUIRED = ("TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD")
OPTIONAL = ("TRANSACTION_ID", "TX_FRAUD_SCENARIO")
"""made when a file lacks them: the position in time, 0"""
CANONICAL = (
    "TRANSACTION_ID",
    "TX_DATETIME",
    "CUSTOMER_ID",
    "TERMINAL_ID",
    "TX_AMOUNT",
    "TX_TIME_SECONDS",
    "TX_TIME_DAYS",
    "TX_FRAUD",
    "TX_FRAUD_SCENARIO",
)
SAMPLE = {"customers": 500, "terminals": 1_000, "days": 140}

ROW = "row"
"""name of the index that carries row numbers of a file, the header of a CSV file counted as row 1"""
LARGEST_AMOUNT = 1e9

_ZONE = r"[T ].*(?:[Zz]|[+-]\d\d(?::?\d\d)?)$"
_A_NUMBER = f"a whole number from 0 to {LARGEST_ID}"
_MEANING = {
    "TRANSACTION_ID": f"{_A_NUMBER}, each only once",
    "TX_DATETIME": f"a time from {EARLIEST.year} to {LATEST.year}, as 2018-04-01T00:00:31Z",
    "CUSTOMER_ID": _A_NUMBER,
    "TERMINAL_ID": _A_NUMBER,
    "TX_AMOUNT": f"an amount from 0 to {LARGEST_AMOUNT:.0f}",
    "TX_FRAUD": "0 or 1",
    "TX_FRAUD_SCENARIO": _A_NUMBER,
}


class DataRefused(OrreryError):
    """The raw data are not what they must be."""


def simulated(request: SourceRequest, progress: Progress) -> pd.DataFrame:
    """The Fraud Detection Handbook's set; with `request.sample` a smaller one. Raises DataRefused for file options."""
    if request.path or request.columns:
        raise DataRefused("the simulator reads no file; add --source file, or leave out --path and --column")
    return simulator.simulate(progress, **SAMPLE) if request.sample else simulator.simulate(progress)


def from_file(request: SourceRequest, progress: Progress) -> pd.DataFrame:
    """The known columns of a CSV or Parquet file, under our names, as they were written; the index numbers its rows.

    Raises DataRefused when the file or a required column is missing, or the file cannot be read.
    """
    if request.path is None:
        raise DataRefused("which file? add --path FILE (.csv or .parquet)")
    if request.sample:
        raise DataRefused("--sample is for the simulator; leave it out, or name a smaller file")
    if not request.path.is_file():
        raise DataRefused(f"there is no file {request.path}; check --path")
    if request.path.suffix not in _READERS:
        raise DataRefused(f"{request.path}: only {' and '.join(_READERS)} files are read; convert it to one of these")
    progress("read", 0, 1, request.path.name)
    frame = _READERS[request.path.suffix](request)
    if frame.empty:
        raise DataRefused(f"{request.path} has no rows; check that it was written to its end")
    progress("read", 1, 1)
    return frame


SOURCES: Mapping[str, Callable[[SourceRequest, Progress], pd.DataFrame]] = {"simulator": simulated, "file": from_file}


def validate(frame: pd.DataFrame) -> pd.DataFrame:
    """Raw rows as read -> canonical types, columns and order; what can be derived is.

    Times without a zone are UTC, finer than a microsecond is cut, amounts are rounded to cents, rows are sorted by
    time, TX_TIME_SECONDS and TX_TIME_DAYS count from the first day's midnight. Raises DataRefused with row and column.
    """
    missing = [name for name in REQUIRED if name not in frame]
    if missing or frame.empty:
        raise DataRefused(f"the data have no column {missing[0]}" if missing else "the data have no rows")
    if frame.index.name != ROW:
        frame = frame.set_axis(pd.RangeIndex(1, 1 + len(frame), name=ROW))
    converted = pd.DataFrame({name: _converted(frame[name]) for name in _MEANING if name in frame})
    _check_rows(converted, frame)
    _check_labels(converted)
    return _canonical(converted)


def describe(frame: pd.DataFrame) -> dict[str, int]:
    """Counts to print."""
    return {"rows": len(frame), "frauds": int(frame["TX_FRAUD"].sum())}


def _read_csv(request: SourceRequest) -> pd.DataFrame:
    from pyarrow import ArrowException, string
    from pyarrow import csv as arrow_csv

    assert request.path is not None
    try:
        with request.path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
        taken = _choose(request, header)
        table = arrow_csv.read_csv(
            request.path,
            read_options=arrow_csv.ReadOptions(use_threads=False),  # else its errors lack the row
            parse_options=arrow_csv.ParseOptions(ignore_empty_lines=False),  # they count as rows
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(taken.values()),
                column_types=dict.fromkeys(header, string()),
                strings_can_be_null=False,
            ),
        )
    except (ArrowException, UnicodeDecodeError) as error:
        raise DataRefused(f"{request.path} cannot be read as CSV in UTF-8: {_line(error)}; mend that row") from error
    frame = _renamed(table.to_pandas(), taken, first=2)
    blank = (frame == "").all(axis=1).to_numpy()
    return frame.iloc[: len(frame) - int(np.argmin(blank[::-1])) if not blank.all() else 0]


def _read_parquet(request: SourceRequest) -> pd.DataFrame:
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(request.path) as file:
            taken = _choose(request, file.schema_arrow.names)
            table = file.read(columns=list(taken.values()))
    except (ArrowException, OSError) as error:
        raise DataRefused(f"{request.path} is not a whole Parquet file: {_line(error)}; write it again") from error
    return _renamed(table.to_pandas(), taken, first=1)


_READERS: Mapping[str, Callable[[SourceRequest], pd.DataFrame]] = {".csv": _read_csv, ".parquet": _read_parquet}


def _choose(request: SourceRequest, header: list[str]) -> dict[str, str]:
    """Our column -> the file's, for those that are there."""
    known = (*REQUIRED, *OPTIONAL)
    for ours in request.columns:
        if ours not in known:
            raise DataRefused(f"there is no column {ours} to map to; ours are: {', '.join(known)}")
    wanted = {ours: request.columns.get(ours, ours) for ours in known}
    for ours, theirs in wanted.items():
        if theirs not in header and (ours in REQUIRED or ours in request.columns):
            raise DataRefused(
                f"{request.path} has no column {theirs}; it has: {', '.join(header)}; name it by --column {ours}=THEIRS"
            )
        if header.count(theirs) > 1:
            raise DataRefused(f"{request.path} has {header.count(theirs)} columns {theirs}; rename all but one")
    return {ours: theirs for ours, theirs in wanted.items() if theirs in header}


def _renamed(table: pd.DataFrame, taken: Mapping[str, str], first: int) -> pd.DataFrame:
    frame = pd.DataFrame({ours: table[theirs].array for ours, theirs in taken.items()})
    return frame.set_axis(pd.RangeIndex(first, first + len(frame), name=ROW))


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")


def _converted(column: pd.Series) -> pd.Series:
    """Numbers or moments; what is neither becomes NaN or NaT."""
    if column.name == "TX_DATETIME":
        return _moments(column)
    return pd.to_numeric(column.astype("int64") if column.dtype == bool else column, errors="coerce")


def _moments(column: pd.Series) -> pd.Series:
    if pd.api.types.is_numeric_dtype(column):  # seconds or milliseconds, of which epoch?
        return pd.Series(pd.NaT, index=column.index, dtype="datetime64[us, UTC]")
    if not pd.api.types.is_datetime64_any_dtype(column):
        column = _dates(column.astype(str))
    aware = column.dt.tz_localize("UTC") if column.dt.tz is None else column.dt.tz_convert("UTC")
    micros: pd.Series = aware.dt.as_unit("us")
    return micros


def _dates(text: pd.Series) -> pd.Series:
    """ISO 8601 in two parts: pandas gives a moment without a zone the zone of the one before, and it reads "now"."""
    dates, zoned = text.where(text.str[:1].str.isdigit()), text.str.contains(_ZONE)
    parts = (dates.where(of_part) for of_part in (zoned, ~zoned))
    first, second = (pd.to_datetime(part, utc=True, format="ISO8601", errors="coerce") for part in parts)
    moments: pd.Series = first.fillna(second)
    return moments


@cache
def _schema() -> Any:
    from pandera.pandas import Check, Column, DataFrameSchema

    def whole(column: pd.Series) -> pd.Series:
        return column % 1 == 0

    identifier = [Check.in_range(0, LARGEST_ID), Check(whole)]
    checks = dict.fromkeys(_MEANING, identifier) | {
        "TX_DATETIME": [Check.in_range(EARLIEST, LATEST)],
        "TX_AMOUNT": [Check.in_range(0, LARGEST_AMOUNT)],
        "TX_FRAUD": [Check.isin([0, 1])],
    }
    columns = {name: Column(checks=found, required=name in REQUIRED) for name, found in checks.items()}
    columns["TRANSACTION_ID"] = Column(
        checks=identifier, required=False, unique=True, report_duplicates="exclude_first"
    )
    return DataFrameSchema(columns)


def _check_rows(converted: pd.DataFrame, raw: pd.DataFrame) -> None:
    from pandera.errors import SchemaErrors

    try:
        _schema().validate(converted, lazy=True)
    except SchemaErrors as error:
        cases = error.failure_cases.astype({"index": "int64"}).sort_values("index", kind="stable")
        row, column, check = cases.iloc[0][["index", "column", "check"]]
        value = repr(str(raw.at[row, column])[:60])
        wrong = "is there twice" if check == "field_uniqueness" else f"is not {_MEANING[column]}"
        raise DataRefused(f"row {row}, column {column}: {value} {wrong}; mend or remove that row") from error


def _check_labels(frame: pd.DataFrame) -> None:
    first, last = frame["TX_DATETIME"].min(), frame["TX_DATETIME"].max()
    if last < first + LABEL_DELAY:
        raise DataRefused(
            f"column TX_FRAUD: no label has arrived, for labels come {LABEL_DELAY.days} days after the transaction and "
            f"the rows end {last - first} after the first; add later rows"
        )
    if not frame["TX_FRAUD"].any():
        raise DataRefused("column TX_FRAUD: no row is a fraud, so nothing can be learned; check the column mapping")


def _canonical(frame: pd.DataFrame) -> pd.DataFrame:
    order = ["TX_DATETIME", "TRANSACTION_ID"] if "TRANSACTION_ID" in frame else ["TX_DATETIME"]
    frame = frame.sort_values(order, kind="stable", ignore_index=True)
    since = frame["TX_DATETIME"] - frame["TX_DATETIME"].iloc[0].floor("D")
    derived = {
        "TRANSACTION_ID": np.arange(len(frame)),
        "TX_TIME_SECONDS": since // pd.Timedelta(seconds=1),
        "TX_TIME_DAYS": since // pd.Timedelta(days=1),
        "TX_FRAUD_SCENARIO": 0,
    }
    full = frame.assign(**{name: values for name, values in derived.items() if name not in frame})
    whole = dict.fromkeys(set(CANONICAL) - {"TX_DATETIME", "TX_AMOUNT"}, "int64")
    return full.assign(TX_AMOUNT=full["TX_AMOUNT"].astype("float64").round(2)).astype(whole)[list(CANONICAL)]
