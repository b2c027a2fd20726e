"""A film without the person: a new data set of what its modules need, each value looked at, and nothing else."""

import io
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any

import numpy as np
from pydicom import uid
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import correct_ambiguous_vr, dcmwrite
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.valuerep import DSfloat

from orrery.usecase import Array
from usecases.imaging import deid_profile as profile
from usecases.imaging.dicom import BROKEN, VIEW_CODES, age_of, device_of, quiet, view_of
from usecases.imaging.pseudonyms import Pseudonyms
from usecases.imaging.structure import FileRefused

OLDEST = 90
"""years: who is older is said to be so old"""
_MOMENTS = (("AcquisitionDate", "AcquisitionTime"), ("ContentDate", "ContentTime"), ("StudyDate", "StudyTime"))
_EARLIEST = 1850
_LOSSY = frozenset({uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless, uid.JPEG2000})
_DATE = re.compile(r"(\d{4})\.?(\d\d)\.?(\d\d)")
_TIME = re.compile(r"(\d\d):?(\d\d)?:?(\d\d)?")


@dataclass(frozen=True)
class Anonymous:
    """What may be known of a film."""

    film_id: str
    study_id: str
    patient_id: str
    taken_at: datetime | None
    """shifted; the clock of the modality, taken for UTC"""
    age: float | None
    """whole years, at most 90"""
    sex: str
    view: str
    device_number: int | None
    """of make and model, see `devices.number_of`"""
    dataset: Dataset
    """explicit VR little endian, without pixels"""
    steps: tuple[str, ...]
    """what was done to which elements, by keyword"""


def deidentify(dataset: Dataset, pseudonyms: Pseudonyms) -> Anonymous:
    """What may be known of a data set that `dicom.read` gave; its pixels are not looked at. Raises FileRefused."""
    with quiet():
        try:
            instance, study, patient = _identity(dataset)
            name, shift = pseudonyms.patient(patient), pseudonyms.shift(patient)
        except BROKEN:
            raise FileRefused("malformed", "PatientID") from None
        walk = _Walk(pseudonyms, shift)
        clean = walk.cleaned(dataset)
        age, view, device = age_of(dataset), view_of(dataset), device_of(dataset)
    years = None if age is None else min(float(int(age)), float(OLDEST))
    clean.SOPInstanceUID, clean.StudyInstanceUID = pseudonyms.uid(instance), pseudonyms.uid(study)
    clean.PatientName, clean.PatientID = "", name  # a name of one part would not be one (PS3.5 6.2.1)
    if years is not None:
        clean.PatientAge = f"{int(years):03d}Y"
    _say_what_it_shows(clean, view)
    try:
        _complete(clean, lossy=dataset.file_meta.TransferSyntaxUID in _LOSSY)
        dcmwrite(io.BytesIO(), clean, enforce_file_format=True)
    except BROKEN:
        raise FileRefused("malformed", "ModalityLUTSequence") from None
    return Anonymous(
        film_id=pseudonyms.film(instance),
        study_id=pseudonyms.study(study),
        patient_id=name,
        taken_at=_moment(clean),
        age=years,
        sex=str(clean.PatientSex or "U"),
        view=view,
        device_number=device,
        dataset=clean,
        steps=walk.steps(),
    )


def with_pixels(clean: Dataset, values: Array, *, redacted: bool, read: bool) -> None:
    """Put stored values, shape (rows, columns), into a de-identified data set; `read`: text was looked for in them."""
    kind = "OW" if values.dtype.itemsize == 2 else "OB"
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    clean.add_new("PixelData", kind, data + b"\0" * (len(data) % 2))
    if redacted:
        clean.ImageType = ["DERIVED", *list(clean.get("ImageType", ["", "PRIMARY"]))[1:]]
    clean.BurnedInAnnotation = "NO" if read else "YES"  # who did not look must not deny it
    done = profile.OPTIONS | (profile.CLEAN_PIXELS if read else {})
    clean.DeidentificationMethodCodeSequence = Sequence([_code(value, "DCM", done[value]) for value in sorted(done)])


