import io
import logging
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from pydicom import Dataset, FileMetaDataset, Sequence, uid
from pydicom.filewriter import dcmwrite, write_file_meta_info

from usecases.imaging import dicom, structure
from usecases.imaging.dicom import FileRefused

ROWS, COLUMNS = 96, 80


def film(values: np.ndarray | None = None, bits: int = 12, **changes: object) -> Dataset:
    """A small film of CR; a change to None takes an element away."""
    if values is None:
        values = np.random.default_rng(3).integers(0, 2**bits, (ROWS, COLUMNS))
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.ComputedRadiographyImageStorage, "1.2.3.4.5"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3.4", "1.2.3.4.4"
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "CR", "CHEST", "PA"
    dataset.PatientID, dataset.PatientName, dataset.PatientSex, dataset.PatientAge = "4711", "Miller^Ann", "F", "054Y"
    dataset.StudyDate, dataset.StudyTime = "20210304", "101112"
    dataset.Rows, dataset.Columns = values.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 if bits <= 8 else 16, bits, bits - 1
    signed = changes.get("PixelRepresentation", 0)
    dataset.PixelRepresentation = signed
    data = values.astype(f"{'i' if signed else 'u'}{dataset.BitsAllocated // 8}").tobytes()
    dataset.add_new("PixelData", "OB" if bits <= 8 else "OW", data + b"\0" * (len(data) % 2))
    for keyword, value in changes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def written(dataset: Dataset, syntax: uid.UID = uid.ExplicitVRLittleEndian) -> bytes:
    """The file of a data set whose pixels are little endian, or compressed already."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", uid.ComputedRadiographyImageStorage)
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2.3")
    meta.TransferSyntaxUID = syntax
    dataset.file_meta = meta
    file = io.BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def headed(body: bytes, syntax: uid.UID = uid.ExplicitVRLittleEndian) -> bytes:
    """A file with any bytes for its data set."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = uid.ComputedRadiographyImageStorage, "1.2.3"
    meta.TransferSyntaxUID = syntax
    file = io.BytesIO(b"\0" * 128 + b"DICM")
    file.seek(132)
    write_file_meta_info(file, meta, enforce_standard=True)
    return file.getvalue() + body


def body_of(data: bytes) -> bytes:
    return data[structure.end_of_meta(data) :]


def refused(data: bytes) -> str:
    with pytest.raises(FileRefused) as refusal:
        dicom.pixels(dicom.read(data))
    return refusal.value.code


def test_a_film_is_its_stored_values_rescaled() -> None:
    values = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) % 4096
    found = dicom.pixels(dicom.read(written(film(values, RescaleSlope=2, RescaleIntercept=-10))))
    assert found.dtype == np.float32
    assert np.array_equal(found, values * 2 - 10)


def test_monochrome1_is_turned() -> None:
    values = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) % 1000
    found = dicom.pixels(dicom.read(written(film(values, PhotometricInterpretation="MONOCHROME1"))))
    assert np.array_equal(found, 999 - values)


def test_a_lut_maps_and_what_is_beyond_it_gets_its_ends() -> None:
    values = np.full((ROWS, COLUMNS), 11)
    values[0, :5] = [0, 10, 12, 13, 4000]
    item = Dataset()
    item.LUTDescriptor, item.ModalityLUTType = [3, 10, 16], "OD"
    item.LUTData = struct.pack("<3H", 7, 5, 900)
    for syntax in (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian):
        found = dicom.pixels(dicom.read(written(film(values, ModalityLUTSequence=Sequence([item])), syntax)))
        assert found[0, :5].tolist() == [7, 7, 900, 900, 900]
        assert found[1, 1] == 5


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
def test_padding_is_as_dark_as_the_darkest_of_the_film(syntax: uid.UID) -> None:
    values = np.full((ROWS, COLUMNS), 500)
    values[0], values[1], values[2] = 4095, 4090, 300
    said = {"PixelPaddingValue": 4095, "PixelPaddingRangeLimit": 4090}
    assert dicom.pixels(dicom.read(written(film(values, **said), syntax)))[:3, 0].tolist() == [300, 300, 300]
    turned = dicom.pixels(dicom.read(written(film(values, PhotometricInterpretation="MONOCHROME1", **said), syntax)))
    assert (turned[0] == turned[3]).all()
    assert turned[2, 0] > turned[3, 0]


