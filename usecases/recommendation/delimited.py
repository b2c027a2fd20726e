"""Delimited text as a table of text: a broken file is refused by its line or its byte."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from orrery.errors import OrreryError
from orrery.usecase import SourceRequest

ROW = "row"
"""name of the index that carries row numbers of a file, a header counted as row 1"""

_LAYOUTS = {"\t": "movielens-100k", "::": "movielens-1m", ",": "movielens-latest"}
"""separator -> the source whose lines have four fields between such"""
_UNIT = "\x1f"
"""stands for a separator of several bytes, which Arrow does not take"""

_LONGEST = 100_000
"""bytes of a header"""


class DataRefused(OrreryError):
    """The raw data are not what they must be."""


def existing(request: SourceRequest, suffixes: Sequence[str], name: str = "") -> Path:
    """The file at `request.path`, or the file `name` in the folder there. Raises DataRefused."""
    if request.path is None:
        raise DataRefused(f"which file? add --path FILE ({' or '.join(suffixes)})")
    if request.sample:
        raise DataRefused("--sample is for the built-in data; leave it out, or name a smaller file")
    path = request.path / name if name and request.path.is_dir() else request.path
    if not path.is_file():
        raise DataRefused(f"there is no file {path}; check --path")
    if path.suffix not in suffixes:
        raise DataRefused(
            f"{path}: --source {request.source} reads {' and '.join(suffixes)} files; convert it, or see other sources"
        )
    return path


def text_of(path: Path, *, latin: bool = False) -> bytes:
    """A file's text in UTF-8; with `latin`, what is not UTF-8 is Latin-1. Raises DataRefused with the bad byte."""
    data = path.read_bytes()
    if not data.strip():
        raise DataRefused(f"{path} is empty; check that it was written to its end")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        if latin:
            return data.decode("latin-1").encode()
        raise DataRefused(f"{path}, byte {error.start}: this is not UTF-8; save the file in that encoding") from error
    return data


def header_of(data: bytes) -> list[str]:
    """The cells of the first line."""
    return next(csv.reader([data[:_LONGEST].splitlines()[0].decode("utf-8-sig", errors="ignore")]), [])


def delimited(
    path: Path, data: bytes, columns: Sequence[str], wanted: Sequence[str], separator: str = ","
) -> pd.DataFrame:
    """The `wanted` of the text's `columns`, each cell a str, indexed by line; only with commas a header and quotes.

    Blank lines at the end are no rows. Raises DataRefused for a line of too few or too many fields, for a value that
    goes on in the next line, and for a text without rows.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    uneven: list[tuple[int, str]] = []

    def refuse(row: Any) -> str:
        uneven.append((row.number, row.text))
        return "error"

    headed = separator == ","
    lines = data.rstrip(b"\r\n") + b"\n"
    one_byte = separator if len(separator) == 1 else _UNIT
    try:
        table = arrow_csv.read_csv(
            pa.py_buffer(lines.replace(separator.encode(), one_byte.encode())),
            arrow_csv.ReadOptions(use_threads=False, skip_rows=int(headed), column_names=columns),  # threads: no row
            arrow_csv.ParseOptions(
                delimiter=one_byte,
                quote_char='"' if headed else False,
                ignore_empty_lines=False,
                invalid_row_handler=refuse,
            ),
            arrow_csv.ConvertOptions(
                include_columns=wanted, column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise DataRefused(f"{path}, {_uneven(*uneven[0], separator) if uneven else _unclosed(lines)}") from error
    if table.num_rows + headed < lines.count(b"\n"):
        raise DataRefused(f"{path}, {_unclosed(lines)}")
    if not table.num_rows:
        raise DataRefused(f"{path} has no rows; check that it was written to its end")
    frame: pd.DataFrame = table.to_pandas()
    return frame.set_axis(pd.RangeIndex(1 + headed, 1 + headed + len(frame), name=ROW))


def cell(frame: pd.DataFrame, row: Any, column: str) -> str:
    """A value as messages show it."""
    return repr(str(frame.at[row, column])[:60])


def _uneven(row: int, text: str, separator: str) -> str:
    line = text.replace(_UNIT, separator)
    alike = [source for other, source in _LAYOUTS.items() if other != separator and line.count(other) == 3]
    todo = (
        f"lines of --source {alike[0]} look so; keep one format a file" if alike else "mend it, or fetch the file again"
    )
    return f"row {row}: {line[:60]!r} has too few or too many fields; {todo}"


def _unclosed(lines: bytes) -> str:
    """Which line a quoted value leaves: the first with an odd number of quotes."""
    odd = (row for row, line in enumerate(lines.split(b"\n"), start=1) if line.count(b'"') % 2)
    return f"row {next(odd, 1)}: a value begins with a quote and does not end in its line; mend that line"
