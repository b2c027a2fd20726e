"""Writes LightGBM's trees as a graph that answers as they do, and as text, by which they are explained."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orrery.errors import OrreryError
from orrery.usecase import Array

if TYPE_CHECKING:
    import lightgbm as lgb

_TOLERANCE = 1e-5
_OPSET = 15
"""the newest that onnxmltools writes"""


class ExportRefused(OrreryError):
    """The exported graph does not say what the trained model says."""


def write_trees(booster: "lgb.Booster", graph: Path, probe: Array, text: Path | None = None) -> None:
    """Write the graph, with one output, and the text if a place for it is given.

    The output is the score, shape (n, 1); of a classifier the probabilities, shape (n, 2). Raises ExportRefused when it
    differs from the booster's on `probe`, float32, shape (n, inputs).
    """
    import onnxruntime
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    trees = in_float32(booster)
    shape = [("inputs", FloatTensorType([None, trees.num_feature()]))]
    made = convert_lightgbm(trees, name=graph.stem, initial_types=shape, zipmap=False, target_opset=_OPSET)
    if len(made.graph.output) > 1:
        del made.graph.output[0]  # the label: thresholds are the use case's, and its declared shape is wrong
    graph.write_bytes(made.SerializeToString())
    if text:
        text.write_text(trees.model_to_string())
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    said = session.run(None, {"inputs": probe})[0][:, -1]
    off = np.abs(said - np.asarray(booster.predict(probe, num_threads=1))).max(initial=0)
    if not off <= _TOLERANCE:
        raise ExportRefused(
            f"the exported {graph.stem} is off by {off:.2g}; check the versions of onnxmltools and lightgbm"
        )


def in_float32(booster: "lgb.Booster") -> "lgb.Booster":
    """The same answers for inputs of float32, with thresholds that a graph in float32 can hold.

    A threshold rounded to the nearest float32 may end above an input that lay above it, on the other side.
    """
    import lightgbm as lgb

    def down(line: re.Match[str]) -> str:
        exact = np.array(line[1].split(), dtype=np.float64)
        near = exact.astype(np.float32)
        held = np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float64)
        return "threshold=" + " ".join(f"{value:.17g}" for value in held)

    text = re.sub(r"^tree_sizes=.*\n", "", booster.model_to_string(), flags=re.MULTILINE)  # they are in bytes
    return lgb.Booster(model_str=re.sub(r"^threshold=(.+)$", down, text, flags=re.MULTILINE))
