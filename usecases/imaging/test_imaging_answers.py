"""What is asked of a film, what is answered, and what is refused."""

import base64
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from orrery.usecase import Asked, Scored
from usecases.imaging.answers import fallback, respond
from usecases.imaging.features import FEATURES, UNKNOWN, inputs, named, tags
from usecases.imaging.picture import SIDE, PictureRefused, decode, encode, restore, to_picture
from usecases.imaging.requests import ImagingRequest, picture_of
from usecases.imaging.rules import DEFAULT_RULES, rules_of_film
from usecases.imaging.serving import serving

PICTURE = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE).astype(np.uint8)


def text(picture):
    return base64.b64encode(encode(picture)).decode()


def request(**changed):
    asked = {"film_id": "f-1", "picture": text(PICTURE), "age": 50, "sex": "M", "view": "AP"}
    return ImagingRequest.model_validate_json(json.dumps(asked | changed))


def scored(probability=0.7, ood=0.3, **changed):
    asked = request(**changed)
    learned = {"operating_point": 0.4}
    bits = -sum(p * math.log2(p) for p in (probability, 1 - probability))
    outputs = {
        "probability": np.array([probability]), "uncertainty": np.array([bits]), "ood": np.array([ood]),
        "area": np.array([0.25]), "mask": np.ones((1, SIDE, SIDE), np.uint8), "cam": PICTURE[None],
    }  # fmt: skip
    hits = rules_of_film(asked.age, asked.view, asked.flags, DEFAULT_RULES)
    model = SimpleNamespace(manifest=SimpleNamespace(learned=learned))
    return Scored(asked, hits, DEFAULT_RULES, {}, np.zeros(1), outputs, model, "cuda")


def test_an_answer_says_how_likely_how_sure_and_how_soon():
    answer = respond(scored())
    assert (answer.probability, answer.decision, answer.priority, answer.device) == (0.7, "finding", "high", "cuda")
    assert answer.operating_point == 0.4
    assert answer.ood.verdict == "in"
    assert np.array_equal(decode(base64.b64decode(answer.mask)), np.full((SIDE, SIDE), 255))
    assert answer.cam is None
    assert "research" in answer.notice


def test_it_shows_what_it_looked_at_when_asked():
    assert np.array_equal(decode(base64.b64decode(respond(scored(explain=True)).cam)), PICTURE)


@pytest.mark.parametrize(
    ("probability", "changed", "decision", "priority"),
    [
        (0.97, {}, "finding", "stat"),
        (0.41, {}, "finding", "high"),
        (0.39, {}, "no_finding", "high"),  # nearly a coin
        (0.05, {}, "no_finding", "routine"),
        (0.05, {"age": 7}, "no_finding", "high"),
        (0.05, {"view": "LL"}, "no_finding", "high"),
        (0.05, {"flags": ["underexposed"]}, "no_finding", "high"),
        (0.05, {"flags": ["text_redacted"]}, "no_finding", "routine"),
    ],
)
def test_priority_is_by_probability_doubt_and_rules(probability, changed, decision, priority):
    answer = respond(scored(probability, **changed))
    assert (answer.decision, answer.priority) == (decision, priority)


def test_a_film_unlike_those_learned_from_gets_no_probability_and_a_person_soon():
    answer = respond(scored(0.99, ood=1.2))
    assert (answer.probability, answer.uncertainty) == (None, None)
    assert (answer.decision, answer.priority, answer.ood.verdict) == ("not_scored", "high", "out")


def test_without_a_model_nothing_is_invented():
    answer = fallback(Asked(request(), (), DEFAULT_RULES, {}), None)
    assert (answer.probability, answer.decision, answer.priority) == (None, "not_scored", "high")
    assert answer.degraded


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"picture": "no!"}, "base64"),
        ({"picture": base64.b64encode(b"no picture").decode()}, "PNG"),
        ({"picture": text(PICTURE[:64])}, "128"),
        ({"picture": text(np.dstack([PICTURE] * 3))}, "grey"),
        ({"picture": "A" * 40_001}, "40000"),
        ({"age": 155}, "120"),
        ({"age": -1}, "0"),
        ({"rows": 0}, "1"),
        ({"columns": 10**9}, "100000"),
        ({"rows": 2.5}, "integer"),
        ({"device_number": 65_536}, "65536"),
        ({"device_number": "Acme"}, "integer"),
        ({"view": "OBLIQUE"}, "PA"),
        ({"film_id": "../x"}, "pattern"),
        ({"flags": ["Miller^John"]}, "pattern"),
        ({"patient_name": "x"}, "Extra"),
    ],
)
def test_a_bad_field_is_refused(changed, word):
    with pytest.raises(ValidationError, match=word):
        request(**changed)


@given(st.binary(max_size=200))
def test_no_bytes_but_a_picture_are_one(data):
    with pytest.raises(PictureRefused):
        decode(data)


@given(arrays(np.uint8, (SIDE, SIDE)))
def test_a_picture_survives_its_png(picture):
    assert np.array_equal(picture_of(text(picture)), picture)


@given(
    arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.floats(-1e5, 1e5, width=32)),
    st.floats(0.5, 100, width=32),
)
@example(np.array([[2, 2**-24] + [0] * 12], np.float32), 0.5)
def test_a_picture_is_the_same_whatever_its_levels_meant(pixels, slope):
    picture = to_picture(pixels)
    assert (picture.shape, picture.dtype) == ((SIDE, SIDE), np.uint8)
    assume(np.ptp(pixels) > max(1, np.abs(pixels).max() / 10))  # else the product's own rounding is seen
    again = to_picture(pixels * np.float32(slope))
    assert np.abs(picture.astype(int) - again).max() <= 1


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (128, 128), (50, 61)])
def test_a_mask_finds_its_place_in_the_film(shape):
    pixels = np.zeros(shape, np.float32)
    top, left = shape[0] // 4, shape[1] // 4
    pixels[top : 3 * top, left : 3 * left] = 1
    found = restore((to_picture(pixels) > 127).astype(np.uint8), *shape)
    assert found.shape == shape
    assert (found == pixels).mean() > 0.93


def test_features_are_finite_and_come_before_the_pixels():
    for picture in (PICTURE, np.zeros_like(PICTURE), np.full_like(PICTURE, 255)):
        values = named(picture, None, "U", "U")
        assert values.dtype == np.float32
        assert len(values) == len(FEATURES)
        assert np.isfinite(values).all()
    row = inputs(PICTURE, 40, "F", "PA")
    assert np.array_equal(row[: len(FEATURES)], named(PICTURE, 40, "F", "PA"))
    assert np.array_equal(row[len(FEATURES) :].reshape(SIDE, SIDE), PICTURE)
    assert row[:3].tolist() == [40, 0, 0]


def test_size_and_device_are_tags_and_no_part_of_what_a_model_gets():
    """So a model from before they were kept is asked as it was."""
    asked = request(rows=2_000, columns=1_600, device_number=40_164)
    assert serving.tagged(asked).tolist() == [2_000, 1_600, 40_164]
    assert np.array_equal(serving.features({}, asked), inputs(PICTURE, 50, "M", "AP"))
    assert len(serving.features({}, asked)) == 10 + SIDE * SIDE


def test_what_is_not_known_of_an_acquisition_is_said_to_be_unknown():
    assert serving.tagged(request(columns=1_600)).tolist() == [UNKNOWN, 1_600, UNKNOWN]
    assert tags(float("nan"), None, 0).tolist() == [UNKNOWN, UNKNOWN, 0]
