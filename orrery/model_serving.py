"""Before a version serves through the model server: it is there, and answers as its twin in this process does."""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orrery.adapters.locks import exclusive
from orrery.adapters.model_server import load_model
from orrery.adapters.registry import CHAMPION, PREVIOUS, Registry, Version
from orrery.adapters.torch_archive import served_as
from orrery.adapters.torchserve import VersionStore, is_configured
from orrery.bundle import Bundle
from orrery.errors import OrreryError
from orrery.settings import Settings
from orrery.usecase import Array, Outputs, Serving

SAME_DICE = 0.999
_AT_ONCE = 32


class ServingParityBroken(OrreryError):
    """The model server and its twin answer differently."""


@dataclass(frozen=True)
class Parity:
    """The same rows, scored by both."""

    rows: int
    device: str
    """of the model server"""
    largest_difference: float
    """of any number"""
    least_dice: float
    """of any mask or map; 1 when there is none"""
    seconds: float
    """until the model server had the version and both had answered"""


class ModelServing:
    """The model server's part of a promotion. For a use case that asks for none, or without one, it does nothing."""

    def __init__(self, settings: Settings, serving: Serving) -> None:
        asks = serving.runtime == "model_server"
        self._settings, self._serving = settings, serving if asks and is_configured(settings) else None

    def ready(self, version: Version) -> Mapping[str, Any]:
        """Have a registered version loaded and compared, before it is the champion; what the audit log keeps of it.

        Raises ModelServerUnavailable, VersionRefused or ServingParityBroken.
        """
        if self._serving is None:
            return {}
        with tempfile.TemporaryDirectory() as folder:
            bundle = Registry(self._settings).download(version.run_id, version.digest, Path(folder))
            parity = prove(bundle, version.version, self._serving, self._settings)
        return {f"parity_{name}": value for name, value in asdict(parity).items()}

    def settle(self, use_case: str) -> list[str]:
        """Once the champion answers: drop what neither is nor was champion, when its last requests have ended."""
        if self._serving is None:
            return []
        time.sleep(self._serving.deadline_ms / 1_000)
        registry = Registry(self._settings)
        # under the lock of promotions: one that has begun meanwhile has a version there that is no champion yet
        with exclusive(self._settings, f"promote-{use_case}"), VersionStore(self._settings) as store:
            found = [registry.find(use_case, alias) for alias in (CHAMPION, PREVIOUS)]
            return store.keep(use_case, [(each.version, each.digest) for each in found if each is not None])


def prove(bundle: Bundle, version: str, serving: Serving, settings: Settings, rows: Array | None = None) -> Parity:
    """Put a version on the model server and compare its answers with its twin's: to the golden rows, and to `rows`.

    Raises ServingParityBroken, and then the model server does not keep it; VersionRefused, ModelServerUnavailable.
    """
    began, use_case = time.monotonic(), bundle.manifest.use_case
    golden = np.asarray(bundle.manifest.golden.inputs, np.float32)
    inputs = golden if rows is None else np.concatenate([golden, rows.astype(np.float32)])
    twin, largest, least, device = load_model(bundle.folder), 0.0, 1.0, ""
    with VersionStore(settings) as store:
        store.put(bundle, version)
        for part in np.split(inputs, range(_AT_ONCE, len(inputs), _AT_ONCE)):
            scores = store.score(use_case, version, bundle.digest, part)
            try:
                difference, dice = compare(scores.outputs, serving.score(twin, part), serving.tolerance)
            except ServingParityBroken:
                store.drop(use_case, served_as(version, bundle.digest))
                raise
            largest, least, device = max(largest, difference), min(least, dice), scores.device
    return Parity(len(inputs), device, largest, least, round(time.monotonic() - began, 2))


def compare(found: Outputs, expected: Outputs, tolerance: float) -> tuple[float, float]:
    """The largest difference of any number and the least Dice of any mask or map of two results of the same rows.

    Raises ServingParityBroken when the outputs are not the same ones, a number is off by more than the tolerance, a
    class or a count is another one, or the Dice of a row's mask or map is below .999.
    """
    if found.keys() != expected.keys():
        raise ServingParityBroken(f"the model server gives {sorted(found)}, its twin {sorted(expected)}")
    largest, least = 0.0, 1.0
    for name, values in expected.items():
        other = found[name]
        if (other.shape, other.dtype) != (values.shape, values.dtype):
            raise ServingParityBroken(f"output {name!r}: the model server gives another shape or type than its twin")
        if values.dtype.kind == "f":
            off = _difference(other, values)
            largest = max(largest, off)
            same = off <= tolerance
        else:
            dice = _dice(other, values) if values.ndim > 1 else float(np.array_equal(other, values))
            off = 1 - dice
            least = min(least, dice)
            same = dice >= SAME_DICE
        if not same:
            raise ServingParityBroken(f"output {name!r}: the model server is off its twin by {off:.2g}; not promoted")
    return largest, least


def _difference(found: Array, expected: Array) -> float:
    """The largest; what is no number in both is the same."""
    same = (found == expected) | np.isnan(found) & np.isnan(expected)
    apart = np.subtract(found, expected, out=np.zeros(found.shape), where=~same)
    return float(np.nan_to_num(np.max(np.abs(apart), initial=0.0), nan=np.inf))


def _dice(found: Array, expected: Array) -> float:
    """Of the row where it is least; for a map of levels what both share of it."""
    one, other = (each.reshape(len(each), -1).astype(np.float64) for each in (found, expected))
    both, together = 2 * np.minimum(one, other).sum(axis=1), (one + other).sum(axis=1)
    return float(np.min(np.divide(both, together, out=np.ones_like(both), where=together > 0)))
