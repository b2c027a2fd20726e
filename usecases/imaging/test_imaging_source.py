"""Phantoms as raw films, and what films must be to be learned from."""

from datetime import timedelta
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.usecase import SourceRequest, silent
from usecases.imaging import phantom_source
from usecases.imaging.features import FEATURES, TAGS, UNKNOWN, named
from usecases.imaging.film_table import ACQUIRED, COLUMNS, DataRefused, mask_of
from usecases.imaging.phantom_source import END, FIRST, SAMPLE, visits
from usecases.imaging.picture import SIDE, decode, encode
from usecases.imaging.source import SOURCES, describe, validate
from usecases.imaging.tables import features
from usecases.imaging.training import requests


@pytest.fixture(scope="module")
def sample():
    return SOURCES["phantoms"](SourceRequest("phantoms", sample=True), silent)


@pytest.fixture
def few(sample):
    return sample.head(40)


def changed(frame, column, value, row=5):
    frame = frame.astype({column: object})
    frame.iloc[row - 1, frame.columns.get_loc(column)] = value
    return frame


def refused(frame):
    with pytest.raises(DataRefused) as caught:
        validate(frame)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_sample_is_valid_and_stays_what_it_was(sample):
    films = validate(sample)
    assert dict(films.dtypes.astype(str)) == dict(COLUMNS)
    assert describe(films) == {
        "films": SAMPLE,
        "patients": sample["patient_id"].nunique(),
        "positives": int((sample["finding"] != "none").sum()),
    }
    pd.testing.assert_frame_equal(validate(films), films)
    pd.testing.assert_frame_equal(validate(sample.sample(frac=1, random_state=1)), films)


def test_the_sample_is_of_two_years_and_of_every_kind(sample):
    films = validate(sample)
    assert films["taken_at"].is_monotonic_increasing
    assert films["taken_at"].min() == pd.Timestamp(FIRST)
    assert pd.Timestamp(END) - films["taken_at"].max() < timedelta(days=4)
    assert films["taken_at"].diff().max() < timedelta(days=4)
    assert set(films["view"]) == {"PA", "AP", "U"}
    assert set(films["finding"]) == {"none", "round", "patchy", "lobar", "diffuse", "effusion"}
    assert 0 < films["age"].isna().sum() < 0.15 * SAMPLE
    assert films["age"].max() <= 90
    assert 0.3 < films["label"].mean() < 0.55


def test_the_sample_is_of_several_devices_and_sizes(sample):
    films = validate(sample)
    assert films["device_number"].nunique() == 3
    assert 0.1 < films["device_number"].isna().mean() < 0.4
    for side in ("rows", "columns"):
        assert films[side].between(256, 512).all()
        assert films[side].nunique() > 50


def test_films_from_before_size_and_device_were_kept_have_features_and_are_asked_about(few):
    films = validate(few)
    older = films.drop(columns=list(ACQUIRED))
    found, whole = features(older)["film_features"], features(films)["film_features"]
    assert (found[list(TAGS)] == UNKNOWN).all(axis=None)
    pd.testing.assert_frame_equal(found[list(FEATURES)], whole[list(FEATURES)])
    asked = [body for _, kind, body in requests(older) if kind == "predict"]
    assert {(body.rows, body.columns, body.device_number) for body in asked} == {(None, None, None)}