def test_bits_above_the_stored_ones_are_dropped_and_signs_extended() -> None:
    values = np.array([[-5, 7], [-2048, 2047]]).repeat(48, 0).repeat(40, 1)
    dirty = (values & 0x0FFF) | 0x7000
    dataset = film(dirty, PixelRepresentation=1)
    assert np.array_equal(dicom.stored(dicom.read(written(dataset))), values)
    unsigned = film(dirty)
    assert np.array_equal(dicom.stored(dicom.read(written(unsigned))), dirty & 0x0FFF)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"PixelData": None}, "no_pixels"),
        ({"PixelData": b""}, "no_pixels"),
        ({"PixelData": b"\0" * (ROWS * COLUMNS * 2 - 2)}, "truncated"),
        ({"Rows": None}, "malformed"),
        ({"Rows": 20_000, "Columns": 20_000}, "too_many_pixels"),
        ({"Rows": 65_535, "Columns": 64}, "too_many_pixels"),
        ({"Rows": 32}, "too_small"),
        ({"Rows": 0}, "too_small"),
        ({"BitsStored": 17}, "bits"),
        ({"BitsStored": 4, "HighBit": 3}, "bits"),
        ({"BitsAllocated": 32}, "bits"),
        ({"HighBit": 15}, "bits"),
        ({"PixelRepresentation": 2}, "bits"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colour"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour"),
        ({"NumberOfFrames": 2}, "multi_frame"),
        ({"SOPClassUID": uid.CTImageStorage}, "wrong_object"),
        ({"SOPClassUID": uid.RTStructureSetStorage}, "wrong_object"),
        ({"SOPClassUID": None}, "wrong_object"),
        ({"Modality": "MG"}, "modality"),
        ({"SOPClassUID": uid.SecondaryCaptureImageStorage, "Modality": "OT"}, "modality"),
        ({"BodyPartExamined": "KNEE"}, "body_part"),
        ({"PatientAge": "155Y"}, "age"),
        ({"PatientAge": "999M"}, ""),
        ({"PatientAge": None, "PatientBirthDate": "18660101"}, "age"),
        ({"PatientAge": None, "PatientBirthDate": "20300101"}, "age"),
        ({"SpecificCharacterSet": "ISO_IR 999"}, "charset"),
        ({"SpecificCharacterSet": ["", "ISO 2022 IR 87"]}, ""),
        ({"SpecificCharacterSet": "ISO_IR 192"}, ""),
        ({"SOPInstanceUID": None}, "malformed"),
        ({"RescaleSlope": 1e38, "RescaleIntercept": 1e38}, "malformed"),
        ({"BodyPartExamined": None}, ""),
        ({"BodyPartExamined": "THORAX PA"}, ""),
        ({"SOPClassUID": uid.DigitalXRayImageStorageForProcessing, "Modality": "DX"}, ""),
        ({"SOPClassUID": uid.SecondaryCaptureImageStorage, "Modality": "RG"}, ""),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of what is written here
def test_what_is_no_grey_chest_film_of_a_person_is_refused(changes: dict[str, object], code: str) -> None:
    data = written(film(**changes))
    if code:
        assert refused(data) == code
    else:
        assert dicom.pixels(dicom.read(data)).shape == (ROWS, COLUMNS)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"\0" * 200, "not_dicom"),
        (b"PK\3\4" + b"\0" * 300, "not_dicom"),
        (b"\0" * 128 + b"DICM", "transfer_syntax"),
        (headed(b""), "truncated"),
        (headed(b"\x08\0\x16\0UI\x40\0" + b"1" * 10), "truncated"),
        (headed(b"\x08\0\x16\0??\x40\0" + b"1" * 64), "transfer_syntax"),
        (headed(b"", uid.MPEG2MPML), "transfer_syntax"),
        (headed(b"", uid.UID("1.2.826.0.1.3680043.9.7133.1.9")), "transfer_syntax"),
        (headed(b"no deflated bytes at all", uid.DeflatedExplicitVRLittleEndian), "transfer_syntax"),
    ],
)
def test_what_is_no_dicom_is_refused(data: bytes, code: str) -> None:
    assert refused(data) == code


