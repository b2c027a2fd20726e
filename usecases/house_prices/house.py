"""What is known of a house: fields, units, codes and limits, once for requests and for data."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from orrery.usecase import Array

NONE = "none"
"""the code of what a house does not have"""
UNFINISHED_YEARS = 2
"""a house may be sold so long before it is finished"""

Quality = Literal["Po", "Fa", "TA", "Gd", "Ex"]
"""poor, fair, typical, good, excellent"""
QualityOrNone = Literal["none", "Po", "Fa", "TA", "Gd", "Ex"]
Exposure = Literal["none", "No", "Mn", "Av", "Gd"]
"""of basement walls to the garden: no, minimum, average, good"""
BasementFinish = Literal["none", "Unf", "LwQ", "Rec", "BLQ", "ALQ", "GLQ"]
"""unfinished, low quality, recreation room, below average, average, good living quarters"""
GarageFinish = Literal["none", "Unf", "RFn", "Fin"]
Functional = Literal["Sal", "Sev", "Maj2", "Maj1", "Mod", "Min2", "Min1", "Typ"]
"""from salvage only, by severe, major, moderate and minor deductions, to typical"""
LotShape = Literal["Reg", "IR1", "IR2", "IR3"]
PavedDrive = Literal["N", "P", "Y"]
YesNo = Literal["N", "Y"]

Grade = Annotated[int, Field(ge=1, le=10)]
Year = Annotated[int, Field(ge=1800, le=2100)]
Area = Annotated[float, Field(ge=0, le=20_000)]
Count = Annotated[int, Field(ge=0, le=20)]
Code = Annotated[str, Field(min_length=1, max_length=40)]
"""of the published code book; one that the model does not know counts as any other"""


class House(BaseModel):
    """A house and the circumstances of its sale. Areas are square feet, lengths feet, codes those of the code book."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    overall_quality: Grade
    overall_condition: Grade
    year_built: Year
    year_remodelled: Year
    """the year it was built, if it never was"""
    living_area: Annotated[float, Field(ge=100, le=20_000)]
    """above ground"""
    lot_area: Annotated[float, Field(ge=500, le=1_000_000)]
    neighborhood: Code
    exterior_quality: Quality
    kitchen_quality: Quality
    heating_quality: Quality
    full_baths: Count
    half_baths: Count
    bedrooms: Count
    """above ground"""

    kitchens: Count = 1
    zoning: Code = "RL"
    building_type: Code = "1Fam"
    proximity: Code = "Norm"
    """to a main road, a railroad or a park"""
    exterior: Code = "VinylSd"
    foundation: Code = "PConc"
    sale_condition: Code = "Normal"
    """Abnorml: foreclosure or short sale; Family; Partial: not finished when it was last assessed"""
    lot_shape: LotShape = "Reg"
    lot_frontage: Annotated[float | None, Field(ge=1, le=2_000)] = None
    """street that the lot touches; None: unknown"""
    functional: Functional = "Typ"
    central_air: YesNo = "Y"
    paved_drive: PavedDrive = "Y"

    basement_area: Area = 0
    basement_finished_area: Area = 0
    basement_unfinished_area: Area = 0
    basement_quality: QualityOrNone = "none"
    """by its height"""
    basement_condition: QualityOrNone = "none"
    basement_exposure: Exposure = "none"
    basement_finish: BasementFinish = "none"
    basement_full_baths: Count = 0
    basement_half_baths: Count = 0

    garage_type: Code = NONE
    garage_finish: GarageFinish = "none"
    garage_area: Area = 0
    garage_cars: Count = 0

    fireplaces: Count = 0
    fireplace_quality: QualityOrNone = "none"
    deck_area: Area = 0
    open_porch_area: Area = 0
    enclosed_porch_area: Area = 0
    screen_porch_area: Area = 0


FIELDS = tuple(House.model_fields)
_NAMES_WHAT_IS_THERE = {
    "basement_quality": "basement_area",
    "garage_type": "garage_area",
    "fireplace_quality": "fireplaces",
}


def contradictions(house: Mapping[str, Any], year: Any) -> Iterator[tuple[str, str, Array]]:
    """What fields say against each other: the field, what is wrong with it, and of which of the n houses that is true.

    `house` has arrays of shape (n,) by field, `year` is the year of the sale.
    """
    for field in ("year_built", "year_remodelled"):
        yield field, f"lies more than {UNFINISHED_YEARS} years after the sale", house[field] > year + UNFINISHED_YEARS
    parts = house["basement_finished_area"] + house["basement_unfinished_area"]
    yield "basement_area", "is less than its finished and unfinished parts", house["basement_area"] < parts
    for field, size in _NAMES_WHAT_IS_THERE.items():
        yield field, f"is none, but {size} is not 0", (house[size] > 0) & (house[field] == NONE)
