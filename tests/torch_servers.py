"""A real TorchServe for tests, and bundles of the use case `spots`, which only the tests have."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil
from onnx import TensorProto, helper, numpy_helper
from servers import free_port
from toy.spots.serving import SIDE, serving

from orrery.bundle import Bundle
from orrery.settings import Settings, child_environment

ROOT = Path(__file__).parent.parent
MOMENT = "2024-01-01T00:00:00Z"
INPUTS = SIDE * SIDE


def spots_bundle(folder: Path, slope: float = 1.0, *, torch_slope: float | None = None, golden: float = 1.0) -> Bundle:
    """A bundle whose score is sigmoid(slope * sum); the module's slope may be another, which zeros do not show."""
    folder.mkdir(parents=True)
    graph = np.full((INPUTS, 1), slope, np.float32)
    nodes = [
        helper.make_node("MatMul", ["rows", "weights"], ["raw"]),
        helper.make_node("Sigmoid", ["raw"], ["likely"]),
        helper.make_node("Identity", ["rows"], ["pixels"]),
    ]
    put, pixels = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", INPUTS]) for name in ("rows", "pixels"))
    likely = helper.make_tensor_value_info("likely", TensorProto.FLOAT, ["n", 1])
    made = helper.make_graph(nodes, "spots", [put], [likely, pixels], [numpy_helper.from_array(graph, "weights")])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (folder / "spots.onnx").write_bytes(model.SerializeToString())
    np.save(folder / "weights.npy", graph if torch_slope is None else np.full_like(graph, torch_slope))
    inputs = np.linspace(-0.1, 0.1, 3 * INPUTS, dtype=np.float32).reshape(3, INPUTS) * golden
    scores = 1 / (1 + np.exp(-slope * inputs.sum(axis=1, dtype=np.float64)))
    about = {
        "use_case": "spots", "created_at": MOMENT, "trained_from": MOMENT, "trained_to": MOMENT, "as_of": MOMENT,
        "rows": 1, "data_version": "d", "git_commit": "c", "lock_hash": "l", "features": [{"name": "sum"}],
        "learned": {}, "reference": {}, "golden": {"inputs": inputs.tolist(), "outputs": {"score": scores.tolist()}},
    }  # fmt: skip
    return Bundle.write(folder, about)


def project_with_spots(root: Path) -> Path:
    """The code that TorchServe runs, with one more folder under `usecases/`."""
    for part in ("orrery", "services", "usecases", "infra/torchserve"):
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__", "test_*"))
    shutil.copytree(ROOT / "tests" / "toy" / "spots", root / "usecases" / "spots")
    return root


@dataclass
class TorchServer:
    """A TorchServe as `orrery up` starts it."""

    project: Path
    settings: Settings
    process: psutil.Popen | None = None

    def start(self) -> "TorchServer":
        environment = child_environment(self.settings, {"PYTHONPATH": str(self.project)})
        log = self.settings.home / "torchserve.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            command = [sys.executable, "-m", "services.torchserve"]
            self.process = psutil.Popen(
                command, cwd=self.project, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
        return self

    def ready(self) -> "TorchServer":
        until = time.monotonic() + 60
        while not self.answers():
            assert time.monotonic() < until, self.log()
            assert self.process is not None
            assert self.process.poll() is None, self.log()
            time.sleep(0.05)
        return self

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.settings.torchserve_url}/ping", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def log(self) -> str:
        return (self.settings.home / "torchserve.log").read_text()

    def children(self) -> list[psutil.Process]:
        return self.process.children(recursive=True) if self.process else []

    def stop(self, by: int = signal.SIGTERM) -> list[psutil.Process]:
        """End it; returns processes of its own that are still there after ten seconds."""
        if self.process is None:
            return []
        own = [self.process, *self.children()]
        os.kill(self.process.pid, signal.SIGCONT)
        os.kill(self.process.pid, by)
        left = psutil.wait_procs(own, timeout=10)[1]
        for process in left:
            process.kill()
        self.process = None
        return left


def torchserve_settings(home: Path, **changed: object) -> Settings:
    """Settings of a TorchServe on free ports."""
    ports = {name: free_port() for name in ("port", "management_port", "metrics_port")}
    return Settings.model_validate({"home": home, "torchserve": {"enabled": "always", **ports, **changed}})


__all__ = ["INPUTS", "TorchServer", "project_with_spots", "serving", "spots_bundle", "torchserve_settings"]
