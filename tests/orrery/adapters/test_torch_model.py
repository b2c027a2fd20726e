"""A bundle run by PyTorch: the same questions as to ONNX Runtime, the same answers."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch_servers import INPUTS, serving, spots_bundle
from toy.spots.network import modules

from orrery.adapters.model_server import check_golden, load_model
from orrery.adapters.torch_model import load_torch_model
from orrery.bundle import BundleRefused


@pytest.fixture
def bundle(tmp_path):
    return spots_bundle(tmp_path / "spots", 2.0)


@pytest.fixture
def model(bundle):
    return load_torch_model(bundle, modules(bundle))


def test_it_answers_as_onnx_runtime_does(bundle, model):
    rows = np.random.default_rng(7).random((5, INPUTS), np.float32)
    twin = load_model(bundle.folder)
    for found, expected in zip(model.run("spots.onnx", rows), twin.run("spots.onnx", rows), strict=True):
        assert (found.dtype, found.shape) == (np.float32, expected.shape)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    check_golden(model, serving.score, serving.tolerance)


def test_rows_that_may_not_be_written_to_are_scored(model):
    rows = np.zeros((1, INPUTS), np.float32)
    rows.setflags(write=False)
    assert model.run("spots.onnx", rows)[0] == 0.5


def test_a_module_of_one_output_and_that_it_is_made_for_answers(bundle):
    class Doubling(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.slope = torch.nn.Parameter(torch.tensor(2.0))

        def forward(self, rows):
            return rows * self.slope if not self.training else rows

    (output,) = load_torch_model(bundle, {"spots.onnx": Doubling()}).run("spots.onnx", np.ones((2, 3), np.float32))
    np.testing.assert_array_equal(output, np.full((2, 3), 2, np.float32))


def test_everything_else_is_the_bundle(bundle, model):
    assert model.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert model.manifest == bundle.manifest
    assert model.array("weights.npy").shape == (INPUTS, 1)
    assert not model.array("weights.npy").flags.writeable
    assert model.path("spots.onnx") == bundle.folder / "spots.onnx"
    assert model.derived("twice", lambda _: [1]) is model.derived("twice", lambda _: [1])
    with pytest.raises(BundleRefused):
        model.text("nothing.txt")


def test_several_threads_at_once(model):
    rows = np.random.default_rng(7).random((40, 1, INPUTS), np.float32)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda row: model.run("spots.onnx", row)[0], rows))
    np.testing.assert_allclose(np.concatenate(found), model.run("spots.onnx", rows[:, 0])[0], atol=1e-6)
