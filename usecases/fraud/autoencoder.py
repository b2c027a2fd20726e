"""A small autoencoder of ordinary transactions: what it cannot reconstruct is new to it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from orrery.usecase import Array, Budget, Progress

_WIDTHS = (12, 5, 12)
_ROWS = 200_000
_EPOCHS = 6
_BATCH = 1024
_BOUND = 8.0
_OPSET = 17
_IR = 9
_SHARES = (*np.linspace(0, 0.99, 100).round(2).tolist(), 0.995, 0.999, 0.9999, 1.0)


class Autoencoder(nn.Module):
    """Inputs, float32, shape (n, inputs), to the mean squared error of their standardised logarithms, shape (n,)."""

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(self, inputs: Array) -> None:
        super().__init__()
        logs = np.sign(inputs) * np.log1p(np.abs(inputs))
        spread = logs.std(axis=0)
        self.register_buffer("mean", torch.from_numpy(logs.mean(axis=0)))
        self.register_buffer("spread", torch.from_numpy(np.where(spread > 0, spread, 1).astype(np.float32)))
        widths = (inputs.shape[1], *_WIDTHS, inputs.shape[1])
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def standardise(self, inputs: torch.Tensor) -> torch.Tensor:
        """Signed logarithms, centred and scaled, bounded."""
        logs = torch.sign(inputs) * torch.log1p(torch.abs(inputs))
        return torch.clamp((logs - self.mean) / self.spread, -_BOUND, _BOUND)

    def forward(self, standard: torch.Tensor) -> torch.Tensor:
        """The reconstruction error of standardised rows."""
        hidden = standard
        for layer in self.layers[:-1]:
            hidden = torch.relu(layer(hidden))
        return torch.mean((self.layers[-1](hidden) - standard) ** 2, dim=1)


def fit_autoencoder(inputs: Array, budget: Budget, progress: Progress) -> Autoencoder:
    """Train on ordinary rows, float32, shape (n, inputs); a seeded sample of them when there are many."""
    with _one_thread():
        return _fit(inputs, budget, progress)


@contextmanager
def _one_thread() -> Iterator[None]:
    """The network is so small that threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _fit(inputs: Array, budget: Budget, progress: Progress) -> Autoencoder:
    draw = np.random.default_rng(budget.seed)
    sample = inputs[np.sort(draw.permutation(len(inputs))[:_ROWS])]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(budget.seed)
        model = Autoencoder(sample)
    standard = model.standardise(torch.from_numpy(sample))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _EPOCHS)
    for epoch in range(_EPOCHS):
        total = 0.0
        for batch in torch.split(torch.from_numpy(draw.permutation(len(sample))), _BATCH):
            optimizer.zero_grad()
            loss = model(standard[batch]).mean()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        schedule.step()
        progress("autoencoder", epoch + 1, _EPOCHS, f"reconstruction error {total / len(sample):.4f}")
    return model.eval()


def reconstruction_error(model: Autoencoder, inputs: Array) -> Array:
    """The error of each row, float32, shape (n,)."""
    with torch.no_grad():
        error: Array = model(model.standardise(torch.from_numpy(inputs))).numpy()
    return error


def fit_novelty(errors: Array) -> dict[str, list[float]]:
    """Errors of ordinary rows that the autoencoder has not seen, at fixed shares of them."""
    return {"errors": np.quantile(errors.astype(np.float64), _SHARES).tolist(), "shares": list(_SHARES)}


def export(model: Autoencoder, path: Path) -> None:
    """Write the graph from inputs to errors; by hand, since it is small and the exporter needs one more package."""
    constants = {
        "one": np.float32(1),
        "low": np.float32(-_BOUND),
        "high": np.float32(_BOUND),
        **{name: value.detach().numpy() for name, value in model.state_dict().items()},
    }
    nodes = [
        _node("Abs", ["inputs"], "size"),
        _node("Add", ["size", "one"], "shifted"),
        _node("Log", ["shifted"], "log"),
        _node("Sign", ["inputs"], "sign"),
        _node("Mul", ["sign", "log"], "signed"),
        _node("Sub", ["signed", "mean"], "centred"),
        _node("Div", ["centred", "spread"], "scaled"),
        _node("Clip", ["scaled", "low", "high"], "standard"),
        *_layers(len(model.layers)),
        _node("Sub", ["reconstruction", "standard"], "difference"),
        _node("Mul", ["difference", "difference"], "squared"),
        _node("ReduceMean", ["squared"], "error", axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "autoencoder",
        [helper.make_tensor_value_info("inputs", TensorProto.FLOAT, [None, model.layers[-1].out_features])],
        [helper.make_tensor_value_info("error", TensorProto.FLOAT, [None])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString())


def _layers(count: int) -> list[Any]:
    nodes, source = [], "standard"
    for layer in range(count):
        last = layer == count - 1
        target = "reconstruction" if last else f"linear{layer}"
        weights = [f"layers.{layer}.weight", f"layers.{layer}.bias"]
        nodes.append(_node("Gemm", [source, *weights], target, transB=1))
        if not last:
            nodes.append(_node("Relu", [target], f"hidden{layer}"))
            source = f"hidden{layer}"
    return nodes


def _node(kind: str, sources: Sequence[str], target: str, **attributes: Any) -> Any:
    return helper.make_node(kind, list(sources), [target], **attributes)
