"""Overlays, SR and SEG of a film: right in place, whole, readable without a warning, and the same at each asking."""

import base64
import io
import time
from datetime import UTC, datetime

import numpy as np
import pytest
from highdicom.seg import segread
from highdicom.sr import srread
from PIL import Image
from pydicom import config, dcmread, uid

from usecases.imaging import dicom
from usecases.imaging.deidentify import deidentify, with_pixels
from usecases.imaging.phantom import draw
from usecases.imaging.phantom_dicom import written
from usecases.imaging.picture import SIDE, decode, encode, to_picture
from usecases.imaging.pseudonyms import Pseudonyms
from usecases.imaging.results import BANNER, FilmNotKept, Films, fitted, overlay, shown
from usecases.imaging.segmentation_object import segmentation
from usecases.imaging.structured_report import report

NAMES = Pseudonyms(bytes(range(32)))
MOMENT = datetime(2026, 1, 5, 10, 20, tzinfo=UTC)
FILM = draw(5)


def lungs():
    return (to_picture(FILM.lungs.astype(np.float32)) > 127).astype(np.uint8) * 255


def text(picture):
    return base64.b64encode(encode(picture)).decode()


def answer(**changed):
    said = {
        "prediction_id": "0198c2f6a7d14b3e9a54c1f0d2b7e811", "film_id": "f1", "model_version": "3",
        "probability": 0.8312, "decision": "finding", "operating_point": 0.4, "uncertainty": 0.65,
        "ood": {"score": 0.4, "verdict": "in"}, "lung_share": 0.27, "priority": "high",
        "mask": text(lungs()), "cam": None,
    }  # fmt: skip
    return said | changed


@pytest.fixture
def films(tmp_path):
    """A folder with the de-identified film `f1`."""
    films = Films(tmp_path / "films")
    dataset = dicom.read(written(FILM, 5, moment=MOMENT))
    clean = deidentify(dataset, NAMES).dataset
    with_pixels(clean, dicom.stored(dataset), redacted=False, read=True)
    films.keep("f1", clean)
    return films


@pytest.fixture(autouse=True)
def strict(monkeypatch):
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.RAISE)


def test_a_film_is_kept_for_its_owner_only_and_whole(films, tmp_path):
    (path,) = (tmp_path / "films").iterdir()
    assert path.name == "f1.dcm"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    before = path.read_bytes()
    films.keep("f1", films.header("f1"))
    assert path.read_bytes() == before
    assert films.levels("f1").shape == FILM.pixels.shape
    assert (films.header("none"), films.levels("none")) == (None, None)


def test_a_folder_that_is_full_is_said(films, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FilmNotKept):
        films.keep("f2", films.header("f1"))
    assert films.header("f2") is None


def test_an_overlay_outlines_the_lungs_and_heats_what_was_looked_at():
    heat = np.zeros((SIDE, SIDE), np.uint8)
    heat[80:100, 90:110] = 255
    rows, columns = FILM.pixels.shape
    plain, outlined, hot = (
        np.asarray(Image.open(io.BytesIO(overlay(FILM.pixels, *maps))), dtype=int)
        for maps in ((None, None), (lungs(), None), (None, heat))
    )
    assert plain.shape == (rows, columns, 3)
    drawn = (outlined != plain).any(axis=2)
    edges = FILM.lungs ^ np.roll(FILM.lungs, 1, axis=0) | FILM.lungs ^ np.roll(FILM.lungs, 1, axis=1)
    near = np.zeros_like(edges)
    for down in range(-5, 6):
        for right in range(-5, 6):
            near |= np.roll(edges, (down, right), axis=(0, 1))
    assert drawn.sum() > 200
    assert (drawn & near).sum() > 0.9 * drawn.sum()
    heated = hot[..., 0] - hot[..., 2] > 40
    side, top, left = max(rows, columns), (max(rows, columns) - rows) / 2, (max(rows, columns) - columns) / 2
    where = np.argwhere(heated).mean(axis=0)
    assert np.allclose(where, (90 / SIDE * side - top, 100 / SIDE * side - left), atol=side / 40)


@pytest.mark.parametrize(("shape", "expected"), [((128, 128), (128, 128)), ((3000, 2500), (1024, 853))])
def test_an_overlay_has_the_size_of_its_film_within_bounds_and_a_banner(shape, expected):
    levels = np.random.default_rng(1).random(shape).astype(np.float32)
    image = np.asarray(Image.open(io.BytesIO(overlay(levels, lungs(), lungs()))))
    assert image.shape == (*expected, 3)
    strip = image[-round(0.06 * min(expected)) :]
    assert BANNER == "RESEARCH USE ONLY"
    assert (strip == 0).all(axis=2).mean() > 0.5
    assert (strip > 200).all(axis=2).any()


