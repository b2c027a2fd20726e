"""A fit learns what is there, gives the same twice, and goes on where it was killed."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from orrery.adapters.model_server import load_model
from orrery.bundle import Bundle, Feature, Golden
from orrery.usecase import Budget, Split, silent
from usecases.imaging.epochs import Plan, repeatable, train
from usecases.imaging.features import FEATURES
from usecases.imaging.film_table import mask_of, table
from usecases.imaging.metrics import measure
from usecases.imaging.model import Trained, better, fit
from usecases.imaging.phantom import draw
from usecases.imaging.picture import encode, to_picture
from usecases.imaging.scoring import score
from usecases.imaging.tables import features, inputs

FIRST = datetime(2025, 1, 1, tzinfo=UTC)
QUICK = Budget(trials=1, seconds=float("inf"), seed=3, threads=1)


def film(number, *, masks=True):
    """A phantom; if it is ill, as plainly as few are: half of a lung is white."""
    phantom = draw(90_000 + number)
    pixels = phantom.pixels.copy()
    if phantom.label:
        rows, columns = np.nonzero(phantom.lungs)
        side = (np.arange(pixels.shape[1]) < columns.mean()) == (number % 3 > 0)
        below = np.arange(pixels.shape[0])[:, None] > rows.mean()
        pixels[phantom.lungs & side & below] += 0.35
    return {
        "film_id": f"film-{number}", "study_id": f"study-{number}", "patient_id": f"patient-{number}",
        "taken_at": FIRST + timedelta(days=number), "age": phantom.age, "sex": phantom.sex, "view": phantom.view,
        "picture": encode(to_picture(np.clip(pixels, 0, 1))), "mask": mask_of(phantom.lungs) if masks else b"",
        "label": phantom.label, "finding": phantom.finding, "origin": "phantoms", "part": "",
    }  # fmt: skip


def films(count, **options):
    raw = table(film(number, **options) for number in range(count))
    named = features(raw)["film_features"]
    return raw.assign(**{name: named[name].to_numpy() for name in FEATURES})


def split_of(rows, learn=64, check=24):
    train_rows = rows.iloc[: learn + check]
    return Split(train_rows, ((train_rows.iloc[:learn], train_rows.iloc[learn:]),), rows.iloc[learn + check :])


def sealed(fitted):
    about = {
        "use_case": "imaging", "created_at": FIRST, "trained_from": FIRST, "trained_to": FIRST, "as_of": FIRST,
        "rows": 1, "data_version": "d", "git_commit": "c", "lock_hash": "l", "reference": {},
        "features": [Feature(name=name) for name in FEATURES], "learned": dict(fitted.learned),
        "golden": Golden(inputs=[], outputs={}),
    }  # fmt: skip
    Bundle.write(fitted.folder, about)
    return load_model(fitted.folder)


def weights(fitted):
    return {path.name: load_file(path) for path in sorted(fitted.folder.glob("*.safetensors"))}


def assert_same(one, other):
    assert one.keys() == other.keys() == {"classifier.safetensors", "segmentation.safetensors"}
    for file, values in one.items():
        for name, value in values.items():
            assert torch.equal(value, other[file][name]), f"{file}: {name}"


@pytest.fixture(scope="module")
def rows():
    return films(128)


@pytest.fixture(scope="module")
def fitted(rows, tmp_path_factory):
    return fit(split_of(rows), QUICK, silent, tmp_path_factory.mktemp("first") / "bundle")


@pytest.mark.slow
def test_what_is_plain_is_learned_and_drawn(rows, fitted):
    test = split_of(rows).test
    found = measure(test, score(sealed(fitted), inputs(test)))(np.ones(len(test)))
    assert found["auc"] > 0.85
    assert found["dice"] > 0.9
    assert fitted.parameters["architecture"] == "cnn"
    assert fitted.metrics["validation_dice"] > 0.9
    assert fitted.metrics["randomised_map_similarity"] < 0.5
    assert {"validation_auc_header_alone", "validation_auc_sex_F"} <= set(fitted.metrics)
    assert not fitted.folder.with_name("checkpoints").exists()
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in fitted.plots.values())


@pytest.mark.slow
def test_a_killed_fit_goes_on_and_ends_as_if_nothing_had_been(rows, fitted, tmp_path):
    """The second run begins with what is missing, and the weights are those of a fit that was not killed."""
    told = []

    def until_killed(stage, done, total, note=""):
        told.append((stage, done))
        if (stage, done) == ("cnn", 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(split_of(rows), QUICK, until_killed, tmp_path / "bundle")
    assert ("lungs", 1) in told
    told.clear()
    again = fit(split_of(rows), QUICK, lambda stage, done, *_: told.append((stage, done)), tmp_path / "bundle")
    assert next(done for stage, done in told if stage == "cnn") == 4
    assert ("lungs", 1) not in told
    assert_same(weights(fitted), weights(again))
    assert again.learned == fitted.learned


@pytest.mark.slow
def test_labels_are_those_of_the_training_rows_and_no_masks_mean_the_whole_picture(tmp_path):
    rows = films(128, masks=False)
    split = split_of(rows)
    wrong = Split(split.train.assign(label=1 - split.train["label"]), split.folds, split.test)
    flipped = fit(wrong, Budget(trials=1, seconds=20, seed=3, threads=1), silent, tmp_path / "bundle")
    assert flipped.learned["region"] == "whole"
    assert sorted(path.name for path in flipped.folder.glob("*.onnx")) == ["classifier.onnx"]
    outputs = score(sealed(flipped), inputs(split.test))
    found = measure(split.test, outputs)(np.ones(len(split.test)))
    assert found["auc"] < 0.35
    assert "dice" not in found
    assert (outputs["area"] == 1).all()


def small(plan, data, **options):
    network = torch.nn.Linear(4, 1)
    inputs, wanted = data

    def loss(wrapped, batch, chance):
        return ((wrapped(inputs[batch]) - wanted[batch]) ** 2).mean()

    def judge(current):
        return float(((current(inputs) - wanted) ** 2).mean()), ""

    return network, train(network, plan, loss, judge, **options)


@pytest.fixture
def line():
    inputs = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    return inputs, inputs @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]])


def test_training_stops_when_nothing_better_comes(line):
    plan = Plan(films=64, epochs=60, rate=0.0, seed=1, patience=3)
    _, course = small(plan, line)
    assert len(course.losses) == 4
    assert course.best == 0


def test_training_ends_in_about_the_time_it_has(line):
    _, course = small(Plan(films=64, epochs=100_000, rate=1e-3, seed=1, seconds=0.3, patience=100_000), line)
    assert 0.3 <= course.seconds < 3
    assert course.held_out[-1] < course.held_out[0]


def test_a_checkpoint_of_another_training_is_not_used(line, tmp_path):
    known = {"films": 64, "rate": 0.05, "seed": 1, "checkpoint": tmp_path / "it.safetensors"}
    small(Plan(epochs=5, key="this", **known), line)
    told = []
    small(Plan(epochs=5, key="other", **known), line, progress=lambda _, done, *__: told.append(done))
    assert told[0] == 1


def test_the_same_seed_gives_the_same_weights_and_another_does_not(line):
    def trained(seed):
        with repeatable(seed, 1):
            return small(Plan(films=64, epochs=3, rate=0.05, seed=seed), line)[0].weight.detach()

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_second_network_is_chosen_when_it_is_better_beyond_the_interval():
    draw = np.random.default_rng(0)
    losses = draw.exponential(0.4, 300)

    def named(name, values):
        return Trained(name, None, None, None, 1.0, values)

    first = named("cnn", losses)
    assert better([first, named("plainly better", losses - 0.1 * draw.random(300))], 1).architecture == "plainly better"
    assert better([first, named("by a hair", losses - draw.normal(0.001, 0.5, 300))], 1).architecture == "cnn"
    assert better([first, named("worse", losses + 0.1)], 1).architecture == "cnn"
