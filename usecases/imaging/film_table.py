"""The raw table of films: one row each, whatever they come from."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from orrery.errors import OrreryError
from orrery.usecase import Array
from usecases.imaging.picture import encode, to_picture

ROW = "row"
"""name of the index that carries row numbers of a file, the header counted as row 1"""
SERVED = "served"
"""the origin of a film that came with a request"""
ACQUIRED = ("rows", "columns", "device_number")
"""columns that say how a film was acquired; data from before they were kept have none of them"""
COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(("film_id", "study_id", "patient_id"), "object"),
    "taken_at": "datetime64[us, UTC]",
    "age": "float64",
    **dict.fromkeys(("sex", "view"), "object"),
    **dict.fromkeys(ACQUIRED, "float64"),
    **dict.fromkeys(("picture", "mask"), "object"),
    "label": "int8",
    **dict.fromkeys(("finding", "origin", "part"), "object"),
}
"""column -> type; a mask that is not there is b"", a number that is not known NaN, a finding or part ''"""


class DataRefused(OrreryError):
    """The raw data are not what they must be."""


def table(films: Iterable[Mapping[str, Any]], rows: Iterable[int] | None = None) -> pd.DataFrame:
    """Films as rows of COLUMNS, ordered by moment; `rows` numbers them, else they are numbered from 1 as they come."""
    frame = pd.DataFrame(list(films), columns=list(COLUMNS))
    index = pd.RangeIndex(1, 1 + len(frame)) if rows is None else pd.Index(list(rows), dtype="int64")
    frame["taken_at"] = pd.to_datetime(frame["taken_at"], utc=True).dt.as_unit("us")
    return frame.set_axis(index.rename(ROW)).astype(dict(COLUMNS)).sort_values("taken_at", kind="stable")


def mask_of(lungs: Array) -> bytes:
    """The lungs of a film, bool of shape (rows, columns), as a PNG in the geometry of its picture: 0 or 255."""
    return encode(np.where(to_picture(lungs.astype(np.float32)) >= 128, 255, 0).astype(np.uint8))
