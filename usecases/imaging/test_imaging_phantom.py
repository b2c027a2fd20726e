"""Phantoms: the same film for a seed, as varied as films are, and nothing that gives the label away."""

import io
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from usecases.imaging import dicom
from usecases.imaging.phantom import FINDINGS, LARGEST, NONE, SMALLEST, draw
from usecases.imaging.phantom_dicom import BITS, SYNTAXES, study, written
from usecases.imaging.phantom_people import person
from usecases.imaging.phantom_strangers import hand, photograph, shin
from usecases.imaging.picture import to_picture

MOMENT = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
SEEDS = st.integers(0, 2**31)


@pytest.fixture(scope="module")
def films():
    return [draw(seed) for seed in range(120)]


@pytest.fixture(scope="module")
def small(films):
    return min(films, key=lambda film: film.pixels.size)


@pytest.fixture(scope="module")
def headers(small):
    """Data sets of 300 seeds, all with the same film."""
    return [parsed(written(small, seed, moment=MOMENT)) for seed in range(300)]


def parsed(data):
    return pydicom.dcmread(io.BytesIO(data))


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, draw_one=st.sampled_from([draw, shin, hand, photograph]))
def test_a_seed_is_a_film(seed, draw_one):
    one, again, other = draw_one(seed), draw_one(seed), draw_one(seed + 1)
    for name in ("pixels", "lungs", "finding_mask"):
        np.testing.assert_array_equal(getattr(one, name), getattr(again, name))
    assert replace(one, pixels=0, lungs=0, finding_mask=0) == replace(again, pixels=0, lungs=0, finding_mask=0)
    assert one.pixels.shape != other.pixels.shape or (one.pixels != other.pixels).any()


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_a_film_is_what_it_says(seed):
    film = draw(seed)
    assert film.pixels.dtype == np.float32
    assert (film.lungs.dtype, film.finding_mask.dtype) == (bool, bool)
    assert film.pixels.shape == film.lungs.shape == film.finding_mask.shape
    assert all(SMALLEST <= side <= LARGEST for side in film.pixels.shape)
    assert film.pixels.min() >= 0
    assert film.pixels.max() <= 1
    assert 0.1 < film.lungs.mean() < 0.5
    assert film.pixels[film.lungs].mean() < film.pixels[~film.lungs].max()
    assert (film.finding == NONE) == (film.label == 0) == (not film.finding_mask.any())
    if film.label:
        assert (film.finding_mask & film.lungs).sum() > 0.5 * film.finding_mask.sum()


def test_every_kind_of_film_occurs(films):
    assert {film.finding for film in films} == set(FINDINGS)
    assert {film.view for film in films} == {"PA", "AP"}
    assert {film.sex for film in films} == {"F", "M"}
    assert 0.3 < np.mean([film.label for film in films]) < 0.55
    assert any(film.pixels.shape[0] > film.pixels.shape[1] for film in films)
    assert any(film.pixels.shape[0] < film.pixels.shape[1] for film in films)


def test_neither_who_nor_how_bright_gives_the_label_away(films):
    label = [film.label for film in films]
    pictures = [to_picture(film.pixels) for film in films]
    easy = {
        "age": [film.age for film in films],
        "sex": [film.sex == "M" for film in films],
        "view": [film.view == "AP" for film in films],
        "size": [film.pixels.size for film in films],
        "brightness": [picture.mean() for picture in pictures],
        "contrast": [picture.std() for picture in pictures],
    }
    for name, values in easy.items():
        assert 0.3 < roc_auc_score(label, values) < 0.7, name


def test_films_of_a_person_show_one_person():
    one, other = draw(1, person=9), draw(2, person=9)
    assert (one.age, one.sex) == (other.age, other.sex)
    assert one.pixels.shape != other.pixels.shape or (one.pixels != other.pixels).any()