def test_masks_are_the_lungs_of_their_pictures(sample):
    centre = slice(SIDE // 4, -SIDE // 4)  # beside the person it is darker still
    darker = 0
    for picture, mask in zip(sample["picture"], sample["mask"], strict=True):
        levels, lungs = decode(picture), decode(mask)
        assert levels.shape == lungs.shape == (SIDE, SIDE)
        assert set(np.unique(lungs)) == {0, 255}
        assert 0.1 < (lungs == 255).mean() < 0.5
        levels, inside = levels[centre, centre], lungs[centre, centre] == 255
        darker += levels[inside].mean() < levels[~inside].mean()
    assert darker > 0.98 * len(sample)


def test_what_a_film_is_called_says_nothing_of_its_label(sample):
    """A linear fit on all that is named beside the pixels stays far from the answer."""
    said = zip(sample["picture"], sample["age"], sample["sex"], sample["view"], strict=True)
    rows = np.array([named(decode(picture), age, sex, view) for picture, age, sex, view in said])
    design = np.column_stack([rows, np.ones(len(rows))])
    label = sample["label"].to_numpy(float)
    residual = label - design @ np.linalg.lstsq(design, label, rcond=None)[0]
    assert 1 - residual.var() / label.var() < 0.4


def test_a_film_is_drawn_the_same_again(monkeypatch):
    monkeypatch.setattr(phantom_source, "SAMPLE", 12)
    seen = []
    request = SourceRequest("phantoms", sample=True)
    first = SOURCES["phantoms"](request, lambda stage, done, total, note="": seen.append((done, total)))
    pd.testing.assert_frame_equal(first, SOURCES["phantoms"](request, silent))
    assert seen == [(done, 12) for done in range(1, 13)]


@settings(max_examples=10, deadline=None)
@given(count=st.integers(1, 400))
def test_patients_come_up_to_three_times_and_soon(count):
    planned = list(visits(count))
    assert [visit.number for visit in planned] == list(range(count))
    assert all(before.moment < after.moment for before, after in pairwise(planned))
    patients = pd.Series([visit.patient for visit in planned])
    assert patients.value_counts().max() <= 3
    assert all(np.diff(places).max(initial=0) <= 30 for places in patients.groupby(patients).indices.values())


def test_phantoms_take_no_file(tmp_path):
    for request in (SourceRequest("phantoms", tmp_path), SourceRequest("phantoms", columns={"a": "b"})):
        with pytest.raises(DataRefused, match="phantoms need no file"):
            SOURCES["phantoms"](request, silent)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("film_id", "Maria Sokolova"),
        ("film_id", ""),
        ("study_id", "x" * 65),
        ("patient_id", None),
        ("patient_id", "a/b"),
        ("taken_at", "yesterday"),
        ("taken_at", None),
        ("taken_at", "1066-10-14"),
        ("age", 155.0),
        ("age", -1.0),
        ("age", "old"),
        ("rows", 0),
        ("rows", "tall"),
        ("columns", 200_000),
        ("device_number", 65_536),
        ("device_number", -1),
        ("sex", "female"),
        ("sex", None),
        ("view", "LATERAL"),
        ("label", 2),
        ("label", None),
        ("label", "yes"),
        ("finding", "x" * 33),
        ("origin", "web"),
        ("part", "holdout"),
        ("picture", b""),
        ("picture", b"\x89PNG\r\n\x1a\n"),
        ("picture", encode(np.zeros((64, 64), np.uint8))),
        ("picture", None),
        ("mask", b"no"),
        ("mask", encode(np.full((SIDE, SIDE), 7, np.uint8))),
    ],
)
def test_a_bad_value_is_refused_by_row_and_column_and_not_repeated(few, column, value):
    message = refused(changed(few, column, value))
    assert f"row 5, column {column}" in message
    if isinstance(value, str) and value:
        assert value not in message


def test_the_first_bad_row_is_named(few):
    assert "row 3, column view" in refused(changed(changed(few, "age", 155.0), "view", "?", row=3))


@pytest.mark.parametrize("column", ["age", *ACQUIRED])
def test_an_unknown_number_is_welcome(few, column):
    assert np.isnan(validate(changed(few, column, None))[column][4])


def test_an_empty_mask_is_welcome(few):
    assert validate(changed(few, "mask", b""))["mask"][4] == b""


def test_a_film_twice_is_refused(few):
    assert "row 5, column film_id: it is there twice" in refused(changed(few, "film_id", few["film_id"].iloc[0]))


def test_a_picture_may_not_be_in_two_parts(few):
    parted = few.assign(part=["train"] * 30 + ["test"] * 10, patient_id=few["film_id"])
    again = changed(parted, "picture", few["picture"].iloc[2], row=35)
    assert "row 35, column picture: the picture of row 3, but in another part" in refused(again)
    assert len(validate(changed(parted, "picture", few["picture"].iloc[2], row=5))) == 40


def test_a_patient_may_not_be_in_two_parts(few):
    parted = few.assign(part=["train"] * 30 + ["test"] * 10, patient_id=few["film_id"])
    again = changed(parted, "patient_id", few["film_id"].iloc[0], row=40)
    assert "row 40, column patient_id: the patient of row 1, but in another part" in refused(again)


def test_data_that_cannot_be_learned_from_are_refused(few):
    assert "every film has the same label" in refused(few.assign(label=0))
    assert "no rows" in refused(few.head(0))
    assert "no column view" in refused(few.drop(columns="view"))


def test_a_mask_lies_where_its_picture_does():
    lungs = np.zeros((256, 512), bool)
    lungs[100:200, 48:248] = True
    small = decode(mask_of(lungs)) == 255
    rows, columns = np.nonzero(small)
    assert (rows.min(), rows.max()) == (32 + 25, 32 + 49)
    assert (columns.min(), columns.max()) == (12, 61)
