"""A deep ranker: a tower for the user, a tower for the candidate, their product, and a linear part beside it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from orrery.usecase import Array, Budget, Progress
from usecases.recommendation.listwise import Lists
from usecases.recommendation.ranking_features import CANDIDATE, INPUTS, USER
from usecases.recommendation.scoring import RANKER

_HIDDEN, _MEETING = 16, 8
_DROPOUT = 0.2
_BOUND = 4.0
_BATCH = 16
_RATE, _DECAY = 2e-3, 1e-3
MOST_EPOCHS = 20
_PATIENCE = 5
_OPSET = 17
_IR = 9


class TwoTowers(nn.Module):
    """Inputs, float32, shape (..., INPUTS), to scores, shape (...)."""

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(self, inputs: Array) -> None:
        super().__init__()
        spread = inputs.std(axis=0)
        self.register_buffer("mean", torch.from_numpy(inputs.mean(axis=0)))
        self.register_buffer("spread", torch.from_numpy(np.where(spread > 1e-6, spread, 1).astype(np.float32)))
        self.user, self.candidate = _tower(len(USER)), _tower(len(CANDIDATE))
        self.linear = nn.Linear(len(CANDIDATE), 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The scores; the source that named a candidate is among the inputs, so that a layer's weights embed it."""
        standard = torch.clamp((inputs - self.mean) / self.spread, -_BOUND, _BOUND)
        candidate, user = standard[..., : len(CANDIDATE)], standard[..., len(CANDIDATE) :]
        met = (self.candidate(candidate) * self.user(user)).sum(dim=-1)
        scores: torch.Tensor = met + self.linear(candidate).squeeze(-1)
        return scores


def _tower(inputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, _HIDDEN), nn.ReLU(), nn.Dropout(_DROPOUT), nn.Linear(_HIDDEN, _MEETING))


@dataclass(frozen=True)
class Trained:
    """A network, and how it came to be."""

    network: TwoTowers
    epochs: int
    curve: Array
    """mean nDCG after each epoch on the lists that said when to stop, shape (epochs tried,); empty without such"""


def fit_deep(
    lists: Lists, budget: Budget, progress: Progress, *, stop_on: Lists | None = None, epochs: int = MOST_EPOCHS
) -> Trained:
    """Train for `epochs`, or until `stop_on` has not been ranked better for a few; then the best epoch's network."""
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(budget.seed)
        return _fit(lists, stop_on, epochs, progress)


@contextmanager
def _one_thread() -> Iterator[None]:
    """The network is so small that threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _fit(lists: Lists, stop_on: Lists | None, epochs: int, progress: Progress) -> Trained:
    network = TwoTowers(lists.inputs[lists.there])
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    found = lists[np.flatnonzero((lists.relevant & lists.there).any(axis=1))]
    inputs, there = torch.from_numpy(found.inputs), torch.from_numpy(found.there)
    relevant = torch.from_numpy(found.relevant.astype(np.float32))
    best, curve, stage = deepcopy(network), [], "deep ranker"
    for epoch in range(epochs):
        network.train()
        for batch in torch.split(torch.randperm(len(found)), _BATCH):
            optimizer.zero_grad()
            loss: Any = _loss(network(inputs[batch]), relevant[batch], there[batch])
            loss.backward()
            optimizer.step()
        network.eval()
        if stop_on is not None:
            curve.append(float(stop_on.ndcg(deep_scores(network, stop_on)).mean()))
            if curve[-1] == max(curve):
                best = deepcopy(network)
            if epoch - int(np.argmax(curve)) >= _PATIENCE:
                break
        progress(stage, epoch + 1, epochs, f"nDCG@10 {max(curve):.4f}" if curve else "")
    progress(stage, epochs, epochs)
    if stop_on is None:
        return Trained(network.eval(), epochs, np.array(curve))
    return Trained(best.eval(), int(np.argmax(curve)) + 1, np.array(curve))


def _loss(scores: torch.Tensor, relevant: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """Listwise softmax: the cross entropy of the list's chances with those of its relevant candidates."""
    chances = scores.masked_fill(~there, -torch.inf).log_softmax(dim=1).masked_fill(~there, 0.0)
    return -((relevant * chances).sum(dim=1) / relevant.sum(dim=1)).mean()


def deep_scores(network: TwoTowers, lists: Lists) -> Array:
    """float32, shape (queries, candidates)."""
    with torch.no_grad():
        scores: Array = network(torch.from_numpy(lists.inputs)).numpy()
    return scores


def export_deep(network: TwoTowers, folder: Path) -> None:
    """Write the graph from inputs, shape (n, INPUTS), to scores; by hand, as the exporter needs one more package."""
    constants = {
        "low": np.float32(-_BOUND),
        "high": np.float32(_BOUND),
        "sizes": np.array([len(CANDIDATE), len(USER)], np.int64),
        "across": np.array([1], np.int64),
        **{name: value.detach().numpy() for name, value in network.state_dict().items()},
    }
    nodes = [
        _node("Sub", ["inputs", "mean"], "centred"),
        _node("Div", ["centred", "spread"], "scaled"),
        _node("Clip", ["scaled", "low", "high"], "standard"),
        helper.make_node("Split", ["standard", "sizes"], ["of_candidate", "of_user"], axis=1),
        *_tower_nodes("candidate", "of_candidate"),
        *_tower_nodes("user", "of_user"),
        _node("Mul", ["candidate", "user"], "meeting"),
        _node("ReduceSum", ["meeting", "across"], "met", keepdims=1),
        _node("Gemm", ["of_candidate", "linear.weight", "linear.bias"], "beside", transB=1),
        _node("Add", ["met", "beside"], "scores"),
    ]
    graph = helper.make_graph(
        nodes,
        "ranker",
        [helper.make_tensor_value_info("inputs", TensorProto.FLOAT, [None, len(INPUTS)])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    onnx.checker.check_model(proto)
    (folder / RANKER).write_bytes(proto.SerializeToString())


def _tower_nodes(name: str, source: str) -> list[Any]:
    return [
        _node("Gemm", [source, f"{name}.0.weight", f"{name}.0.bias"], f"{name}_hidden", transB=1),
        _node("Relu", [f"{name}_hidden"], f"{name}_active"),
        _node("Gemm", [f"{name}_active", f"{name}.3.weight", f"{name}.3.bias"], name, transB=1),
    ]


def _node(kind: str, sources: Sequence[str], target: str, **attributes: Any) -> Any:
    return helper.make_node(kind, list(sources), [target], **attributes)
