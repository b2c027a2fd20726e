"""Why a house costs what it costs: contributions to the price, summed by what they are about, in words and per cent."""

import math

from pydantic import BaseModel

from orrery.usecase import Array
from usecases.house_prices.features import FEATURES

_MOST = 5
_GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "QUALITY": (
        "The quality of material and finish",
        ("overall_quality", "quality_by_area", "exterior_quality", "kitchen_quality", "grades"),
    ),
    "CONDITION": ("The condition of the house", ("overall_condition", "functional")),
    "SIZE": ("The size of the house", ("log_living_area", "log_total_area", "bedrooms", "kitchens")),
    "BASEMENT": ("The basement", ("basement_", "log_basement_area")),
    "BATHS": ("The number of baths", ("baths", "full_baths", "half_baths")),
    "AGE": ("The age of the house", ("age", "log_age", "years_since_remodel", "remodelled", "new", "year_built")),
    "LOCATION": ("The location", ("neighborhood_", "zoning_", "proximity_")),
    "LOT": ("The lot", ("log_lot_", "lot_", "paved_drive")),
    "GARAGE": ("The garage", ("garage_",)),
    "COMFORT": ("The comfort (fireplaces, heating, air conditioning)", ("fireplace", "central_air", "heating_quality")),
    "OUTDOORS": ("The room outdoors", ("deck_", "open_porch_", "enclosed_porch_", "screen_porch_")),
    "BUILD": ("The kind of house", ("building_type_", "exterior_", "foundation_")),
    "SALE": ("The circumstances of the sale", ("sale_condition_",)),
}


def _code(name: str) -> str:
    """Exact names first: a prefix may also fit a name of another group."""
    exact = [code for code, (_, names) in _GROUPS.items() if name in names]
    return (exact or [code for code, (_, names) in _GROUPS.items() if name.startswith(names)])[0]


_COLUMNS: dict[str, list[int]] = {code: [] for code in _GROUPS}
for _index, _name in enumerate(FEATURES):
    _COLUMNS[_code(_name)].append(_index)


class Reason(BaseModel):
    """One thing that moves the price."""

    code: str
    words: str
    percent: float
    """of the price without it; below 0 it is a discount"""


def reasons(contributions: Array) -> tuple[Reason, ...]:
    """What moves a price most, up or down. `contributions`: to the log price by feature, the typical price's last."""
    summed = {code: float(contributions[columns].sum()) for code, columns in _COLUMNS.items()}
    largest = sorted(summed.items(), key=lambda item: -abs(item[1]))[:_MOST]
    return tuple(_reason(code, math.expm1(value) * 100) for code, value in largest if abs(value) >= 0.0005)


def _reason(code: str, percent: float) -> Reason:
    verb = "adds" if percent > 0 else "takes off"
    return Reason(code=code, words=f"{_GROUPS[code][0]} {verb} {abs(percent):.1f} %.", percent=round(percent, 1))
