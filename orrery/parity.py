"""Whether what was served is what the offline tables say: counts exactly, other numbers to float32."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

_TOLERANCE = 1e-6
"""relative, for numbers that are not whole"""


@dataclass(frozen=True)
class Mismatch:
    """One served value that is not the offline one."""

    identity: str
    feature: str
    served: float
    offline: float


@dataclass(frozen=True)
class Parity:
    """What a comparison found."""

    rows: int
    """served rows that were compared"""
    mismatches: int
    """rows with at least one differing value, or without an offline row"""
    features: Mapping[str, int]
    """feature -> rows in which it differs"""
    unknown: int
    """served rows without an offline row"""
    worst: tuple[Mismatch, ...]
    """the largest differences, at most ten"""

    @property
    def passed(self) -> bool:
        """Whether something was compared and all of it agrees."""
        return self.rows > 0 and self.mismatches == 0


def compare(served: Iterable[tuple[Any, Sequence[float]]], offline: "pd.DataFrame", names: Sequence[str]) -> Parity:
    """Compare served inputs, (identity, values in the order of `names`), with the offline rows indexed by identity.

    Identities may be text where the index holds numbers. Whole numbers (counts, flags) must be equal; others may differ
    by 1e-6 relative, as float32 does. NaN equals NaN.
    """
    import pandas as pd

    rows = list(served)
    identities = [str(identity) for identity, _ in rows]
    values = np.array([list(given) for _, given in rows], dtype=np.float64).reshape(len(rows), len(names))
    places = pd.Index(offline.index.astype(str)).get_indexer(pd.Index(identities, dtype=str))
    truth = offline[list(names)].to_numpy(dtype=np.float64)[places] if len(offline) else np.full_like(values, np.nan)
    known = places >= 0
    differs = _differs(values, truth) & known[:, None]
    return Parity(
        rows=len(rows),
        mismatches=int((differs.any(axis=1) | ~known).sum()),
        features={name: int(count) for name, count in zip(names, differs.sum(axis=0), strict=True) if count},
        unknown=int((~known).sum()),
        worst=_worst(identities, names, values, truth, differs),
    )


def _differs(served: np.ndarray, offline: np.ndarray) -> np.ndarray:
    whole = offline == np.rint(offline)
    close = np.isclose(served, offline, rtol=_TOLERANCE, atol=0.0, equal_nan=True)
    return np.asarray(np.where(whole, served != offline, ~close))


def _worst(
    identities: Sequence[str], names: Sequence[str], served: np.ndarray, offline: np.ndarray, differs: np.ndarray
) -> tuple[Mismatch, ...]:
    found = np.argwhere(differs)
    sizes = np.nan_to_num(np.abs(served[differs] - offline[differs]), nan=np.inf)
    worst = found[np.argsort(-sizes, kind="stable")[:10]].tolist()
    return tuple(Mismatch(identities[r], names[c], float(served[r, c]), float(offline[r, c])) for r, c in worst)
