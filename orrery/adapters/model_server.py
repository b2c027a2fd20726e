"""Runs a verified bundle in this process: ONNX Runtime for answers, TreeSHAP for their reasons."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from orrery.adapters.tree_shap import TreeShap
from orrery.bundle import Bundle, BundleRefused, Manifest
from orrery.usecase import Array, Made, Model, Outputs

TOLERANCE, LEVELS_TOLERANCE = 1e-6, 5e-4


class GoldenMismatch(BundleRefused):
    """The bundle does not answer here as it answered where it was trained."""


def _session(path: Path) -> Any:
    """One thread and no spinning: rows are small, and an idle pool would burn the cores of its neighbours."""
    import onnxruntime as ort  # who only reads a bundle, as the model server does, need not have it

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class LoadedModel:
    """A `Model` whose graphs are in memory. Safe to use from several threads."""

    bundle: Bundle
    sessions: dict[str, tuple[Any, str]]
    """file -> session and the name of its input"""
    arrays: dict[str, Array] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def manifest(self) -> Manifest:
        return self.bundle.manifest

    @cached_property
    def device(self) -> str:
        """What its graphs run on: cpu, cuda."""
        providers = {session.get_providers()[0] for session, _ in self.sessions.values()}
        return "+".join(sorted(name.removesuffix("ExecutionProvider").lower() for name in providers)) or "cpu"

    def run(self, file: str, inputs: Array) -> list[Array]:
        """Run the ONNX graph in `file` on rows of float32, shape (n, inputs); one array of n rows per output."""
        session, name = self.sessions[file]
        outputs: list[Array] = session.run(None, {name: inputs})
        return outputs

    def contributions(self, file: str, inputs: Array) -> Array:
        """TreeSHAP of the LightGBM text model in `file`: shape (n, inputs + 1), log-odds, the bias last."""
        explainer: TreeShap = self.derived(f"TreeSHAP of {file}", lambda model: TreeShap(model.text(file)))
        return explainer.contributions(inputs)

    def derived(self, name: str, make: Callable[[Model], Made]) -> Made:
        """What `make` makes of the bundle, kept under that name; two threads may make it at once, one is kept."""
        if name not in self.made:
            self.made.setdefault(name, make(self))
        made: Made = self.made[name]
        return made

    def text(self, file: str) -> str:
        """The verified content of a text file of the bundle. Raises BundleRefused when it declares no such file."""
        return self.path(file).read_text()

    def array(self, file: str) -> Array:
        """The numbers of a .npy file of the bundle, read-only. Raises BundleRefused when there is no such file."""
        if file not in self.arrays:
            raise BundleRefused(f"the bundle has no array {file}; it has {', '.join(sorted(self.arrays))}")
        return self.arrays[file]

    def path(self, file: str) -> Path:
        """Where a verified file lies. Raises BundleRefused when the bundle declares no such file."""
        if file not in self.manifest.files:
            raise BundleRefused(f"the bundle has no file {file}; it has {', '.join(sorted(self.manifest.files))}")
        return self.bundle.folder / file


def load_model(folder: Path) -> LoadedModel:
    """Verify the bundle in `folder` and load its graphs. Raises BundleRefused when a byte or a graph is not right."""
    bundle = Bundle.open(folder)
    sessions: dict[str, tuple[Any, str]] = {}
    for name in bundle.manifest.files:
        if name.endswith(".onnx"):
            try:
                session = _session(folder / name)
            except Exception as error:  # ONNX Runtime's errors share no narrower root
                raise BundleRefused(f"{folder / name} is not a graph that ONNX Runtime loads: {error}") from error
            sessions[name] = (session, session.get_inputs()[0].name)
    arrays = {name: load_array(folder / name) for name in bundle.manifest.files if name.endswith(".npy")}
    return LoadedModel(bundle=bundle, sessions=sessions, arrays=arrays)


def load_array(path: Path) -> Array:
    """Numbers only: a file of pickled objects is refused."""
    try:
        values: Array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise BundleRefused(f"{path} is not an array of numbers: {error}") from error
    values.setflags(write=False)
    return values


def check_golden(model: Model, score: Callable[[Model, Array], Outputs], tolerance: float = TOLERANCE) -> None:
    """Score the bundle's golden rows. Raises GoldenMismatch when an output is missing or differs by more than that."""
    golden = model.manifest.golden
    outputs = score(model, np.asarray(golden.inputs, dtype=np.float32))
    for name, expected in golden.outputs.items():
        if name not in outputs:
            raise GoldenMismatch(f"the bundle gives no output {name!r}; train it again with this version")
        off = difference(np.asarray(outputs[name]), np.asarray(expected))
        if not off <= (tolerance if outputs[name].dtype.kind == "f" else LEVELS_TOLERANCE):  # NaN is never within
            raise GoldenMismatch(f"output {name!r} of the golden rows is off by {off:.3g}; do not serve it")


def difference(found: Array, expected: Array) -> float:
    """How far two results of one computation are apart: numbers by the largest difference, levels of a mask or a map
    by the mean one, as a share of their range."""
    apart = np.abs(found.astype(np.float64).ravel() - expected.ravel())
    if found.dtype.kind == "f":
        return float(np.max(apart, initial=0))
    return float(apart.mean() / max(expected.max(initial=0), 1))
