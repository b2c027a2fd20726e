"""The pictures of a release: what the scores do on the evaluated rows, and what the training saw."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from orrery.usecase import Array, Outputs
from usecases.fraud.metrics import ranking

if TYPE_CHECKING:
    import pandas as pd

_LEGITIMATE, _FRAUD, _INK, _GREY, _PALE = "#4a7fb5", "#c8503c", "#30343b", "#9aa2ad", "#d9dde3"
_FLOOR = 1e-5


def plots(rows: "pd.DataFrame", outputs: Outputs, folder: Path) -> Mapping[str, Path]:
    """Draw precision and recall, calibration, scores and novelty by label into `folder`: name -> PNG."""
    target = rows["TX_FRAUD"].to_numpy()
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "precision_recall": _precision_recall(target, outputs["score"], folder / "precision_recall.png"),
        "calibration": _calibration(target, outputs["score"], folder / "calibration.png"),
        "score_by_label": _score_by_label(target, outputs["score"], folder / "score_by_label.png"),
        "novelty": _novelty(target, outputs["novelty"], folder / "novelty.png"),
    }


def _axes(title: str, x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
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


def _precision_recall(target: Array, score: Array, path: Path) -> Path:
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(target[order])
    precision, recall = hits / np.arange(1, len(hits) + 1), hits / max(hits[-1], 1)
    metrics = ranking(target.astype(np.float64), score)(np.ones(len(score)))
    figure, axes = _axes(
        "Precision and recall", "recall: share of frauds found", "precision: share of alarms that are fraud"
    )
    axes.plot(recall, precision, color=_FRAUD, linewidth=1.8, label=f"average precision {metrics['ap']:.3f}")
    axes.axhline(target.mean(), color=_LEGITIMATE, linewidth=1, linestyle="--", label=f"by chance {target.mean():.3f}")
    axes.axvline(
        metrics["recall_at_fpr_0.1pct"],
        color=_INK,
        linewidth=0.8,
        linestyle=":",
        label=f"0.1 % false alarms: recall {metrics['recall_at_fpr_0.1pct']:.3f}",
    )
    axes.set(xlim=(0, 1.01), ylim=(0, 1.03))
    axes.legend(frameon=False, fontsize=9)
    return _save(figure, path)


def _calibration(target: Array, score: Array, path: Path) -> Path:
    """Mean score against the share of frauds, with 95 % binomial bars, in bins of the log-odds."""
    edges = np.array([0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.0000001])
    bins = np.digitize(score, edges) - 1
    rows = np.bincount(bins, minlength=len(edges) - 1)
    kept = rows >= 5
    rows = rows[kept]
    expected = np.bincount(bins, score, len(edges) - 1)[kept] / rows
    observed = np.bincount(bins, target, len(edges) - 1)[kept] / rows
    bars = 1.96 * np.sqrt(np.maximum(observed * (1 - observed), 1e-12) / rows)
    floor = max(float(expected.min()) / 3, _FLOOR)
    figure, axes = _axes("Calibration", "mean score of a bin", "share of frauds in it")
    axes.plot([floor, 1], [floor, 1], color=_LEGITIMATE, linewidth=1, linestyle="--", label="as it should be")
    low = np.minimum(bars, np.maximum(observed - floor, 0))
    axes.errorbar(
        expected,
        np.maximum(observed, floor),
        yerr=[low, bars],
        fmt="o",
        markersize=4,
        color=_FRAUD,
        ecolor=_GREY,
        capsize=2,
    )
    axes.set(xscale="log", yscale="log", xlim=(floor, 1.3), ylim=(floor, 1.3))
    axes.legend(frameon=False, fontsize=9)
    return _save(figure, path)


def _by_label(axes: Any, target: Array, values: Array, bins: Array) -> None:
    for label, name, colour in ((0, "legitimate", _LEGITIMATE), (1, "fraud", _FRAUD)):
        chosen = values[target == label]
        share = np.full(len(chosen), 100 / max(len(chosen), 1))
        axes.hist(chosen, bins, weights=share, histtype="stepfilled", alpha=0.25, color=colour)
        axes.hist(chosen, bins, weights=share, histtype="step", color=colour, label=f"{name} ({len(chosen):,})")
    axes.legend(frameon=False, fontsize=9)


def _score_by_label(target: Array, score: Array, path: Path) -> Path:
    figure, axes = _axes("Score by label", "score (log scale)", "% of the label's rows")
    floor = max(float(score.min()), _FLOOR)
    _by_label(axes, target, np.maximum(score, floor), np.geomspace(floor, 1, 50))
    axes.set_xscale("log")
    return _save(figure, path)


def _novelty(target: Array, novelty: Array, path: Path) -> Path:
    figure, axes = _axes(
        "Novelty by label", "novelty: share of ordinary rows that are less new", "% of the label's rows"
    )
    _by_label(axes, target, novelty, np.linspace(0, 1, 41))
    axes.set_xlim(0, 1)
    return _save(figure, path)


def importance(contributions: Array, names: Sequence[str], path: Path) -> Path:
    """Mean size of the TreeSHAP contributions, shape (n, names + 1), the bias last."""
    size = np.abs(contributions[:, :-1]).mean(axis=0)
    order = np.argsort(size)
    figure, axes = _axes("What moves the score", "mean |contribution|, log-odds", "")
    figure.set_size_inches(7.6, 5.2)
    axes.barh(np.array(names)[order], size[order], color=_LEGITIMATE, height=0.7)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", labelsize=8, length=0)
    return _save(figure, path)


def learning_curve(curve: Array, path: Path) -> Path:
    """Mean average precision of the folds after each round, shape (rounds,)."""
    best = int(curve.argmax())
    figure, axes = _axes("Learning curve", "trees", "average precision, mean of the validation folds")
    axes.plot(np.arange(1, len(curve) + 1), curve, color=_LEGITIMATE, linewidth=1.8)
    axes.plot(best + 1, curve[best], "o", color=_FRAUD, label=f"{best + 1} trees: {curve[best]:.4f}")
    axes.set_ylim(np.quantile(curve, 0.02) - 0.01, curve[best] + 0.01)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return _save(figure, path)
