"""A chest film out of untrusted bytes: every check of a DICOM file before anything in it is decoded."""

import io
import logging
import re
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from pydicom import uid
from pydicom.charset import python_encoding
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import BytesLengthException
from pydicom.filereader import read_dataset
from pydicom.pixels.processing import apply_modality_lut
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from orrery.usecase import Array
from usecases.imaging import decoding, structure
from usecases.imaging.deid_profile import CLASSES, DEVICE, MODALITIES
from usecases.imaging.devices import number_of
from usecases.imaging.structure import FileRefused

__all__ = ["FileRefused", "age_of", "device_of", "levels", "pixels", "quiet", "read", "says_text", "stored", "view_of"]

VIEWS = {"PA": "PA", "AP": "AP"} | dict.fromkeys(("LL", "RL", "LAT", "LATERAL"), "LL")
VIEW_CODES = {
    "PA": (codes.SCT.PosteroAnterior,),
    "AP": (codes.SCT.AnteroPosterior,),
    "LL": (codes.SCT.LateralProjection, codes.SCT.LeftLateral, codes.SCT.RightLateral),
}
OLDEST = 120
"""years"""
_CHEST = ("CHEST", "THORAX", "LUNG")
_DAYS_PER = {"D": 1.0, "W": 7.0, "M": 30.4375, "Y": 365.25}
_PLAIN = {"RescaleSlope": 1, "RescaleIntercept": 0}
BROKEN = (
    ArithmeticError,
    AttributeError,
    BytesLengthException,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""what pydicom raises for values that are none"""
_warnings = threading.RLock()
logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # what it logs quotes the file


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, pydicom's warnings go nowhere: they quote values of the file. One thread at a time."""
    with _warnings, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read(data: bytes) -> Dataset:
    """The data set of a file that holds one chest film. Raises FileRefused; never decodes a pixel."""
    if not data:
        raise FileRefused("empty")
    if len(data) > structure.LARGEST:
        raise FileRefused("too_large")
    if data[128:132] != b"DICM":
        raise FileRefused("not_dicom")
    with quiet():
        try:
            dataset = _parsed(data)
            _admit(dataset)
        except BROKEN:
            raise FileRefused("malformed") from None
    return dataset


def stored(dataset: Dataset) -> Array:
    """The stored values of what `read` gave, shape (rows, columns), unsigned or signed. Raises FileRefused."""
    with quiet():
        layout, element = decoding.Layout.of(dataset), dataset["PixelData"]
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in decoding.NATIVE:
        return layout.trimmed(decoding.native(element.value, layout, syntax, words=element.VR != "OB"))
    return layout.trimmed(decoding.decoded(element.value, layout, syntax))


def levels(dataset: Dataset, values: Array) -> Array:
    """Stored values -> float32 (rows, columns), bright is dense: modality LUT, padding and MONOCHROME1 applied."""
    with quiet():
        try:
            slope, intercept = (float(dataset.get(word) or plain) for word, plain in _PLAIN.items())
            mapped = apply_modality_lut(values, dataset) if "ModalityLUTSequence" in dataset else None
            padded = _padding(dataset, values)
        except BROKEN:
            raise FileRefused("malformed", "ModalityLUTSequence") from None
        inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    with np.errstate(all="ignore"):
        linear = values.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    found = linear if mapped is None else np.asarray(mapped, np.float32)
    if not np.isfinite(found).all():
        raise FileRefused("malformed", "RescaleSlope")
    if inverted:
        found = found.max() + found.min() - found
    if padded is not None and not padded.all():
        found[padded] = found[~padded].min()
    return found


def pixels(dataset: Dataset) -> Array:
    """The film's levels of what `read` gave, float32 of shape (rows, columns), bright is dense. Raises FileRefused."""
    return levels(dataset, stored(dataset))


def age_of(dataset: Dataset) -> float | None:
    """Years at the time of the study, as said or by the date of birth; None if neither can be read."""
    said = re.fullmatch(r"(\d{3})([DWMY])", str(dataset.get("PatientAge") or "").strip())
    if said:
        return int(said[1]) * _DAYS_PER[said[2]] / _DAYS_PER["Y"]
    born, taken = (_date(dataset.get(keyword)) for keyword in ("PatientBirthDate", "StudyDate"))
    if born is None or taken is None:
        return None
    return int((taken - born).astype(int)) / _DAYS_PER["Y"]


def view_of(dataset: Dataset) -> str:
    """PA, AP, LL (from either side) or U, as said by ViewPosition or else by a code."""
    said = str(dataset.get("ViewPosition") or "").upper().strip()
    for item in dataset.get("ViewCodeSequence") or () if said not in VIEWS else ():
        code = Code(str(item.get("CodeValue")), str(item.get("CodingSchemeDesignator")), "")
        said = next((view for view, codes in VIEW_CODES.items() if code in codes), said)
    return VIEWS.get(said, "U")


def device_of(dataset: Dataset) -> int | None:
    """The number of the make and model that took the film; None if it says neither, or nothing that can be read."""
    try:
        return number_of(*(str(dataset.get(word) or "") for word in DEVICE))
    except BROKEN:
        return None


def says_text(dataset: Dataset) -> bool:
    """Whether the header admits text in the pixels; that it denies it says nothing."""
    with quiet():
        return str(dataset.get("BurnedInAnnotation") or "").upper().strip() == "YES"


def _parsed(data: bytes) -> Dataset:
    start = structure.end_of_meta(data)
    meta = FileMetaDataset(read_dataset(io.BytesIO(data[132:start]), is_implicit_VR=False, is_little_endian=True))
    syntax = uid.UID(str(meta.get("TransferSyntaxUID", "")))
    if syntax not in decoding.NATIVE | decoding.FRAMES.keys():
        raise FileRefused("transfer_syntax")
    body = data[start:]
    if syntax.is_deflated:
        body = structure.inflated(body)
    implicit, little = syntax.is_implicit_VR, syntax.is_little_endian
    structure.check(body, implicit=implicit, little=little, encapsulated=syntax.is_encapsulated)
    dataset = read_dataset(io.BytesIO(body), is_implicit_VR=implicit, is_little_endian=little)
    dataset.file_meta = meta
    dataset.set_original_encoding(implicit, little, dataset.original_character_set)
    return dataset


def _admit(dataset: Dataset) -> None:
    """Refuse what is no single grey chest film of a sane size."""
    if any(name not in python_encoding for name in _values(dataset, "SpecificCharacterSet")):
        raise FileRefused("charset")
    if dataset.get("SOPClassUID") not in CLASSES:
        raise FileRefused("wrong_object")
    if dataset.get("Modality") not in MODALITIES:
        raise FileRefused("modality")
    if not dataset.get("SOPInstanceUID"):
        raise FileRefused("malformed", "SOPInstanceUID")
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        raise FileRefused("multi_frame")
    decoding.Layout.of(dataset).check(len(dataset.get("PixelData") or b""), dataset.file_meta.TransferSyntaxUID)
    part = str(dataset.get("BodyPartExamined") or "").upper()
    if part and not any(word in part for word in _CHEST):
        raise FileRefused("body_part")
    age = age_of(dataset)
    if age is not None and not 0 <= age <= OLDEST:
        raise FileRefused("age")


def _values(dataset: Dataset, keyword: str) -> list[str]:
    value = dataset.get(keyword)
    return [
        str(one) for one in (value if isinstance(value, list | tuple) or hasattr(value, "append") else [value or ""])
    ]


def _padding(dataset: Dataset, values: Array) -> Any:
    """Which pixels are no part of the film; None if none is said to be."""
    low = dataset.get("PixelPaddingValue")
    if low is None:
        return None
    high = dataset.get("PixelPaddingRangeLimit", low)
    return (values >= min(low, high)) & (values <= max(low, high))


def _date(value: object) -> np.datetime64 | None:
    text = str(value or "").strip()
    if not re.fullmatch(r"\d{8}", text):
        return None
    try:
        return np.datetime64(f"{text[:4]}-{text[4:6]}-{text[6:]}", "D")
    except ValueError:
        return None
