"""The pictures of a release: prices said and paid, where they differ, and what the training saw."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from orrery.usecase import Array, Outputs
from usecases.house_prices.features import FEATURES

if TYPE_CHECKING:
    import pandas as pd

_BLUE, _RED, _INK, _GREY, _PALE = "#4a7fb5", "#c8503c", "#30343b", "#9aa2ad", "#d9dde3"
_SHOWN = 25


def plots(rows: "pd.DataFrame", outputs: Outputs, folder: Path) -> Mapping[str, Path]:
    """Draw prices said against paid, and errors by neighborhood, into `folder`: name -> PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "said_and_paid": _said_and_paid(rows, outputs, folder / "said_and_paid.png"),
        "errors_by_neighborhood": _by_neighborhood(rows, outputs, folder / "errors_by_neighborhood.png"),
    }


def _axes(title: str, x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=_INK)
    axes.set_xlabel(x, color=_INK)
    axes.set_ylabel(y, color=_INK)
    axes.tick_params(colors=_INK, labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_PALE)
    axes.grid(color=_PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=150)
    return path


def _said_and_paid(rows: "pd.DataFrame", outputs: Outputs, path: Path) -> Path:
    paid, said = rows["price"].to_numpy() / 1_000, np.exp(outputs["log_price"]) / 1_000
    low, high = (np.exp(outputs[name]) / 1_000 for name in ("low", "high"))
    inside = (low <= paid) & (paid <= high)
    figure, axes = _axes("Prices", "said, thousand dollars", "paid, thousand dollars")
    order = np.argsort(said)
    axes.fill_between(said[order], low[order], high[order], color=_PALE, linewidth=0, label="90 % interval")
    for chosen, colour, name in ((inside, _BLUE, "inside"), (~inside, _RED, "outside")):
        axes.plot(said[chosen], paid[chosen], "o", markersize=3, color=colour, label=f"{name}: {chosen.mean():.1%}")
    ends = [min(said.min(), paid.min()) * 0.9, max(said.max(), paid.max()) * 1.1]
    axes.plot(ends, ends, color=_INK, linewidth=0.8, linestyle="--")
    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    axes.set(xlim=ends, ylim=ends)
    axes.legend(frameon=False, fontsize=9)
    return _save(figure, path)


def _by_neighborhood(rows: "pd.DataFrame", outputs: Outputs, path: Path) -> Path:
    """The middle half and the median of paid over said, in per cent, of each neighborhood."""
    error = 100 * np.expm1(rows["log_price"].to_numpy() - outputs["log_price"])
    names = rows["neighborhood"].to_numpy()
    found = sorted(((np.percentile(error[names == one], (25, 50, 75)), one) for one in np.unique(names)), key=_median)
    figure, axes = _axes("Errors by neighborhood", "paid over said, %", "")
    figure.set_size_inches(6.4, 1.4 + 0.22 * len(found))
    for place, ((low, middle, high), _) in enumerate(found):
        axes.plot([low, high], [place, place], color=_BLUE, linewidth=3)
        axes.plot(middle, place, "o", markersize=4, color=_RED)
    axes.axvline(0, color=_INK, linewidth=0.8)
    axes.set_yticks(range(len(found)), [f"{name} ({(names == name).sum()})" for _, name in found], fontsize=8)
    axes.set_ylim(-0.7, len(found) - 0.3)
    return _save(figure, path)


def _median(found: tuple[Array, Any]) -> float:
    return float(found[0][1])


def importance(contributions: Array, path: Path) -> Path:
    """The largest mean sizes of the contributions, shape (n, features + 1), the typical price's last, in per cent."""
    size = 100 * np.expm1(np.abs(contributions[:, :-1]).mean(axis=0))
    order = np.argsort(size)[-_SHOWN:]
    figure, axes = _axes("What moves the trees' price", "mean |contribution|, % of the price", "")
    figure.set_size_inches(7.6, 5.6)
    axes.barh(np.array(FEATURES)[order], size[order], color=_BLUE, height=0.7)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", labelsize=8, length=0)
    return _save(figure, path)


def learning_curve(curve: Array, path: Path) -> Path:
    """Mean error of the folds after each round, shape (rounds,)."""
    best = int(curve.argmin())
    figure, axes = _axes("Learning curve", "trees", "RMSLE, mean of the validation folds")
    axes.plot(np.arange(1, len(curve) + 1), curve, color=_BLUE, linewidth=1.8)
    axes.plot(best + 1, curve[best], "o", color=_RED, label=f"{best + 1} trees: {curve[best]:.4f}")
    axes.set_ylim(curve[best] - 0.005, curve[best] + 0.1)
    axes.legend(frameon=False, fontsize=9)
    return _save(figure, path)
