"""What a client sends: a film that has been made a picture already, and what a reader found on it."""

import base64
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from orrery.usecase import Array, Arrival
from usecases.imaging.devices import DEVICES
from usecases.imaging.picture import decode

LARGEST = 100_000
"""pixels of a side"""
EARLIEST, LATEST = datetime(1980, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
Sex = Literal["F", "M", "O", "U"]
View = Literal["PA", "AP", "LL", "U"]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Flag = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,32}$")]
Side = Annotated[int, Field(ge=1, le=LARGEST)]
_LONGEST = 40_000
"""characters; a picture of pure noise needs 23,000"""


def picture_of(text: str) -> Array:
    """A picture, uint8 of shape (128, 128), from its PNG in base64. Raises ValueError."""
    return decode(base64.b64decode(text, validate=True))


def _in_utc(moment: datetime) -> datetime:
    """Raw data hold no other moment, and no time zone carries one of these out of the calendar."""
    if not EARLIEST <= moment < LATEST:
        raise ValueError(f"must lie between the years {EARLIEST.year} and {LATEST.year - 1}, in UTC")
    return moment.astimezone(UTC)


def _readable(text: str) -> str:
    picture_of(text)
    return text


class ImagingRequest(BaseModel):
    """A chest film as a picture. Whoever has the DICOM file sends that instead, and need not make one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    film_id: Identifier
    study_id: Identifier | None = None
    patient_id: Identifier | None = None
    """a pseudonym; nothing is learned from a film without one, as no other film of the patient could be kept from it"""
    taken_at: Annotated[Arrival, AfterValidator(_in_utc)]
    age: Annotated[float, Field(ge=0, le=120)] | None = None
    """years"""
    sex: Sex = "U"
    view: View = "U"
    rows: Side | None = None
    columns: Side | None = None
    """of the film as it was acquired, before it became a picture"""
    device_number: Annotated[int, Field(ge=0, lt=DEVICES)] | None = None
    """of the make and model that took the film: the first two bytes of the SHA-256 of both, without spaces, in small
    letters, a zero byte between"""
    picture: Annotated[str, StringConstraints(max_length=_LONGEST), AfterValidator(_readable)]
    """a grey PNG of 128 x 128, bright is dense, in base64"""
    flags: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,32}$")], ...], Field(max_length=16)
    ] = ()
    """what is amiss with the film, as its intake found"""
    explain: bool = False
    """draw what the model looked at"""


class ImagingFeedback(BaseModel):
    """What a reader found on a film."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    film_id: Identifier
    finding: bool
    """an opacity is there"""
    arrived_at: Arrival