def test_a_file_cut_anywhere_is_refused() -> None:
    data = written(film())
    start = structure.end_of_meta(data)
    for end in [*range(133, start, 7), *range(start, len(data) - 1, 97), len(data) - 1]:
        assert refused(data[:end]) in {"truncated", "transfer_syntax", "no_pixels", "wrong_object", "malformed"}


def test_what_is_declared_must_be_what_is_there() -> None:
    native = [
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
    ]
    for declared in (*native, uid.JPEG2000Lossless, uid.RLELossless):
        for real in native:
            if real != declared:
                assert refused(headed(body_of(written(film(), real)), declared)) in {"transfer_syntax", "truncated"}


def test_a_huge_film_is_refused_before_anything_is_reserved_for_it() -> None:
    data = written(film(Rows=20_000, Columns=20_000))
    refused(data)
    tracemalloc.start()
    began = time.process_time()
    assert refused(data) == "too_many_pixels"
    took, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < 0.1
    assert peak < 1_000_000


def test_what_unpacks_to_too_much_is_refused() -> None:
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(200)) + packer.flush()
    assert len(bomb) < 300_000
    assert refused(headed(bomb, uid.DeflatedExplicitVRLittleEndian)) == "too_large"


def test_a_file_of_too_many_bytes_is_refused() -> None:
    assert refused(bytes(structure.LARGEST + 1)) == "too_large"


def test_elements_and_depth_are_bounded() -> None:
    many = b"".join(struct.pack("<HH2sH", 8, number, b"LO", 0) for number in range(25_000))
    assert refused(headed(many)) == "malformed"
    deep = (
        struct.pack("<HH2sHI", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    ) * 999
    assert refused(headed(deep)) == "malformed"


@pytest.mark.parametrize("pad", [b"\xe5", b"1.2.x"])
def test_no_value_of_a_file_is_logged_warned_of_or_told(pad: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    data = written(film(PatientName="Secret^Name", StudyDate="20210304"))
    data = data.replace(b"1.2.3.4.5\0", b"1.2.3." + pad[:1] + b"x9\0", 2).replace(b"20210304", b"2021x3?4")
    dicom.pixels(dicom.read(data))
    with pytest.raises(FileRefused) as refusal:
        dicom.read(data.replace(b"CHEST ", b"SECRET"))
    assert str(refusal.value) == structure.REASONS["body_part"]
    assert not caplog.records


@pytest.mark.parametrize(
    ("changes", "age"),
    [
        ({"PatientAge": "054Y"}, 54),
        ({"PatientAge": "006M"}, 0.5),
        ({"PatientAge": "052W"}, 52 * 7 / 365.25),
        ({"PatientAge": None, "PatientBirthDate": "19610304"}, 21915 / 365.25),
        ({"PatientAge": None, "PatientBirthDate": "196103"}, None),
        ({"PatientAge": None, "PatientBirthDate": "19610230"}, None),
        ({"PatientAge": None}, None),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_ages(changes: dict[str, object], age: float | None) -> None:
    found = dicom.age_of(film(**changes))
    assert found == age if age is None else found == pytest.approx(age, abs=0.01)


@pytest.mark.parametrize(("said", "view"), [("PA", "PA"), ("ap", "AP"), ("RL", "LL"), ("LATERAL", "LL"), ("", "U")])
def test_views(said: str, view: str) -> None:
    dataset = Dataset()
    dataset.add_new("ViewPosition", "LO", said)
    assert dicom.view_of(dataset) == view


def test_a_view_may_be_a_code() -> None:
    def coded(value: str, scheme: str) -> Dataset:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "?"
        return film(ViewPosition=None, ViewCodeSequence=Sequence([item]))

    assert dicom.view_of(coded("399348003", "SCT")) == "AP"
    assert dicom.view_of(coded("R-10206", "SRT")) == "AP"
    assert dicom.view_of(coded("272479007", "SCT")) == "PA"
    assert dicom.view_of(coded("1", "SCT")) == "U"