def test_a_flat_film_has_an_overlay_too():
    assert Image.open(io.BytesIO(overlay(np.zeros((200, 100)), None, None))).size == (100, 200)


def test_a_mask_fits_its_film(films):
    mask = np.asarray(Image.open(io.BytesIO(fitted(lungs(), films.header("f1"))))) > 0
    assert mask.shape == FILM.lungs.shape
    assert 2 * (mask & FILM.lungs).sum() / (mask.sum() + FILM.lungs.sum()) > 0.97
    assert np.array_equal(decode(fitted(lungs(), None)), lungs())
    assert shown(answer(), "cam") is None
    assert np.array_equal(shown(answer(), "mask"), lungs())


def test_the_report_says_what_the_answer_says(films):
    header = films.header("f1")
    content = report(header, answer(), NAMES)
    made = srread(io.BytesIO(content))
    assert made.SOPClassUID == uid.EnhancedSRStorage
    assert made.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (made.PatientID, made.StudyInstanceUID) == (header.PatientID, header.StudyInstanceUID)
    referenced = made.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert referenced.ReferencedSOPInstanceUID == header.SOPInstanceUID
    (group,) = made.content.get_image_measurement_groups()
    numbers = {found.name.value: found.value for found in group.get_measurements()}
    expected = {"probability": 0.8312, "operating_point": 0.4, "uncertainty": 0.65, "lung_share": 0.27, "ood": 0.4}
    assert numbers == pytest.approx(expected)
    said = {found.name.value: found.value.value for found in group.get_qualitative_evaluations()}
    assert said == {"decision": "finding", "priority": "high"}
    assert all(
        word in content
        for word in (b"Orrery chest film triage", b"For research use only", NAMES.uid("observer").encode())
    )
    assert (made.CompletionFlag, made.VerificationFlag) == ("COMPLETE", "UNVERIFIED")


@pytest.mark.parametrize("said", [{}, {"ImagerPixelSpacing": [0.2, 0.2]}])
def test_the_report_describes_a_film_that_says_enough_of_itself(films, said):
    header = films.header("f1")
    for keyword, value in said.items():
        setattr(header, keyword, value)
    content = report(header, answer(), NAMES)
    assert srread(io.BytesIO(content)).content.get_image_measurement_groups()
    assert (b"Image Library Group" in content) == bool(said)


def test_the_report_of_a_film_that_was_not_scored_has_no_probability(films):
    changed = {"probability": None, "uncertainty": None, "decision": "not_scored", "mask": None, "model_version": None}
    made = srread(io.BytesIO(report(films.header("f1"), answer(ood=None, lung_share=None, **changed), NAMES)))
    (group,) = made.content.get_image_measurement_groups()
    assert [found.name.value for found in group.get_measurements()] == ["operating_point"]
    assert [found.value.value for found in group.get_qualitative_evaluations()] == ["not_scored", "high"]


def test_the_segmentation_lies_on_the_lungs_of_its_film(films):
    header = films.header("f1")
    made = segread(io.BytesIO(segmentation(films.header("f1"), lungs(), answer(), NAMES)))
    assert (made.Rows, made.Columns, made.NumberOfFrames) == (*FILM.lungs.shape, 1)
    assert list(made.PatientOrientation) == list(header.PatientOrientation)
    frame = made.get_pixels_by_source_instance([header.SOPInstanceUID])[0, :, :, 0] > 0
    assert 2 * (frame & FILM.lungs).sum() / (frame.sum() + FILM.lungs.sum()) > 0.97
    (segment,) = made.SegmentSequence
    assert (segment.SegmentLabel, segment.SegmentAlgorithmType) == ("Lungs", "AUTOMATIC")
    assert segment.segmented_property_type.meaning == "Lung"
    assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == "3"
    assert made.StudyInstanceUID == header.StudyInstanceUID


def test_a_film_without_lungs_has_an_empty_segmentation(films):
    made = segread(io.BytesIO(segmentation(films.header("f1"), np.zeros((SIDE, SIDE), np.uint8), answer(), NAMES)))
    assert made.NumberOfFrames == 1
    assert not made.pixel_array.any()


@pytest.mark.parametrize("make", [report, lambda *these: segmentation(these[0], lungs(), *these[1:])])
def test_an_object_is_the_same_at_each_asking_and_tells_no_real_moment(films, make):
    first, second = (make(films.header("f1"), answer(), NAMES) for _ in range(2))
    assert first == second
    made = dcmread(io.BytesIO(first))
    assert made.ContentDate == films.header("f1").StudyDate
    assert time.strftime("%Y%m%d") not in str(made)
    assert "20260105" not in str(made)
    other = dcmread(io.BytesIO(make(films.header("f1"), answer(prediction_id="another"), NAMES)))
    assert other.SOPInstanceUID != made.SOPInstanceUID
