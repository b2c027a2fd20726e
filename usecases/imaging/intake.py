"""From untrusted bytes to a film without a person: each file ends accepted, refused or quarantined, and says why."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
from pydicom.dataset import Dataset

from orrery.usecase import Array
from usecases.imaging import burned_in, dicom, quality
from usecases.imaging.deidentify import Anonymous, deidentify, with_pixels
from usecases.imaging.picture import to_picture
from usecases.imaging.pseudonyms import Pseudonyms
from usecases.imaging.structure import FileRefused

State = Literal["accepted", "refused", "quarantined"]
TEXT_LEFT = "text is burned into the film and cannot be removed; a person must look at it"
UNEXPECTED = "the file made something fail that should not; it is kept away, tell who runs this"


@dataclass(frozen=True)
class Film:
    """A de-identified film. Its names are pseudonyms of this installation."""

    film_id: str
    study_id: str
    patient_id: str
    taken_at: datetime | None
    """shifted"""
    age: float | None
    """whole years, at most 90"""
    sex: str
    view: str
    device_number: int | None
    """of make and model, see `devices.number_of`"""
    pixels: Array
    """float32 (rows, columns), bright is dense"""
    picture: Array
    """uint8 (128, 128)"""
    dataset: Dataset
    """explicit VR little endian, text in its pixels painted over"""
    digest: str
    """SHA-256 of the pixels as they came, the same however they were written"""
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Received:
    """How one file ended, and what was done to it: codes and keywords, no value of the file."""

    state: State
    code: str
    """empty when accepted"""
    reason: str
    film: Film | None = None
    """only when accepted"""
    steps: tuple[str, ...] = ()


class Intake:
    """Takes in files under the pseudonyms of one installation. Threads may share it."""

    def __init__(self, key: bytes, *, read_text: bool = True) -> None:
        """`key`: 32 secret bytes. Without `read_text` no text is looked for, and a film that is said to bear some is
        quarantined."""
        self._pseudonyms, self._read_text = Pseudonyms(key), read_text

    def receive(self, data: bytes) -> Received:
        """Take in one file. Never raises, whatever the bytes."""
        try:
            return self._received(data)
        except FileRefused as refusal:
            return Received("refused", refusal.code, str(refusal))
        except Exception as error:  # noqa: BLE001 - a file may end in no other way; its kind is kept, its text is not
            return Received("quarantined", "unexpected", UNEXPECTED, steps=(f"failed: {type(error).__name__}",))

    def _received(self, data: bytes) -> Received:
        dataset = dicom.read(data)
        stored = dicom.stored(dataset)
        levels = dicom.levels(dataset, stored)
        if levels.min() == levels.max():
            raise FileRefused("blank")
        anonymous = deidentify(dataset, self._pseudonyms)
        said = dicom.says_text(dataset)
        boxes = burned_in.find(levels, thorough=said) if self._read_text else []
        digest = _digest(dataset, stored)
        if boxes:
            stored = burned_in.redact(stored, boxes)
            levels = dicom.levels(dataset, stored)
        steps = (*anonymous.steps, *((f"text painted over: {len(boxes)}",) if boxes else ()))
        spoilt = burned_in.too_much(levels, boxes) or (said and not self._read_text)
        if spoilt or (boxes and burned_in.find(levels, thorough=True)):
            return Received("quarantined", "text", TEXT_LEFT, steps=steps)
        with_pixels(anonymous.dataset, stored, redacted=bool(boxes), read=self._read_text)
        return Received("accepted", "", "", _film(anonymous, levels, digest, redacted=bool(boxes)), steps)


def _film(anonymous: Anonymous, levels: Array, digest: str, *, redacted: bool) -> Film:
    picture = to_picture(levels)
    known = {"text_redacted": redacted, "unknown_view": anonymous.view == "U", "unknown_age": anonymous.age is None}
    return Film(
        film_id=anonymous.film_id,
        study_id=anonymous.study_id,
        patient_id=anonymous.patient_id,
        taken_at=anonymous.taken_at,
        age=anonymous.age,
        sex=anonymous.sex,
        view=anonymous.view,
        device_number=anonymous.device_number,
        pixels=levels,
        picture=picture,
        dataset=anonymous.dataset,
        digest=digest,
        flags=(*quality.flags(levels, picture), *(flag for flag, raised in known.items() if raised)),
    )


def _digest(dataset: Dataset, stored: Array) -> str:
    """Of rows, columns and stored values as int32, little endian, turned so that bright is dense."""
    values = stored.astype("<i4")
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        most = 2 ** (dataset.BitsStored - dataset.PixelRepresentation) - 1
        least = -(most + 1) if dataset.PixelRepresentation else 0
        values = np.subtract(most + least, values, dtype="<i4")
    return hashlib.sha256(np.array(stored.shape, "<i4").tobytes() + values.tobytes()).hexdigest()
