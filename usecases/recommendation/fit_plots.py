"""The pictures of a training: how the rankers learned, what moves them, and whose candidates are shown."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from orrery.usecase import Array
from usecases.recommendation.listwise import Lists
from usecases.recommendation.ranking_features import INPUTS
from usecases.recommendation.retrieval import SOURCES
from usecases.recommendation.scoring import COLD, DEEP, LAMBDARANK, WARM

_INK, _PALE = "#30343b", "#d9dde3"
_COLOURS = ("#4a7fb5", "#9aa2ad", "#c8503c", "#5b9a68")
_WIDTH = 0.26
_LEARNED_ON = {
    COLD: "blend, best trial so far for cold users",
    WARM: "blend, best trial so far for warm users",
    LAMBDARANK: "trees, on the queries that judge",
    DEEP: "deep, on the queries that stop it",
}


def draw(lists: Lists, scores: Array, curves: Mapping[str, Array], gain: Array, folder: Path) -> dict[str, Path]:
    """Draw into `folder`: name -> PNG.

    `scores`, shape (queries, candidates), are of the ranker that serves; `curves` its and the others' mean nDCG in
    training; `gain`, shape (INPUTS,), is what the trees gained by each input. What is empty is not drawn.
    """
    folder.mkdir(exist_ok=True)
    drawn = {"sources": _sources(lists, scores, folder / "sources.png")}
    if curves:
        drawn["learning_curve"] = _learning_curve(curves, folder / "learning_curve.png")
        drawn["importance"] = _importance(gain, folder / "importance.png")
    return drawn


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


def _learning_curve(curves: Mapping[str, Array], path: Path) -> Path:
    """Each against the share of its own trials, trees or epochs, on queries of its own: their heights say nothing."""
    figure, axes = _axes("Learning curves of the rankers", "share of trials, trees or epochs", "nDCG@10")
    for (name, curve), colour in zip(curves.items(), _COLOURS, strict=False):
        axes.plot(np.linspace(0, 1, len(curve)), curve, color=colour, linewidth=1.8, label=_LEARNED_ON[name])
    axes.set_ylim(0, None)
    axes.legend(frameon=False, fontsize=8, loc="upper center", ncols=2, bbox_to_anchor=(0.5, -0.14))
    return _save(figure, path)


def _sources(lists: Lists, scores: Array, path: Path) -> Path:
    """Which source ranked best what became a candidate, what is in the first places, and what of it was relevant."""
    top = lists.top(scores)
    there, relevant, sources = (
        np.take_along_axis(of, top, axis=1) for of in (lists.there, lists.relevant, lists.sources)
    )
    chosen = {
        "candidates": lists.sources[lists.there],
        "first ten": sources[there],
        "relevant of these": sources[there & relevant],
    }
    figure, axes = _axes("Where items come from", "", "% by the source that ranked them best")
    for place, ((name, of), colour) in enumerate(zip(chosen.items(), _COLOURS, strict=False)):
        share = 100 * np.bincount(of, minlength=len(SOURCES)) / max(len(of), 1)
        axes.bar(np.arange(len(SOURCES)) + (place - 1) * _WIDTH, share, _WIDTH * 0.92, color=colour, label=name)
    axes.set_xticks(np.arange(len(SOURCES)), SOURCES)
    axes.grid(visible=False, axis="x")
    axes.legend(frameon=False, fontsize=9)
    return _save(figure, path)


def _importance(gain: Array, path: Path) -> Path:
    order = np.argsort(gain)
    figure, axes = _axes("What moves the trees", "% of the gain", "")
    figure.set_size_inches(7.6, 6.4)
    axes.barh(np.array(INPUTS)[order], 100 * gain[order] / max(gain.sum(), 1e-9), color=_COLOURS[0], height=0.7)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", labelsize=8, length=0)
    return _save(figure, path)
