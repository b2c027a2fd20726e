"""The pictures of a release: who is told from whom, how sure that is, for whom it holds, and where the model looked."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score, roc_curve

from orrery.usecase import Array, Outputs
from usecases.imaging.fit_plots import reliability, save
from usecases.imaging.picture import decode
from usecases.imaging.validation import header_auc, subgroups

if TYPE_CHECKING:
    import pandas as pd

_BLUE, _RED, _INK, _PALE = "#4a7fb5", "#c8503c", "#30343b", "#d9dde3"
_SHOWN = 12


def plots(rows: "pd.DataFrame", outputs: Outputs, folder: Path) -> Mapping[str, Path]:
    """Draw the evaluated rows into `folder`: name -> PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "discrimination": _discrimination(rows, outputs, folder / "discrimination.png"),
        "subgroups": _subgroups(rows, outputs, folder / "subgroups.png"),
        "films": _films(rows, outputs, folder / "films.png"),
        "strangeness": _strangeness(outputs, folder / "strangeness.png"),
    }


def _discrimination(rows: "pd.DataFrame", outputs: Outputs, path: Path) -> Path:
    labels, probability = rows["label"].to_numpy(), outputs["probability"]
    above = outputs["margin"] >= 0
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    wrong, found, _ = roc_curve(labels, probability)
    left.plot(wrong, found, color=_BLUE, label=f"AUC {roc_auc_score(labels, probability):.3f}")
    point = (above[labels == 0].mean(), above[labels == 1].mean())
    left.plot(*point, "o", color=_RED, label=f"sensitivity {point[1]:.2f}, specificity {1 - point[0]:.2f}")
    left.plot([0, 1], [0, 1], color=_PALE)
    left.set(
        title=f"ROC; by age, sex and view alone {header_auc(rows):.3f}", xlabel="1 - specificity", ylabel="sensitivity"
    )
    left.legend(frameon=False, loc="lower right")
    reliability(right, probability, labels)
    return save(figure, path)


def _subgroups(rows: "pd.DataFrame", outputs: Outputs, path: Path) -> Path:
    found = subgroups(rows, outputs)
    figure = Figure(figsize=(6.4, 1.2 + 0.4 * len(found)), layout="constrained")
    axes = figure.subplots()
    for place, (_, group) in enumerate(found.items()):
        axes.plot([group.low, group.high], [place, place], color=_BLUE, linewidth=3)
        axes.plot(group.auc, place, "o", color=_RED)
    axes.set_yticks(range(len(found)), [f"{name} ({group.films})" for name, group in found.items()])
    axes.set(title="AUC by subgroup, 95 % intervals", xlim=(0.5, 1.01))
    axes.grid(color=_PALE, axis="x")
    return save(figure, path)


def _films(rows: "pd.DataFrame", outputs: Outputs, path: Path) -> Path:
    """The films with the highest and the lowest probability, lungs outlined, Grad-CAM over them."""
    order = np.argsort(outputs["probability"])
    shown = np.concatenate([order[::-1][: _SHOWN // 2], order[: _SHOWN // 2]])
    figure = Figure(figsize=(2 * _SHOWN / 2, 4.6), layout="constrained")
    panels = figure.subplots(2, _SHOWN // 2).ravel()
    for axes, film in zip(panels, shown, strict=False):
        _film(axes, decode(rows["picture"].iloc[film]), outputs["mask"][film], outputs["cam"][film])
        axes.set_title(f"{outputs['probability'][film]:.2f}, is {rows['label'].iloc[film]}", fontsize=9, color=_INK)
    for axes in panels:
        axes.set_axis_off()
    return save(figure, path)


def _film(axes: Any, picture: Array, mask: Array, cam: Array) -> None:
    axes.imshow(picture, cmap="gray")
    axes.imshow(cam, cmap="inferno", alpha=0.4 * (cam / 255))
    if mask.any() and not mask.all():
        axes.contour(mask, levels=[0.5], colors=[_BLUE], linewidths=1)


def _strangeness(outputs: Outputs, path: Path) -> Path:
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.hist(outputs["ood"], bins=40, color=_BLUE)
    axes.axvline(1, color=_RED)
    beyond = float((outputs["ood"] > 1).mean())
    axes.set(title=f"Strangeness; {beyond:.1%} beyond the limit", xlabel="1 is the limit", ylabel="films")
    return save(figure, path)
