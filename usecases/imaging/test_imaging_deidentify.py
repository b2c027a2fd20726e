import io
import re
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pytest
from highdicom._standard_utils import check_required_attributes, get_iod_module_map, get_sop_class_iod_map
from pydicom import Dataset, Sequence, config, dcmread, uid
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement

from usecases.imaging import deid_profile as profile
from usecases.imaging import dicom
from usecases.imaging.deidentify import Anonymous, deidentify, with_pixels
from usecases.imaging.pseudonyms import Pseudonyms
from usecases.imaging.test_imaging_dicom import film, written

SECRET = "ZEBRA471108"
PLANTED = {
    "UI": "1.2.471108.9",
    "DA": "19471108",
    "TM": "114711",
    "DT": "19471108114711",
    "AS": "047Y",
    "DS": "471108",
    "IS": "471108",
    "US": 47110,
    "FL": 471108.0,
    "FD": 471108.0,
    "OB": b"ZEBRA471108 ",
    "OW": b"ZEBRA471108 ",
    "UN": b"ZEBRA471108 ",
    "CS": "ZEBRA",
    "AE": "ZEBRA",
    "SH": "ZEBRA471108",
    "AT": 0x47110800,
}
NAMES = Pseudonyms(b"k" * 32)


def anonymous(dataset: Dataset, names: Pseudonyms = NAMES, syntax: uid.UID = uid.ExplicitVRLittleEndian) -> Anonymous:
    return deidentify(dicom.read(written(dataset, syntax)), names)


