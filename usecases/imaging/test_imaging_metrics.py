"""Metrics by hand and by scikit-learn; a row of weight two counts as two rows."""

import time

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from usecases.imaging.calibration import calibration_error, log_loss, operating_point, sigmoid, temperature
from usecases.imaging.metrics import energy_inside, measure
from usecases.imaging.picture import SIDE, encode


def films(labels, masks=None):
    packed = [b""] * len(labels) if masks is None else [encode((mask * 255).astype(np.uint8)) for mask in masks]
    return pd.DataFrame({"label": np.array(labels, np.int8), "mask": packed})


def said(probability, point=0.5, **more):
    probability = np.array(probability, float)
    blank = np.zeros((len(probability), SIDE, SIDE), np.uint8)
    return {
        "probability": probability, "margin": probability - point, "ood": np.zeros(len(probability)), "mask": blank,
        "cam": blank,
    } | more  # fmt: skip


def half(*, left):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[:, : SIDE // 2] = left
    mask[:, SIDE // 2 :] = not left
    return mask


@pytest.mark.parametrize("decimals", [1, 6])
def test_ranking_is_that_of_scikit_learn_with_and_without_ties(decimals):
    draw = np.random.default_rng(3)
    labels, weights = draw.integers(0, 2, 200), draw.integers(0, 4, 200).astype(float)
    probability = np.round(np.clip(draw.random(200) * 0.6 + labels * 0.3, 0, 1), decimals)
    found = measure(films(labels), said(probability))(weights)
    assert found["auc"] == pytest.approx(roc_auc_score(labels, probability, sample_weight=weights))
    assert found["ap"] == pytest.approx(average_precision_score(labels, probability, sample_weight=weights))
    assert found["brier"] == pytest.approx(brier_score_loss(labels, probability, sample_weight=weights))


def test_sensitivity_and_specificity_are_those_at_the_operating_point():
    found = measure(films([1, 1, 0, 0, 0]), said([0.35, 0.2, 0.1, 0.4, 0.6], point=0.3))(np.ones(5))
    assert found["sensitivity"] == 0.5
    assert found["specificity"] == pytest.approx(1 / 3)
    assert found["accuracy"] == pytest.approx(2 / 5)


def test_a_film_of_weight_two_counts_twice():
    labels, probability = [1, 0, 1, 0], [0.9, 0.4, 0.3, 0.2]
    once, twice = films(labels), films([*labels, 1, 0])
    weighted = measure(once, said(probability))(np.array([1.0, 1, 2, 2]))
    assert weighted == pytest.approx(measure(twice, said([*probability, 0.3, 0.2]))(np.ones(6)))


def test_without_masks_there_is_nothing_to_say_of_lungs():
    assert not {"dice", "cam_in_lungs"} & set(measure(films([0, 1]), said([0.1, 0.9]))(np.ones(2)))


def test_dice_and_the_energy_of_the_map_inside_the_lungs():
    true = np.array([half(left=True), half(left=True)])
    cam = np.zeros((2, SIDE, SIDE), np.uint8)
    cam[0, 0, 0], cam[0, 0, -1] = 20, 10
    outputs = said([0.1, 0.9], mask=np.array([half(left=True), half(left=False)], np.uint8), cam=cam[::-1])
    found = measure(films([0, 1], true), outputs)(np.ones(2))
    assert found["dice"] == 0.5
    assert found["cam_in_lungs"] == pytest.approx(400 / 500)
    assert energy_inside(cam, true).tolist() == [pytest.approx(0.8), 0.0]


def test_metrics_of_one_class_are_not_numbers_rather_than_wrong():
    assert np.isnan(measure(films([1, 1]), said([0.2, 0.9]))(np.ones(2))["auc"])


def test_a_bootstrap_is_quick():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, 400)
    masks = draw.random((400, SIDE, SIDE)) < 0.3
    metrics = measure(films(labels, masks), said(draw.random(400), mask=masks.astype(np.uint8)))
    began = time.process_time()
    for _ in range(200):
        metrics(draw.integers(0, 3, 400).astype(float))
    assert time.process_time() - began < 3


def test_calibration_error_by_hand():
    """.1 and .1 in one bin with one of two right, .8 alone: (2 * |.1 - .5| + |.8 - 1|) / 3."""
    probability, labels = np.array([0.1, 0.1, 0.8]), np.array([0, 1, 1])
    assert calibration_error(probability, labels, np.ones(3)) == pytest.approx((2 * 0.4 + 0.2) / 3)
    assert calibration_error(probability, labels, np.array([0.0, 0.0, 5.0])) == pytest.approx(0.2)
    assert calibration_error(np.array([0.0, 1.0]), np.array([0, 1]), np.ones(2)) == 0


def test_the_temperature_finds_how_much_too_sure_logits_are():
    draw = np.random.default_rng(5)
    honest = draw.normal(0, 2, 20_000)
    labels = (draw.random(20_000) < sigmoid(honest)).astype(int)
    assert temperature(3 * honest, labels) == pytest.approx(3, rel=0.05)
    assert temperature(honest / 2, labels) == pytest.approx(0.5, rel=0.05)
    assert log_loss(np.array([0.0, 100.0, -100.0]), np.array([1, 1, 1])).tolist() == pytest.approx([np.log(2), 0, 100])


def test_the_operating_point_has_the_most_sensitivity_and_specificity():
    probability, labels = np.array([0.1, 0.2, 0.3, 0.4, 0.9]), np.array([0, 0, 1, 0, 1])
    point = operating_point(probability, labels)
    assert 0.2 < point <= 0.3
    assert 0 < operating_point(np.array([0.5, 0.5]), np.array([0, 1])) < 1
