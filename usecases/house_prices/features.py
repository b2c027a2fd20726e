"""From what is known of a house to the model's inputs: the same functions for one request and for all sales."""

from collections.abc import Callable, Mapping
from typing import get_args

import numpy as np

from orrery.usecase import Array
from usecases.house_prices.house import House

Columns = Mapping[str, Array]
"""arrays of shape (n,): the fields of a `House`, and `sold`, the years since the year 0 at the sale, with its month"""

KNOWN: Mapping[str, tuple[str, ...]] = {
    "neighborhood": (
        "Blmngtn", "Blueste", "BrDale", "BrkSide", "ClearCr", "CollgCr", "Crawfor", "Edwards", "Gilbert", "Greens",
        "IDOTRR", "MeadowV", "Mitchel", "NAmes", "NPkVill", "NWAmes", "NoRidge", "NridgHt", "OldTown", "SWISU",
        "Sawyer", "SawyerW", "Somerst", "StoneBr", "Timber", "Veenker",
    ),
    "zoning": ("FV", "RH", "RL", "RM", "C (all)"),
    "proximity": ("Artery", "Feedr", "Norm", "RRNn", "RRAn", "PosN", "PosA", "RRNe", "RRAe"),
    "building_type": ("1Fam", "2fmCon", "Duplex", "TwnhsE", "Twnhs"),
    "exterior": (
        "AsbShng", "BrkComm", "BrkFace", "CemntBd", "HdBoard", "MetalSd", "Plywood", "Stucco", "VinylSd", "Wd Sdng",
        "WdShing",
    ),
    "foundation": ("BrkTil", "CBlock", "PConc", "Slab", "Stone", "Wood"),
    "sale_condition": ("Normal", "Abnorml", "AdjLand", "Alloca", "Family", "Partial"),
    "garage_type": ("2Types", "Attchd", "Basment", "BuiltIn", "CarPort", "Detchd"),
}  # fmt: skip
"""codes with an input of their own; any other, and none, have 0 in all of them"""

_SCALES: Mapping[str, tuple[str, ...]] = {
    name: get_args(House.model_fields[name].annotation)
    for name in (
        "exterior_quality", "kitchen_quality", "heating_quality", "basement_quality", "basement_condition",
        "fireplace_quality", "basement_exposure", "basement_finish", "garage_finish", "functional", "lot_shape",
        "paved_drive", "central_air",
    )
}  # fmt: skip
"""ordered codes: the input is the position"""

_AS_THEY_ARE = (
    "overall_quality", "overall_condition", "year_built", "garage_area", "garage_cars", "basement_finished_area",
    "basement_unfinished_area", "deck_area", "open_porch_area", "enclosed_porch_area", "screen_porch_area",
    "full_baths", "half_baths", "basement_full_baths", "bedrooms", "kitchens", "fireplaces",
)  # fmt: skip


def _scale(house: Columns, name: str) -> Array:
    position: Array = (house[name][:, None] == np.array(_SCALES[name])).argmax(axis=1)
    return position


def _grades(house: Columns) -> Array:
    exterior, kitchen, basement = (_scale(house, f"{part}_quality") for part in ("exterior", "kitchen", "basement"))
    grades: Array = exterior + kitchen + basement
    return grades


def _total_area(house: Columns) -> Array:
    logarithm: Array = np.log(house["living_area"] + house["basement_area"])
    return logarithm


def _age(house: Columns) -> Array:
    return house["sold"] - house["year_built"]


_MADE: Mapping[str, Callable[[Columns], Array]] = {
    "log_living_area": lambda house: np.log(house["living_area"]),
    "log_total_area": _total_area,
    "log_basement_area": lambda house: np.log1p(house["basement_area"]),
    "log_lot_area": lambda house: np.log(house["lot_area"]),
    "log_lot_frontage": lambda house: np.log1p(np.nan_to_num(house["lot_frontage"])),
    "lot_frontage_unknown": lambda house: np.isnan(house["lot_frontage"]),
    "quality_by_area": lambda house: house["overall_quality"] * _total_area(house),
    "grades": _grades,
    "baths": lambda house: (
        house["full_baths"] + house["basement_full_baths"] + (house["half_baths"] + house["basement_half_baths"]) / 2
    ),
    "age": _age,
    "log_age": lambda house: np.log1p(np.maximum(_age(house), 0)),
    "years_since_remodel": lambda house: house["sold"] - np.maximum(house["year_remodelled"], house["year_built"]),
    "remodelled": lambda house: house["year_remodelled"] > house["year_built"],
    "new": lambda house: np.floor(house["sold"]) - house["year_built"] <= 1,
}  # fmt: skip

_CODED = {
    f"{name}_{''.join(filter(str.isalnum, code))}": (name, code) for name, known in KNOWN.items() for code in known
}
FEATURES = (*_AS_THEY_ARE, *_SCALES, *_MADE, *_CODED)


def inputs(house: Columns) -> Array:
    """The model's inputs of n houses, float32, shape (n, features). Computed in float64, so that n does not matter."""
    columns = [house[name] for name in _AS_THEY_ARE]
    columns += [_scale(house, name) for name in _SCALES]
    columns += [make(house) for make in _MADE.values()]
    columns += [house[name] == code for name, code in _CODED.values()]
    return np.column_stack([np.asarray(column, dtype=np.float64) for column in columns]).astype(np.float32)


def years(moments: Array) -> Array:
    """datetime64 moments as years since the year 0, to the month."""
    return moments.astype("datetime64[M]").astype(np.int64) / 12 + 1970