def bytes_of(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def planted(tag: int, kind: str) -> DataElement:
    if kind == "SQ":
        item = Dataset()
        item.PatientName, item.TextValue, item.UID = SECRET, SECRET, PLANTED["UI"]
        return DataElement(tag, "SQ", [item])
    return DataElement(tag, kind, PLANTED.get(kind, SECRET))


def profile_rows() -> list[tuple[int, str]]:
    exact, _ = profile._table()
    return [(int(tag, 16), action) for tag, action in exact.items()]


def test_the_table_is_that_of_the_standard() -> None:
    """Counts and samples of PS3.15 2026c, table E.1-1."""
    exact, repeating = profile._table()
    assert (len(exact), len(repeating)) == (652, 3)
    counts: dict[str, int] = {}
    for action in (exact | repeating).values():
        counts[action] = counts.get(action, 0) + 1
    assert counts == {"X": 415, "D": 93, "U": 55, "Z": 42, "X/D": 23, "X/Z": 11, "X/Z/D": 8, "Z/D": 6, "X/Z/U*": 2}
    samples = {
        0x00080050: "Z", 0x00080080: "X/Z/D", 0x00081030: "X", 0x00080018: "U", 0x00100010: "Z", 0x00100020: "Z/D",
        0x00101010: "X", 0x0040A730: "D", 0x00081140: "X/Z/U*", 0x60023000: "X", 0x60FF4000: "X", 0x50100010: "X",
        0x00091001: "X", 0x00280010: None, 0x60020010: None,
    }  # fmt: skip
    assert {tag: profile.action_of(tag) for tag in samples} == samples


def test_of_the_profile_only_what_two_options_retain_is_kept() -> None:
    kept = {*profile.CODES, *profile.NUMBERS, *profile.TIMES, *profile.DATES, *profile.UIDS, *profile.SEQUENCES}
    named = {keyword_for_tag(tag) for tag, _ in profile_rows()}
    hashed = {keyword_for_tag(tag) for tag, action in profile_rows() if action == "U"}
    assert kept & named - profile.DATES - profile.TIMES == {"PatientSex", *profile.UIDS}
    assert hashed >= profile.UIDS


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of what is planted
def test_no_element_of_the_profile_gets_through() -> None:
    dataset = film()
    for tag, _ in profile_rows():
        kind = dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"
        if tag >> 16 not in {0, 2} and keyword_for_tag(tag) not in {"PatientAge", "PatientSex"}:
            dataset[tag] = planted(tag, kind.split()[0])
    dataset.StudyDate = dataset.PatientBirthDate = None
    found = anonymous(dataset)
    content = bytes_of(found.dataset) + "".join(found.steps).encode()
    for trace in ("ZEBRA", "471108", "19471108", "Miller"):
        assert trace.encode() not in content, trace
    removed = " ".join(found.steps)
    assert all(keyword_for_tag(tag) in removed for tag, _ in profile_rows() if 0x0010 <= tag >> 16 < 0x0020)


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_private_nested_unknown_or_out_of_place_goes(syntax: uid.UID) -> None:
    dataset = film(ImageType=["ORIGINAL", "PRIMARY", SECRET], ViewPosition=SECRET, Laterality=SECRET)
    dataset.add_new(0x00090010, "LO", SECRET)
    dataset.add_new(0x00091001, "SQ", [Dataset()])
    dataset[0x00091001].value[0].PatientName = SECRET
    dataset.add_new(0x60003000, "OW", SECRET.encode() + b"\0")
    dataset.add_new(0x60000022, "LO", SECRET)
    dataset.add_new(0x50003000, "OW", SECRET.encode() + b"\0")
    dataset.add_new(0x00187FFF, "LO", SECRET)
    dataset.WindowCenterWidthExplanation = dataset.Manufacturer = dataset.ProtocolName = SECRET
    inner, outer, lut = Dataset(), Dataset(), Dataset()
    inner.PersonName, inner.StudyDate = SECRET, "19471108"
    outer.CodeMeaning, outer.ContentSequence = SECRET, Sequence([inner])
    lut.LUTDescriptor, lut.LUTData, lut.ModalityLUTType, lut.LUTExplanation = [2, 0, 16], b"\1\0\2\0", "OD", SECRET
    lut.add_new(0x00090010, "LO", SECRET)
    dataset.ViewCodeSequence, dataset.ModalityLUTSequence = Sequence([outer]), Sequence([lut])
    found = anonymous(dataset, syntax=syntax)
    content = bytes_of(found.dataset) + "".join(found.steps).encode()
    assert b"ZEBRA" not in content
    assert b"19471108" not in content
    assert [element.keyword for element in found.dataset.ModalityLUTSequence[0]] == [
        "LUTDescriptor", "ModalityLUTType", "LUTData",
    ]  # fmt: skip
    assert found.dataset.ModalityLUTSequence[0].LUTData == b"\1\0\2\0"
    assert "private or unknown, removed: elements x4" in found.steps
    assert "walked: ModalityLUTSequence" in found.steps


def test_names_are_keyed_and_hang_together() -> None:
    one, other = film(SOPInstanceUID="1.2.3"), film(SOPInstanceUID="1.2.4")
    first, second, elsewhere = anonymous(one), anonymous(other), anonymous(one, Pseudonyms(b"q" * 32))
    assert first.patient_id == second.patient_id != elsewhere.patient_id
    assert first.study_id == second.study_id != elsewhere.study_id
    assert len({first.film_id, second.film_id, elsewhere.film_id, first.study_id, first.patient_id}) == 5
    assert all(re.fullmatch("[0-9a-f]{32}", name) for name in (first.film_id, first.study_id, first.patient_id))
    assert first.dataset.StudyInstanceUID == second.dataset.StudyInstanceUID
    for keyword in profile.UIDS & {element.keyword for element in first.dataset}:
        found = uid.UID(first.dataset[keyword].value)
        assert found.is_valid
        assert found.startswith("2.25.")
    assert first.dataset.PatientID == first.patient_id
    assert first.dataset.file_meta.MediaStorageSOPInstanceUID == first.dataset.SOPInstanceUID


def test_who_has_no_number_is_named_by_name_and_birth_or_else_by_the_study() -> None:
    def patient(**changes: object) -> str:
        return anonymous(film(PatientID="", **changes)).patient_id

    assert patient(PatientBirthDate="19670101") == patient(PatientBirthDate="19670101", SOPInstanceUID="1.2.9")
    assert patient(PatientBirthDate="19670101") != patient(PatientBirthDate="19670102")
    assert patient(PatientName="") == patient(PatientName="^^", SOPInstanceUID="1.2.9")
    assert patient(PatientName="") != patient(PatientName="", StudyInstanceUID="1.2.9")


def test_dates_move_by_the_same_days_for_a_patient_and_times_stay() -> None:
    days = ("20210304", "20210305", "20200229")
    found = [anonymous(film(StudyDate=day, AcquisitionDate=day, AcquisitionTime="101112.345")) for day in days]
    moved = [date.fromisoformat(one.dataset.StudyDate) for one in found]
    assert [late - early for early, late in pairwise(moved)] == [timedelta(1), timedelta(-370)]
    shift = date(2021, 3, 4) - moved[0]
    assert 30 <= shift.days < 30 + 3650
    assert found[0].taken_at is not None
    assert found[0].taken_at.isoformat() == f"{moved[0]}T10:11:12+00:00"
    assert found[0].dataset.AcquisitionTime == "101112"
    assert anonymous(film(PatientID="4712")).dataset.StudyDate != found[0].dataset.StudyDate
    assert found[0].dataset.LongitudinalTemporalInformationModified == "MODIFIED"


@pytest.mark.parametrize("day", ["", "0000", "20211399", "00010101", "09990101", "yesterday"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_date_that_is_none_is_emptied(day: str) -> None:
    found = anonymous(film(StudyDate=day))
    assert not found.dataset.StudyDate
    assert found.taken_at is None


@pytest.mark.parametrize(
    ("said", "age", "written_as"),
    [("054Y", 54, "054Y"), ("089Y", 89, "089Y"), ("101Y", 90, "090Y"), ("018M", 1, "001Y")],
)
def test_ages_are_whole_years_and_at_most_90(said: str, age: float, written_as: str) -> None:
    found = anonymous(film(PatientAge=said))
    assert (found.age, found.dataset.PatientAge) == (age, written_as)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_not_known_is_said_to_be_so() -> None:
    found = anonymous(film(PatientSex="X", PatientAge=None, ViewPosition="SKYLINE"))
    assert (found.sex, found.age, found.view) == ("U", None, "U")
    assert found.dataset.PatientSex is None
    assert "PatientAge" not in found.dataset


@pytest.mark.parametrize(
    ("kind", "modality"),
    [
        (uid.ComputedRadiographyImageStorage, "CR"),
        (uid.DigitalXRayImageStorageForPresentation, "DX"),
        (uid.SecondaryCaptureImageStorage, "CR"),
    ],
)
def test_the_result_is_valid_and_says_what_was_done(
    kind: uid.UID, modality: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    presentation = {
        "PresentationIntentType": "FOR PRESENTATION", "PixelIntensityRelationship": "LOG", "ImageLaterality": "U",
        "PixelIntensityRelationshipSign": 1, "RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "US",
        "PresentationLUTShape": "IDENTITY", "ImagerPixelSpacing": [0.1, 0.1],
    }  # fmt: skip
    special = {"DX": presentation, "CR": {"ConversionType": "DF"}}[modality]
    source = film(SOPClassUID=kind, Modality=modality, PixelSpacing=[0, 0], **special)
    found = anonymous(source).dataset
    values = np.frombuffer(source.PixelData, "<u2").reshape(source.Rows, source.Columns)
    with_pixels(found, values, redacted=True, read=True)
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.RAISE)
    again = dcmread(io.BytesIO(bytes_of(found)))
    assert len(list(again.iterall())) > 40
    assert np.array_equal(again.pixel_array, values)
    for module in get_iod_module_map()[get_sop_class_iod_map()[kind]]:
        if module["usage"] == "M":
            check_required_attributes(again, module["key"])
    assert again.PatientIdentityRemoved == "YES"
    assert [item.CodeValue for item in again.DeidentificationMethodCodeSequence] == [
        "113100", "113101", "113107", "113108",
    ]  # fmt: skip
    assert (again.ImageType[0], again.BurnedInAnnotation) == ("DERIVED", "NO")
    assert "PixelSpacing" not in again
    assert again.preamble == b"\0" * 128
    assert dicom.read(bytes_of(found)).SOPInstanceUID == found.SOPInstanceUID


def test_pixels_that_nobody_looked_at_are_not_called_clean() -> None:
    found = anonymous(film()).dataset
    with_pixels(found, np.zeros((96, 80), np.uint16), redacted=False, read=False)
    assert found.BurnedInAnnotation == "YES"
    assert "113101" not in [item.CodeValue for item in found.DeidentificationMethodCodeSequence]


def test_a_lossy_film_stays_called_so() -> None:
    found = anonymous(film(LossyImageCompression="01", LossyImageCompressionRatio=10)).dataset
    assert (found.LossyImageCompression, found.LossyImageCompressionRatio) == ("01", 10)
    assert anonymous(film()).dataset.LossyImageCompression == "00"


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Pseudonyms(b"short")


def test_padding_that_cannot_be_written_goes() -> None:
    dataset = film()
    dataset.add_new("PixelPaddingValue", "SS", -2000)
    assert "PixelPaddingValue" not in anonymous(dataset).dataset
    signed = film(PixelRepresentation=1)
    signed.add_new("PixelPaddingValue", "SS", -2000)
    assert anonymous(signed).dataset.PixelPaddingValue == -2000


def test_an_element_of_another_kind_than_it_should_be_goes() -> None:
    data = written(film()).replace(b"\x10\0\x40\0CS", b"\x10\0\x40\0FD").replace(b"\x08\0\x30\0TM", b"\x08\0\x30\0US")
    found = deidentify(dicom.read(data), NAMES)
    assert found.sex == "U"
    assert "not understood, removed: PatientSex, StudyTime" in found.steps
