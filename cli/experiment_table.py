"""Reads an experiment's columns from a CSV or Parquet file: names, numbers, and what a missing number means."""

import csv
from collections.abc import Collection
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orrery.errors import OrreryError

if TYPE_CHECKING:
    import pandas as pd

    from orrery.usecase import Array

_MISSING = ["", "nan", "na", "n/a", "null", "none", "<na>"]


class TableRefused(OrreryError):
    """The file is not a table with these columns."""


class CellRefused(OrreryError):
    """A cell is not what its column is for."""


class Missing(StrEnum):
    """What a metric without a number means."""

    REFUSE = "refuse"
    ZERO = "zero"
    LEAVE_OUT = "leave-out"


@dataclass(frozen=True)
class Units:
    """What an experiment compares, one row a unit; `left_out` counts what is not in it, by reason."""

    variants: "Array"
    metrics: "dict[str, Array]"
    covariate: "Array | None"
    first_row: int = 1
    left_out: dict[str, int] = field(default_factory=dict)


def units_of_file(path: Path, variant: str, metrics: list[str], covariate: str, missing: Missing) -> Units:
    """The units of a file. Raises TableRefused, CellRefused."""
    import pandas as pd

    columns = [*metrics, *filter(None, [covariate])]
    cells = read_table(path, [variant, *columns])
    variants = pd.Series(names(variant, cells[variant]), cells.index)
    rows = pd.DataFrame({name: numbers(name, cells[name]) for name in columns}, cells.index)
    rows, left_out = settled(rows, missing)
    return Units(
        variants[rows.index].to_numpy(str),
        {name: rows[name].to_numpy() for name in metrics},
        rows[covariate].to_numpy() if covariate else None,
        int(cells.index[0]),
        left_out,
    )


def settled(rows: "pd.DataFrame", missing: Missing) -> "tuple[pd.DataFrame, dict[str, int]]":
    """Rows of numbers with missing and infinite ones as `missing` says, and how many were left out for them."""
    if missing is Missing.REFUSE:
        return rows, {}
    known = rows.replace([float("inf"), float("-inf")], float("nan"))
    if missing is Missing.ZERO:
        return known.fillna(0.0), {}
    kept = known.dropna()
    return kept, {"without a value": len(rows) - len(kept)} if len(kept) < len(rows) else {}


def read_table(path: Path, columns: list[str]) -> "pd.DataFrame":
    """These columns, cells of a CSV as text; the index numbers the rows, the header of a CSV counted as row 1.

    Raises TableRefused.
    """
    from pyarrow import ArrowException

    readers = {".csv": _read_csv, ".parquet": _read_parquet}
    if not path.is_file():
        raise TableRefused(f"there is no file {path}; check its name")
    if path.suffix not in readers:
        raise TableRefused(f"{path}: only {' and '.join(readers)} files are read; convert it to one of these")
    try:
        frame = readers[path.suffix](path, list(dict.fromkeys(columns)))
    except UnicodeDecodeError as error:
        raise TableRefused(f"{path} is not UTF-8 (byte {error.start}); save it as CSV in UTF-8") from error
    except (ArrowException, OSError, csv.Error) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TableRefused(f"{path} cannot be read as {path.suffix[1:]}: {line}; write it again") from error
    if frame.empty:
        raise TableRefused(f"{path} has no rows; check that it was written to its end")
    return frame


def names(column: str, cells: "pd.Series[Any]") -> "Array":
    """Cells as text, shape (n,). Raises CellRefused where one is missing."""
    text = cells.astype(str).str.strip()
    if (missing := cells.isna() | (text == "")).any():
        where = f"{missing.sum():,} rows, the first is row {missing.idxmax()}"
        raise CellRefused(f"{column} is missing in {where}; say what it is there, or leave these rows out")
    return text.to_numpy(str)


def numbers(column: str, cells: "pd.Series[Any]") -> "Array":
    """Cells as float64, shape (n,), missing ones NaN; true and false count as 1 and 0. Raises CellRefused."""
    import pandas as pd

    if cells.dtype.kind in "biuf":
        return cells.to_numpy("float64", na_value=float("nan"))
    text = cells.astype(str).str.strip().str.lower()
    missing = text.isin(_MISSING)
    found = pd.to_numeric(text.mask(missing).replace({"true": "1", "false": "0"}), errors="coerce")
    if (wrong := found.isna() & ~missing).any():
        place = int(wrong.argmax())
        where = f"row {cells.index[place]} has {str(cells.iloc[place])[:40]!r}"
        raise CellRefused(f"{column} is not numeric: {where}; name another column")
    return found.to_numpy("float64")


def nearest(name: str, there: Collection[str]) -> str:
    """Says which of the names that are there was probably meant."""
    near = get_close_matches(name, there, n=1, cutoff=0.0)
    return f"the nearest is {near[0]}" if near else "it is empty"


def _read_csv(path: Path, columns: list[str]) -> "pd.DataFrame":
    import numpy as np
    from pyarrow import csv as arrow_csv
    from pyarrow import string

    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file), [])
    _require(path, columns, header)
    table = arrow_csv.read_csv(
        path,
        read_options=arrow_csv.ReadOptions(use_threads=False),  # else its errors lack the row
        parse_options=arrow_csv.ParseOptions(ignore_empty_lines=False),  # they count as rows
        convert_options=arrow_csv.ConvertOptions(
            include_columns=columns, column_types=dict.fromkeys(header, string()), strings_can_be_null=False
        ),
    )
    frame: pd.DataFrame = table.to_pandas()
    written = np.flatnonzero((frame != "").any(axis=1))
    frame.index += 2
    return frame.iloc[: written[-1] + 1 if len(written) else 0]


def _read_parquet(path: Path, columns: list[str]) -> "pd.DataFrame":
    import pandas as pd
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        _require(path, columns, file.schema_arrow.names)
        frame: pd.DataFrame = file.read(columns=columns).to_pandas(ignore_metadata=True)
    return frame.set_axis(pd.RangeIndex(1, 1 + len(frame)))


def _require(path: Path, columns: list[str], header: list[str]) -> None:
    for name in columns:
        if name not in header:
            raise TableRefused(f"{path} has no column {name}; {nearest(name, header)}")
        if header.count(name) > 1:
            raise TableRefused(f"{path} has the column {name} more than once; rename one")
