import hashlib
import io
import tempfile
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.data import get_testdata_file

from usecases.imaging import dicom
from usecases.imaging.intake import Film, Intake
from usecases.imaging.test_imaging_deidentify import bytes_of
from usecases.imaging.test_imaging_dicom import film, refused, written

NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
BY_GDCM = (uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEG2000Lossless)
PACKED = (uid.RLELossless, uid.JPEGLSLossless, *BY_GDCM)


def values_of(bits: int, *, signed: bool = False) -> np.ndarray:
    """A smooth film with noise, as codecs like it, that uses every bit."""
    rng = np.random.default_rng(bits)
    down, across = np.mgrid[:96, :80]
    smooth = 0.5 + 0.35 * np.sin(down / 15) * np.cos(across / 11) + rng.normal(0, 0.02, (96, 80))
    values = np.rint(np.clip(smooth, 0, 1) * (2**bits - 1)).astype(np.int32)
    values[0, :2] = 0, 2**bits - 1
    return values - (2 ** (bits - 1) if signed else 0)


def packed(data: bytes, syntax: uid.UID) -> bytes:
    """A file in another transfer syntax, by GDCM."""
    with tempfile.TemporaryDirectory() as folder:
        plain, small = str(Path(folder) / "plain.dcm"), str(Path(folder) / "small.dcm")
        Path(plain).write_bytes(data)
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(plain)
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(small)
        assert writer.Write()
        return Path(small).read_bytes()


def as_syntax(syntax: uid.UID, values: np.ndarray, bits: int, **changes: Any) -> bytes:
    dataset = film(values, bits, **changes)
    if syntax == uid.ExplicitVRBigEndian:
        if bits > 8:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        return written(dataset, syntax)
    if syntax in NATIVE:
        return written(dataset, syntax)
    if syntax in {uid.RLELossless, uid.JPEGLSLossless}:
        written(dataset)
        dataset.compress(syntax, generate_instance_uid=False)
        return written(dataset, syntax)
    return packed(written(dataset), syntax)


def taken(intake: Intake, data: bytes) -> Film:
    received = intake.receive(data)
    assert received.film is not None, received.code
    return received.film


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("meaning", ["MONOCHROME1", "MONOCHROME2"])
def test_the_same_pixels_are_the_same_film_however_written(bits: int, meaning: str) -> None:
    values, intake = values_of(bits), Intake(b"k" * 32, read_text=False)
    first = taken(intake, as_syntax(uid.ExplicitVRLittleEndian, values, bits, PhotometricInterpretation=meaning))
    assert np.array_equal(first.pixels, values if meaning == "MONOCHROME2" else 2**bits - 1 - values)
    for syntax in (*NATIVE, *PACKED):
        other = taken(intake, as_syntax(syntax, values, bits, PhotometricInterpretation=meaning))
        for name in ("film_id", "study_id", "patient_id", "taken_at", "age", "digest", "flags"):
            assert getattr(other, name) == getattr(first, name), (syntax.name, name)
        assert np.array_equal(other.picture, first.picture), syntax.name
        assert np.array_equal(other.pixels, first.pixels), syntax.name
        if syntax not in BY_GDCM:  # whose writer adds elements
            assert bytes_of(other.dataset) == bytes_of(first.dataset), syntax.name


@pytest.mark.parametrize("syntax", [*NATIVE, uid.RLELossless, uid.JPEGLosslessSV1, uid.JPEG2000Lossless])
def test_signed_pixels_too(syntax: uid.UID) -> None:
    values = values_of(16, signed=True)
    data = as_syntax(syntax, values, 16, PixelRepresentation=1, RescaleSlope=1, RescaleIntercept=32768)
    assert np.array_equal(dicom.stored(dicom.read(data)), values)
    assert np.array_equal(dicom.pixels(dicom.read(data)), values + 32768)


def test_the_digest_is_that_of_rows_columns_and_values_as_int32() -> None:
    values, intake = values_of(12), Intake(b"k" * 32, read_text=False)
    plain = np.array(values.shape, "<i4").tobytes() + values.astype("<i4").tobytes()
    assert taken(intake, written(film(values))).digest == hashlib.sha256(plain).hexdigest()
    turned = film(4095 - values, PhotometricInterpretation="MONOCHROME1")
    assert taken(intake, written(turned)).digest == hashlib.sha256(plain).hexdigest()
    signed = film(values - 2048, PixelRepresentation=1, PhotometricInterpretation="MONOCHROME1")
    opposite = np.array(values.shape, "<i4").tobytes() + (-1 - (values - 2048)).astype("<i4").tobytes()
    assert taken(intake, written(signed)).digest == hashlib.sha256(opposite).hexdigest()


def test_pixels_of_8_bits_may_be_written_as_words() -> None:
    values = values_of(8)
    dataset = film(values, 8)
    dataset["PixelData"].VR = "OW"
    assert np.array_equal(dicom.stored(dicom.read(written(dataset))), values)
    dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    assert np.array_equal(dicom.stored(dicom.read(written(dataset, uid.ExplicitVRBigEndian))), values)


def test_a_code_stream_must_be_of_the_syntax_and_size_that_the_header_says() -> None:
    for real in PACKED:
        data = as_syntax(real, values_of(12), 12)
        for declared in PACKED:
            if real != declared and not {real, declared} <= {uid.JPEGLossless, uid.JPEGLosslessSV1}:
                other = written(dcmread(io.BytesIO(data)), declared)
                assert refused(other) in {"transfer_syntax", "undecodable"}, (real.name, declared.name)
        taller = dcmread(io.BytesIO(data))
        taller.Rows += 1
        assert refused(written(taller, real)) == "undecodable", real.name


@pytest.mark.slow
def test_real_pairs_of_one_film_agree() -> None:
    intake = Intake(b"k" * 32, read_text=False)
    plain, small = (Path(str(get_testdata_file(f"RG1_UNC{end}.dcm"))).read_bytes() for end in ("R", "I"))
    tight, lossy = (Path(str(get_testdata_file(f"RG1_J2K{end}.dcm"))).read_bytes() for end in ("R", "I"))
    assert taken(intake, plain).digest == taken(intake, tight).digest
    assert np.array_equal(taken(intake, plain).picture, taken(intake, tight).picture)
    unpacked, once = taken(intake, small), taken(intake, lossy)
    assert np.abs(unpacked.pixels - once.pixels).max() <= 1, "decoders may round a lossy code stream differently"
    assert once.dataset.LossyImageCompression == "01"
