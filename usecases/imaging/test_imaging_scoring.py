"""ONNX Runtime and PyTorch say the same, films do not disturb each other, and what is cut out goes back in place."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from orrery.usecase import Budget, silent
from usecases.imaging.features import FEATURES
from usecases.imaging.features import inputs as row_of
from usecases.imaging.model import fit
from usecases.imaging.network import modules
from usecases.imaging.phantom_strangers import hand, photograph, shin
from usecases.imaging.picture import SIDE, decode, encode, to_picture
from usecases.imaging.region import boxes, crop, place
from usecases.imaging.scoring import bits, score
from usecases.imaging.tables import inputs
from usecases.imaging.test_imaging_model import films, sealed, split_of
from usecases.imaging.watched import measures

SQUARES = st.tuples(st.integers(8, 90), st.integers(8, 90), st.integers(20, 36), st.integers(20, 36))


@pytest.fixture(scope="module")
def rows():
    return films(112)


@pytest.fixture(scope="module")
def model(rows, tmp_path_factory):
    budget = Budget(trials=1, seconds=6, seed=1, threads=1)
    return sealed(fit(split_of(rows, 64, 24), budget, silent, tmp_path_factory.mktemp("scoring") / "bundle"))


def inverted(picture):
    """A film whose bright is dark: the negative of one, as some devices send."""
    return encode(255 - decode(picture))


class ByTorch:
    """The model as the model server runs it."""

    def __init__(self, model):
        self.manifest, self.array, self.modules = model.manifest, model.array, modules(model.bundle)

    def run(self, file, values):
        with torch.inference_mode():
            return [output.numpy() for output in self.modules[file](torch.from_numpy(values))]


@pytest.mark.slow
def test_the_twins_agree(rows, model):
    one, other = (score(each, inputs(rows)) for each in (model, ByTorch(model)))
    for name in ("probability", "margin", "uncertainty", "ood", "area", "embedding"):
        np.testing.assert_allclose(one[name], other[name], rtol=0, atol=1e-4, err_msg=name)
    both = (one["mask"] & other["mask"]).sum()
    assert 2 * both / (one["mask"].sum() + other["mask"].sum()) >= 0.999
    assert np.abs(one["cam"].astype(int) - other["cam"]).max() <= 1


@pytest.mark.slow
def test_a_film_is_answered_the_same_alone_and_among_others(rows, model):
    together = score(model, inputs(rows))
    for place_of in (0, 17, 111):
        alone = score(model, inputs(rows)[place_of : place_of + 1])
        for name in ("probability", "ood", "area"):
            np.testing.assert_allclose(alone[name][0], together[name][place_of], atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_outputs_are_what_they_say(rows, model):
    outputs = score(model, inputs(rows))
    probability, learned = outputs["probability"], model.manifest.learned
    assert ((probability >= 0) & (probability <= 1)).all()
    np.testing.assert_allclose(outputs["margin"], probability - learned["operating_point"])
    assert (outputs["uncertainty"] <= 1).all()
    np.testing.assert_allclose(outputs["area"], outputs["mask"].mean(axis=(1, 2)))
    assert {outputs[name].dtype for name in ("mask", "cam")} == {np.dtype(np.uint8)}
    assert set(np.unique(outputs["mask"])) == {0, 1}
    assert outputs["cam"].max() == 255


@pytest.mark.slow
def test_a_bundle_from_before_there_was_an_embedding_answers_without_one(rows, model):
    older = ByTorch(model)
    older.manifest = model.manifest.model_copy(update={"files": {}})
    some = inputs(rows)[:4]
    expected = score(ByTorch(model), some)
    assert expected.pop("embedding").shape == (4, 16)
    found = score(older, some)
    assert found.keys() == expected.keys()
    np.testing.assert_array_equal(found["ood"], expected["ood"])


@pytest.mark.slow
def test_the_watch_sees_films_of_another_kind(rows, model):
    """Those learned from tell nothing of what is usual later, so both sides are of films that came after."""
    later = rows.iloc[88:]
    reference, window = (score(model, inputs(part)) for part in (later.iloc[::2], later.iloc[1::2]))
    assert not [each for each in measures(window, reference) if each.drifted]
    negative = score(model, inputs(later.assign(picture=[inverted(each) for each in later["picture"]])))
    assert {each.feature for each in measures(negative, score(model, inputs(later))) if each.drifted} == {
        "embedding", "out_of_distribution"
    }  # fmt: skip


@pytest.mark.slow
def test_what_the_named_features_say_changes_nothing(rows, model):
    """They are watched, and not seen."""
    changed = inputs(rows)
    changed[:, : len(FEATURES)] = 7
    np.testing.assert_array_equal(score(model, changed)["probability"], score(model, inputs(rows))["probability"])


@pytest.mark.slow
def test_what_is_no_chest_film_is_out_of_distribution(rows, model):
    draw = np.random.default_rng(0)
    pictures = [to_picture(kind(seed).pixels) for kind in (shin, hand, photograph) for seed in range(10)]
    pictures += list(draw.integers(0, 256, (10, SIDE, SIDE), dtype=np.uint8))
    pictures += [np.full((SIDE, SIDE), level, np.uint8) for level in (0, 1, 64, 128, 254, 255)]
    strange = score(model, np.array([row_of(picture, 50, "F", "PA") for picture in pictures]))
    assert all(np.isfinite(values).all() for values in strange.values())
    assert (strange["ood"] > 1).all()
    assert (score(model, inputs(rows))["ood"] > 1).mean() < 0.1


def test_doubt_is_counted_in_bits():
    assert bits(np.array([0.0, 0.5, 1.0])).tolist() == pytest.approx([0, 1, 0], abs=1e-9)


def lungs_in(left, top, wide, high):
    lungs = np.zeros((1, SIDE, SIDE), np.float32)
    lungs[0, top : top + high, left : left + wide] = 1
    return lungs


@settings(max_examples=60, deadline=None)
@given(square=SQUARES)
def test_the_box_is_a_square_in_the_picture_around_the_lungs(square):
    left, top, wide, high = square
    box = boxes(lungs_in(*square))[0]
    assert box[2] - box[0] == pytest.approx(box[3] - box[1])
    assert (box >= 0).all()
    assert (box <= SIDE).all()
    assert box[0] <= left + 0.02 * wide
    assert box[1] <= top + 0.02 * high
    assert box[2] >= left + 0.98 * wide
    assert box[3] >= top + 0.98 * high
    assert box[2] - box[0] <= 1.1 * max(wide, high)


@settings(max_examples=30, deadline=None)
@given(lungs=hnp.arrays(np.float32, (1, SIDE // 8, SIDE // 8), elements=st.floats(0, 1, width=32)))
def test_a_little_difference_in_the_lungs_is_a_little_one_in_the_box(lungs):
    large = np.kron(lungs, np.ones((8, 8), np.float32))
    if large.mean() > 0.03:
        moved = boxes(np.clip(large + np.float32(1e-6), 0, 1)) - boxes(large)
        assert np.abs(moved).max() < 0.01


def test_where_there_is_no_lung_or_all_is_the_box_is_the_whole_picture():
    for level in (0.0, 0.01, 1.0):
        assert boxes(np.full((1, SIDE, SIDE), level, np.float32)).tolist() == [[0, 0, SIDE, SIDE]]


@settings(max_examples=40, deadline=None)
@given(square=SQUARES, x=st.floats(0.25, 0.75), y=st.floats(0.25, 0.75))
def test_what_is_seen_in_a_region_is_drawn_where_it_lies(square, x, y):
    """A bright spot of the picture, found in its region, is put back at its own place."""
    left, top, wide, high = square
    column, row = round(left + x * wide), round(top + y * high)
    picture = np.full((1, SIDE, SIDE), 100, np.uint8)
    picture[0, row - 1 : row + 2, column - 1 : column + 2] = 200
    lungs = lungs_in(*square)
    where = boxes(lungs)
    seen = crop(picture, lungs, where, 80)
    back = place(np.maximum(seen, 0), where)[0]
    assert np.abs(np.argwhere(back == back.max()).mean(axis=0) - [row, column]).max() <= 2
    outside = np.ones((SIDE, SIDE), bool)
    low, high_ = np.floor(where[0, :2]).astype(int), np.ceil(where[0, 2:]).astype(int)
    outside[low[1] : high_[1], low[0] : high_[0]] = False
    assert (back[outside] == 0).all()


def test_exposure_and_what_lies_beside_the_lungs_change_nothing():
    draw = np.random.default_rng(1)
    lungs = lungs_in(30, 40, 50, 60)
    picture = draw.integers(60, 120, (1, SIDE, SIDE)).astype(np.float32)
    other = np.where(lungs > 0, 1.5 * picture + 20, 255).astype(np.float32)
    seen, again = (crop(each, lungs, boxes(lungs), 64) for each in (picture, other))
    np.testing.assert_allclose(seen, again, atol=1e-4)


def test_nothing_is_made_of_nothing():
    even = np.full((2, SIDE, SIDE), 77, np.uint8)
    none = np.zeros((2, SIDE, SIDE), np.float32)
    assert not crop(even, none, boxes(none), 64).any()
    assert crop(even[:0], none[:0], boxes(none[:0]), 64).shape == (0, 64, 64)
    assert place(np.ones((0, 8, 8)), boxes(none[:0])).shape == (0, SIDE, SIDE)