def test_every_kind_of_header_occurs(small, headers):
    def values(keyword):
        return {str(dataset.get(keyword, "absent")) for dataset in headers}

    assert values("BitsStored") == {str(bits) for bits in BITS}
    assert values("PhotometricInterpretation") == {"MONOCHROME1", "MONOCHROME2"}
    assert values("Modality") == {"CR", "DX"}
    assert values("BurnedInAnnotation") == {"NO", "absent"}
    assert values("PatientSex") == {"", "O", small.sex}
    assert values("ViewPosition") == {"", small.view}
    assert {"absent", "1.0", "2.0", "0.5"} == values("RescaleSlope")
    assert len(values("SpecificCharacterSet")) == 6
    assert len(values("Manufacturer")) == 4
    ages = {(bool(dataset.get("PatientAge")), bool(dataset.get("PatientBirthDate"))) for dataset in headers}
    assert ages == {(True, True), (True, False), (False, True), (False, False)}
    assert {bool(len(dataset.group_dataset(0x0029))) for dataset in headers} == {True, False}


def test_a_header_names_who_it_should(small, headers):
    for seed, dataset in enumerate(headers):
        someone = person(seed, small.age)
        assert str(dataset.PatientName) == someone.name
        assert dataset.PatientID in someone.words()
        age = dicom.age_of(dataset)
        assert age is None or small.age <= age < small.age + 2


def test_a_header_knows_nothing_of_the_finding(small):
    film = small
    other = replace(film, label=1 - film.label, finding="lobar", finding_mask=~film.finding_mask, lungs=~film.lungs)
    assert written(film, 3, moment=MOMENT, text=True) == written(other, 3, moment=MOMENT, text=True)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
def test_a_film_is_the_same_in_every_transfer_syntax(films, syntax):
    for seed in range(8):  # of every depth and sense
        plain = dicom.pixels(dicom.read(written(films[seed], seed, moment=MOMENT)))
        dataset = parsed(written(films[seed], seed, moment=MOMENT, transfer_syntax=syntax))
        assert dataset.file_meta.TransferSyntaxUID == syntax
        file = io.BytesIO()
        dataset.save_as(file, enforce_file_format=True)
        np.testing.assert_array_equal(dicom.pixels(dicom.read(file.getvalue())), plain)
        assert np.corrcoef(plain.ravel(), films[seed].pixels.ravel())[0, 1] > 0.999


def test_text_is_burned_in_and_not_always_owned_up_to(films):
    said = set()
    for seed in range(20):
        plain, printed = (parsed(written(films[seed], seed, moment=MOMENT, text=text)) for text in (False, True))
        said.add(printed.get("BurnedInAnnotation"))
        if (
            plain.BitsStored == printed.BitsStored
            and plain.PhotometricInterpretation == printed.PhotometricInterpretation
        ):
            changed = plain.pixel_array != printed.pixel_array
            assert 0.001 < changed.mean() < 0.5
    assert said == {"YES", "NO", None}


def test_a_study_is_one_visit_of_one_person():
    files = [parsed(data) for data in study(5, 3, moment=MOMENT)]
    assert files == [parsed(data) for data in study(5, 3, moment=MOMENT)]
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "PatientID", "PatientName", "AccessionNumber"):
        assert len({str(file.get(keyword)) for file in files}) == 1, keyword
    assert len({file.SOPInstanceUID for file in files}) == 3
    assert [file.InstanceNumber for file in files] == [1, 2, 3]
    assert parsed(study(6, 1, moment=MOMENT)[0]).StudyInstanceUID != files[0].StudyInstanceUID


@pytest.mark.parametrize("stranger", [shin, hand, photograph])
def test_a_stranger_claims_to_be_a_chest(stranger):
    film = stranger(4)
    dataset = dicom.read(written(film, 4, moment=MOMENT))
    assert dataset.BodyPartExamined == "CHEST"
    assert not film.lungs.any()
    assert dicom.pixels(dataset).shape == film.pixels.shape
