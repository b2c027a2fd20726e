"""Questions to a model before it is believed: is it as good for everybody, and would the header alone have done?"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from orrery.usecase import Array, Outputs

if TYPE_CHECKING:
    import pandas as pd

_BANDS = ((0, 40), (40, 65), (65, 121))
_RESAMPLES = 200
_LEAST = 5
"""films of each class, for a figure"""


@dataclass(frozen=True)
class Subgroup:
    """How good a model is for some of the films."""

    films: int
    auc: float
    low: float
    high: float
    sensitivity: float
    specificity: float


def subgroups(rows: "pd.DataFrame", outputs: Outputs) -> Mapping[str, Subgroup]:
    """By sex, age band and view: those with at least five films of each class."""
    labels = rows["label"].to_numpy()
    return {
        name: _subgroup(labels[chosen], outputs["probability"][chosen], outputs["margin"][chosen] >= 0)
        for name, chosen in _groups(rows)
        if min((labels[chosen] == label).sum() for label in (0, 1)) >= _LEAST
    }


def header_auc(rows: "pd.DataFrame") -> float:
    """How well age, sex and view alone tell findings, by logistic regression, out of fold. NaN if nothing is known."""
    known = rows["age"].notna().any() or rows["sex"].nunique() > 1 or rows["view"].nunique() > 1
    labels = rows["label"].to_numpy()
    if not known or min(np.bincount(labels, minlength=2)) < _LEAST:
        return float("nan")
    age = rows["age"].fillna(rows["age"].median()).fillna(0).to_numpy() / 100
    codes = [(rows[name] == value).to_numpy(float) for name in ("sex", "view") for value in sorted(rows[name].unique())]
    said = cross_val_predict(
        LogisticRegression(), np.column_stack([age, *codes]), labels, cv=_LEAST, method="predict_proba"
    )
    return float(roc_auc_score(labels, said[:, 1]))


def _groups(rows: "pd.DataFrame") -> Iterator[tuple[str, Array]]:
    for column in ("sex", "view"):
        for value in sorted(rows[column].unique()):
            yield f"{column} {value}", (rows[column] == value).to_numpy()
    for low, high in _BANDS:
        yield f"age {low}-{high - 1}", rows["age"].between(low, high, inclusive="left").to_numpy()


def _subgroup(labels: Array, probability: Array, above: Array) -> Subgroup:
    drawn = np.random.default_rng(7).integers(len(labels), size=(_RESAMPLES, len(labels)))
    areas = [roc_auc_score(labels[one], probability[one]) for one in drawn if 0 < labels[one].mean() < 1]
    low, high = np.quantile(areas, (0.025, 0.975))
    return Subgroup(
        films=len(labels),
        auc=float(roc_auc_score(labels, probability)),
        low=float(low),
        high=float(high),
        sensitivity=float(above[labels == 1].mean()),
        specificity=float((~above)[labels == 0].mean()),
    )
