"""Where films come from, and what they must be: phantoms, PneumoniaMNIST, or a folder of DICOM files."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from orrery.usecase import Progress, SourceRequest
from usecases.imaging.devices import DEVICES
from usecases.imaging.dicom_folder import from_folder
from usecases.imaging.film_table import ACQUIRED, COLUMNS, ROW, SERVED, DataRefused
from usecases.imaging.medmnist import pneumoniamnist
from usecases.imaging.phantom_source import phantoms
from usecases.imaging.picture import PictureRefused, decode
from usecases.imaging.requests import EARLIEST, LARGEST, LATEST

SOURCES: Mapping[str, Callable[[SourceRequest, Progress], pd.DataFrame]] = {
    "phantoms": phantoms,
    "pneumoniamnist": pneumoniamnist,
    "dicom": from_folder,
}
OLDEST = 120
"""years"""
_NAME = r"[A-Za-z0-9._-]{1,64}"
_CODES: Mapping[str, tuple[str, ...]] = {
    "sex": ("F", "M", "O", "U"),
    "view": ("PA", "AP", "LL", "U"),
    "origin": (*SOURCES, SERVED),
    "part": ("", "train", "validation", "test"),
}
_MEANING: Mapping[str, str] = {
    **dict.fromkeys(("film_id", "study_id", "patient_id"), "a name of 1 to 64 letters, digits, dots, dashes"),
    "taken_at": f"a moment from {EARLIEST.year} to {LATEST.year}",
    **dict.fromkeys(("rows", "columns"), f"a size from 1 to {LARGEST:,} pixels, or unknown"),
    "device_number": f"a number from 0 to {DEVICES - 1:,}, or unknown",
    "age": f"an age from 0 to {OLDEST} years, or unknown",
    "label": "0 or 1",
    "finding": "a finding of at most 32 characters",
    **{column: f"one of {', '.join(code or 'none' for code in codes)}" for column, codes in _CODES.items()},
}


def validate(frame: pd.DataFrame) -> pd.DataFrame:
    """Raw films as read -> canonical types and order (by moment, film), numbered from 0.

    Raises DataRefused with row and column, never with a value: it may be a person's.
    """
    missing = [column for column in COLUMNS if column not in frame]
    if missing or frame.empty:
        raise DataRefused(f"the data have no column {missing[0]}" if missing else "the data have no rows")
    if frame.index.name != ROW:
        frame = frame.set_axis(pd.RangeIndex(1, 1 + len(frame), name=ROW))
    frame = _typed(frame[list(COLUMNS)])
    _check_values(frame)
    _check_pictures(frame)
    _check_parts(frame)
    if frame["label"].nunique() < 2:
        raise DataRefused("every film has the same label; nothing can be learned from one: add films of the other")
    return frame.sort_values(["taken_at", "film_id"], ignore_index=True).astype(dict(COLUMNS))


def describe(frame: pd.DataFrame) -> dict[str, int]:
    """Counts to print."""
    return {
        "films": len(frame),
        "patients": int(frame["patient_id"].nunique()),
        "positives": int(frame["label"].sum()),
    }


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers and moments as such; what is none becomes NaN or NaT, infinite where a number may be unknown."""
    moments = pd.to_datetime(frame["taken_at"], utc=True, errors="coerce").dt.as_unit("us")
    return frame.assign(
        **{name: _number(frame[name]) for name in ("age", *ACQUIRED)},
        label=pd.to_numeric(frame["label"], errors="coerce").astype("float64"),
        taken_at=moments,
    )


def _number(column: "pd.Series[Any]") -> "pd.Series[Any]":
    values = pd.to_numeric(column, errors="coerce").astype("float64")
    return values.where(values.notna() | column.isna(), np.inf)


@cache
def _schema() -> Any:
    from pandera.pandas import Check, Column, DataFrameSchema

    name = [Check.str_matches(rf"^{_NAME}$")]
    return DataFrameSchema(
        {
            "film_id": Column(str, checks=name, unique=True, report_duplicates="exclude_first"),
            **{column: Column(str, checks=name) for column in ("study_id", "patient_id")},
            "taken_at": Column(checks=[Check.in_range(EARLIEST, LATEST)]),
            "age": Column(checks=[Check.in_range(0, OLDEST)], nullable=True),
            **{side: Column(checks=[Check.in_range(1, LARGEST)], nullable=True) for side in ("rows", "columns")},
            "device_number": Column(checks=[Check.in_range(0, DEVICES - 1)], nullable=True),
            "label": Column(checks=[Check.isin([0, 1])]),
            "finding": Column(str, checks=[Check.str_length(0, 32)]),
            **{column: Column(checks=[Check.isin(codes)]) for column, codes in _CODES.items()},
        }
    )


def _check_values(frame: pd.DataFrame) -> None:
    from pandera.errors import SchemaErrors

    try:
        _schema().validate(frame, lazy=True)
    except SchemaErrors as error:
        cases = error.failure_cases.dropna(subset="index").astype({"index": "int64"})
        row, column, check = cases.sort_values("index", kind="stable").iloc[0][["index", "column", "check"]]
        wrong = "is there twice" if check == "field_uniqueness" else f"is not {_MEANING[column]}"
        raise DataRefused(f"row {row}, column {column}: it {wrong}; mend or remove that row") from error


def _check_pictures(frame: pd.DataFrame) -> None:
    for column in ("picture", "mask"):
        for row, data in zip(frame.index, frame[column], strict=True):
            if column == "mask" and data == b"":
                continue
            try:
                levels = decode(data)
            except (PictureRefused, TypeError) as error:
                raise DataRefused(
                    f"row {row}, column {column}: it is no grey PNG of 128 x 128; mend that row"
                ) from error
            if column == "mask" and not np.isin(levels, (0, 255)).all():
                raise DataRefused(f"row {row}, column mask: its levels are not 0 and 255; mend or empty it")


def _check_parts(frame: pd.DataFrame) -> None:
    """What a model learns from must not come again where it is judged."""
    for column, what in (("picture", "the picture"), ("patient_id", "the patient")):
        firsts = frame.reset_index().drop_duplicates(column).set_index(column)
        elsewhere = frame["part"] != frame[column].map(firsts["part"])
        if elsewhere.any():
            row: Any = elsewhere.idxmax()
            first: Any = firsts.at[frame.at[row, column], ROW]
            raise DataRefused(
                f"row {row}, column {column}: {what} of row {first}, but in another part; keep one of them"
            )
