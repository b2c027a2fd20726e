"""Ways in which the acquisition of films can change, for trying out what the platform makes of it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from orrery.typed_numbers import number_within
from usecases.imaging.devices import number_of
from usecases.imaging.film_table import COLUMNS, DataRefused

if TYPE_CHECKING:
    import pandas as pd


def device(rows: "pd.DataFrame", value: str) -> "pd.DataFrame":
    """Every film by one device, of the model named. Raises DataRefused."""
    number = number_of("", value)
    if number is None:
        raise DataRefused("device= names no model; give one such as device=K-200")
    return rows.assign(device_number=float(number))


def size(rows: "pd.DataFrame", value: str) -> "pd.DataFrame":
    """Every film so many times as high and as wide, of which its picture shows nothing. Raises DataRefused."""
    factor = number_within(value, 0.1, 10)
    if factor is None:
        raise DataRefused(f"size={value} is not a factor from 0.1 to 10; give one such as size=1.5")
    rows = rows.reindex(columns=list(COLUMNS))
    return rows.assign(**{side: (rows[side] * factor).round().clip(lower=1) for side in ("rows", "columns")})


DRIFTS: Mapping[str, Callable[["pd.DataFrame", str], "pd.DataFrame"]] = {"device": device, "size": size}