class _Walk:
    """One pass over a data set and all that is nested in it."""

    def __init__(self, pseudonyms: Pseudonyms, shift: timedelta) -> None:
        self._shift = shift
        self._done: Counter[tuple[str, str]] = Counter()
        self._rules: dict[str, tuple[str, Callable[[Any], Any] | None]] = {
            **{word: ("kept", partial(_codes, allowed=allowed)) for word, allowed in profile.CODES.items()},
            **{
                word: ("kept", partial(_numbers, kind=dictionary_VR(word), positive=word.endswith("Spacing")))
                for word in profile.NUMBERS
            },
            **dict.fromkeys(profile.TIMES, ("kept", _clock)),
            **dict.fromkeys(profile.DATES, ("shifted", self._shifted)),
            **dict.fromkeys(profile.UIDS, ("replaced by a keyed hash", lambda value: pseudonyms.uid(str(value)))),
            **dict.fromkeys(profile.SEQUENCES, ("walked", lambda items: Sequence(map(self.cleaned, items)))),
            **dict.fromkeys(profile.REWRITTEN, ("written anew", None)),
            **dict.fromkeys(profile.DEVICE, ("kept as a number of both, removed", None)),
        }
        """keyword -> what is done, and what makes a new value of the old one; None if that is made elsewhere"""

    def steps(self) -> tuple[str, ...]:
        """One line for each thing done: how often, and the keywords where these are not the file's own."""
        by_action: dict[str, list[str]] = {}
        for (action, keyword), count in sorted(self._done.items()):
            by_action.setdefault(action, []).append(f"{keyword} x{count}" if count > 1 else keyword)
        return tuple(f"{action}: {', '.join(keywords)}" for action, keywords in by_action.items())

    def cleaned(self, dataset: Dataset) -> Dataset:
        """What is kept of a data set, or of an item of a sequence."""
        clean = Dataset()
        for tag in list(dataset.keys()):
            keyword = "" if tag.is_private else keyword_for_tag(tag)
            if keyword == "PixelData":
                continue
            action, make = self._rules.get(keyword, ("", None))
            value = self._made(make, dataset, keyword) if make else None
            if value is not None:
                setattr(clean, keyword, value)
            self._note(action if value is not None or not make else "not understood, removed", tag, keyword)
        return clean

    def _note(self, action: str, tag: int, keyword: str) -> None:
        if keyword and not action:
            found = profile.action_of(tag)
            action = f"removed or emptied by the profile ({found})" if found else "not needed, removed"
        self._done[action or "private or unknown, removed", keyword or "elements"] += 1

    def _made(self, make: Callable[[Any], Any], dataset: Dataset, keyword: str) -> Any:
        try:
            element = dataset[keyword]
            value = element.value
            if keyword == "LUTData" and isinstance(value, bytes):  # words in the byte order of the file
                value = np.frombuffer(value, "<u2" if dataset.original_encoding[1] else ">u2").tolist()
            return None if value is None or value == "" else make(value)
        except BROKEN:
            return None

    def _shifted(self, value: object) -> str | None:
        found = _DATE.match(str(value))
        if not found:
            return None
        moved = date(*(int(part) for part in found.groups())) + self._shift
        return f"{moved:%Y%m%d}" if moved.year >= _EARLIEST else None


def _identity(dataset: Dataset) -> tuple[str, str, str]:
    """What names the instance, the study and the patient: what is missing is named by the next larger one known."""
    instance = str(dataset.SOPInstanceUID)
    study = str(dataset.get("StudyInstanceUID") or instance)
    number, name, born = (
        str(dataset.get(word) or "").strip() for word in ("PatientID", "PatientName", "PatientBirthDate")
    )
    return instance, study, number or (f"{name}\0{born}" if name.strip("^ ") else f"study\0{study}")


def _codes(value: object, allowed: frozenset[str]) -> list[str] | None:
    said = [str(one).strip().upper() for one in _many(value)]
    return [one for one in said if one in allowed] or None


def _numbers(value: Any, kind: str, *, positive: bool) -> Any:
    if kind == "DS":
        numbers = [float(one) for one in _many(value)]
        fits = np.isfinite(numbers).all() and (not positive or min(numbers) > 0)
        return [DSfloat(one, auto_format=True) for one in numbers] if fits else None
    whole = [int(one) for one in _many(value)]
    if kind == "US or OW":
        return np.array(whole, "<u2").tobytes()
    return whole if len(whole) > 1 else whole[0]


def _many(value: Any) -> Iterable[Any]:
    return [value] if isinstance(value, str | int | float) else list(value)


def _clock(value: object) -> str | None:
    """Hours, minutes and seconds; fractions are dropped."""
    found = _TIME.match(str(value))
    if not found:
        return None
    hour, minute, second = (int(part or 0) for part in found.groups())
    return f"{time(hour, minute, min(second, 59)):%H%M%S}"


def _moment(clean: Dataset) -> datetime | None:
    for day, clock in _MOMENTS:
        if clean.get(day):
            moment = f"{clean.get(day)}{clean.get(clock) or '000000'}"
            return datetime.strptime(moment, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    return None


def _say_what_it_shows(clean: Dataset, view: str) -> None:
    if view in VIEW_CODES:
        clean.ViewCodeSequence = Sequence([_code(*VIEW_CODES[view][0][:3])])
    clean.BodyPartExamined = "CHEST"
    clean.AnatomicRegionSequence = Sequence([_code(*codes.SCT.Chest[:3])])


def _complete(clean: Dataset, *, lossy: bool) -> None:
    """What a radiograph and a de-identified object must say."""
    for keyword in (*profile.EMPTY, *(profile.EMPTY_DX if clean.Modality == "DX" else ())):
        if keyword not in clean:
            setattr(clean, keyword, None)
    if "SeriesInstanceUID" not in clean:
        clean.SeriesInstanceUID = clean.StudyInstanceUID
    if len(clean.get("ImageType", [])) < 2:
        clean.ImageType = ["DERIVED", "PRIMARY"]
    if lossy or "LossyImageCompression" not in clean:
        clean.LossyImageCompression = "01" if lossy else "00"
    clean.PatientIdentityRemoved = "YES"
    clean.DeidentificationMethod = f"Orrery: PS3.15 Basic Profile {profile.EDITION}"
    clean.LongitudinalTemporalInformationModified = "MODIFIED"
    if not clean.PixelRepresentation and clean.get("PixelPaddingValue", 0) < 0:  # seen, and cannot be written
        del clean.PixelPaddingValue
    correct_ambiguous_vr(clean, is_little_endian=True)
    clean.file_meta = FileMetaDataset()
    clean.file_meta.MediaStorageSOPClassUID = clean.SOPClassUID
    clean.file_meta.MediaStorageSOPInstanceUID = clean.SOPInstanceUID
    clean.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item
