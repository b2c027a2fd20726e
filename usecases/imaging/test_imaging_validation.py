"""Subgroups are counted apart, a telling header is noticed, and maps hang on what was learned."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from usecases.imaging import classification, fit_plots
from usecases.imaging.epochs import Plan, repeatable
from usecases.imaging.network import CNN
from usecases.imaging.plots import plots
from usecases.imaging.test_imaging_model import films
from usecases.imaging.validation import header_auc, subgroups

ILL = [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]


def people(**columns):
    count = len(columns["label"])
    return pd.DataFrame({"sex": "F", "view": "PA", "age": 50.0} | columns, index=range(count))


def said(probability, point=0.5):
    return {"probability": np.array(probability), "margin": np.array(probability) - point}


def test_subgroups_have_figures_of_their_own():
    """All is right for women, all is wrong for men; the four films of the old are too few to tell."""
    right = [0.9] * 5 + [0.1] * 5
    sexes, ages = np.repeat(["F", "M", "O"], [10, 10, 4]), np.repeat([30.0, 50.0, 80.0], [10, 10, 4])
    rows = people(label=ILL + ILL + [1, 1, 0, 0], sex=sexes, age=ages)
    found = subgroups(rows, said([*right, *right[::-1], 0.5, 0.5, 0.5, 0.5]))
    assert set(found) == {"sex F", "sex M", "age 0-39", "age 40-64", "view PA"}
    women, men = found["sex F"], found["sex M"]
    assert (women.films, women.auc, women.sensitivity, women.specificity) == (10, 1, 1, 1)
    assert (men.films, men.auc, men.sensitivity, men.specificity) == (10, 0, 0, 0)
    assert found["view PA"].auc == pytest.approx(0.5, abs=0.05)
    assert found["view PA"].low < found["view PA"].auc < found["view PA"].high


def test_a_header_that_tells_the_label_is_noticed():
    draw = np.random.default_rng(2)
    labels = draw.integers(0, 2, 400)
    telling = people(label=labels, view=np.where(labels ^ (draw.random(400) < 0.1), "AP", "PA"))
    silent = people(label=labels, view=draw.choice(["AP", "PA"], 400), age=draw.normal(50, 9, 400))
    assert header_auc(telling) > 0.85
    assert 0.4 < header_auc(silent) < 0.6
    assert header_auc(people(label=labels, age=np.where(labels == 1, 80.0, 20.0))) > 0.99


def test_without_a_header_or_without_two_classes_there_is_no_such_figure():
    unknown = people(label=ILL, sex="U", view="U", age=np.nan)
    assert np.isnan(header_auc(unknown))
    assert np.isnan(header_auc(people(label=[1] * 20, age=np.arange(20.0))))
    some = people(label=ILL * 3, age=[np.nan, 40.0, 60.0, np.nan, 50.0] * 6)
    assert 0 <= header_auc(some) <= 1


def spotted(count):
    """Regions with noise, and of every other one a bright spot."""
    draw = np.random.default_rng(4)
    regions = draw.normal(0, 0.5, (count, 40, 40)).astype(np.float32)
    labels, places = np.arange(count) % 2, draw.integers(6, 34, (count, 2))
    for region, label, (row, column) in zip(regions, labels, places, strict=True):
        region[row - 4 : row + 5, column - 4 : column + 5] += 3 * label
    return regions, labels, places


@pytest.fixture(scope="module")
def trained():
    regions, labels, places = spotted(160)
    with repeatable(0, 1):
        plan = Plan(films=120, epochs=12, rate=4e-3, seed=0)
        held_out = regions[120:], labels[120:]
        network, _ = classification.fit(CNN, regions[:120], labels[:120], held_out, plan, lambda *_: None)
    return network, regions[120:], labels[120:], places[120:]


def test_the_map_shows_what_decided_and_a_random_network_shows_something_else(trained, tmp_path):
    network, regions, labels, places = trained
    told = classification.answers(network, regions)
    assert roc_auc_score(labels, told.logits) > 0.98
    cell = regions.shape[1] / told.cams.shape[1]
    ill = np.flatnonzero(labels)
    tops = [np.unravel_index(told.cams[one].argmax(), told.cams[one].shape) for one in ill]
    apart = np.abs((np.array(tops) + 0.5) * cell - places[ill]).max(axis=1)
    assert np.median(apart) <= 1.5 * cell
    random = classification.answers(fit_plots.shaken(network), regions)
    assert fit_plots.similarity(told.cams[ill], told.cams[ill]) == pytest.approx(1)
    assert fit_plots.similarity(told.cams[ill], random.cams[ill]) < 0.5
    path = fit_plots.randomised(network, regions, labels, tmp_path / "maps.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_map_is_the_one_of_grad_cam(trained):
    """By autograd: features weighted by the mean gradient of the logit, what is below zero cut off (Selvaraju 2017)."""
    network, regions = trained[0], torch.from_numpy(trained[1][:8])[:, None]
    logits, cams, _ = network(regions)
    maps = network.features(regions)
    maps.retain_grad()
    pooled = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)
    network.head(pooled).sum().backward()
    weighted = (maps * maps.grad.sum((2, 3), keepdim=True)).sum(1).relu()
    assert torch.allclose(network.head(pooled)[:, 0], logits, atol=1e-4)
    assert torch.allclose(weighted, cams, rtol=1e-3, atol=1e-4)


def test_the_pictures_of_a_release_are_drawn(tmp_path):
    rows = films(40)
    draw = np.random.default_rng(0)
    probability = np.clip(rows["label"] * 0.4 + draw.random(40) * 0.6, 0, 1).to_numpy()
    masks = np.zeros((40, 128, 128), np.uint8)
    masks[:, 30:90, 20:100] = 1
    outputs = said(probability) | {"ood": draw.random(40) * 1.2, "mask": masks, "cam": masks * np.uint8(200)}
    drawn = plots(rows, outputs, tmp_path / "plots")
    assert {"discrimination", "subgroups", "films", "strangeness"} <= set(drawn)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn.values())
