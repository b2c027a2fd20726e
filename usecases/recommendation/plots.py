"""The pictures of an evaluation: how good the lists are for whom, how far down one must look, how popular they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from orrery.usecase import Array, Outputs
from usecases.recommendation.metrics import LIKED_, TOP, Means, groups, hit, known_of, lists_by_method, ndcg, resampled
from usecases.recommendation.protocol import RELEVANT

if TYPE_CHECKING:
    import pandas as pd

_INK, _PALE = "#30343b", "#d9dde3"
_METHODS = {
    "": ("served", "#c8503c"),
    "ease_": ("EASE alone", "#4a7fb5"),
    LIKED_: ("most liked", "#5b9a68"),
    "popular_": ("popular of late", "#9aa2ad"),
}
_GROUPS = {"visits": "all visits", "warm": "visits, warm users", "cold": "visits, cold users", "last": "last likes"}
_INTERVAL = (2.5, 97.5)
_WIDTH = 0.2


def plots(rows: "pd.DataFrame", outputs: Outputs, folder: Path) -> Mapping[str, Path]:
    """Draw nDCG@10 by group, and of all visits recall by length of list, and popularity, into `folder`: name -> PNG.

    `rows` are query rows, `outputs` their lists. Bars and bands are 95 % intervals; users are drawn again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    visits = groups(rows)["visits"]
    listed = lists_by_method(rows, outputs)
    hits = {prefix: hit(items, rows[RELEVANT].tolist()) for prefix, items in listed.items()}
    return {
        "ndcg_by_group": _ndcg_by_group(rows, hits, folder / "ndcg_by_group.png"),
        "recall_by_length": _recall_by_length(
            rows[visits], {prefix: of[visits] for prefix, of in hits.items()}, folder / "recall_by_length.png"
        ),
        "popularity": _popularity(
            rows[visits], {prefix: items[visits, :TOP] for prefix, items in listed.items()}, folder / "popularity.png"
        ),
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


def _save(figure: Figure, axes: Any, path: Path) -> Path:
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)
    return path


def _estimates(columns: Mapping[str, tuple[Array, Array]], rows: "pd.DataFrame") -> Array:
    """Means of columns as `Means.of` takes them, and the ends of their intervals, shape (3, columns)."""
    means = Means.of(columns)
    drawn = means(resampled(rows["USER_ID"].to_numpy()))
    return np.vstack([means(np.ones(len(rows))), np.nanpercentile(drawn, _INTERVAL, axis=0)])


def _ndcg_by_group(rows: "pd.DataFrame", hits: Mapping[str, Array], path: Path) -> Path:
    inside = {group: mask for group, mask in groups(rows).items() if mask.any()}
    size = rows[RELEVANT].map(len).to_numpy()
    figure, axes = _axes(f"nDCG@{TOP} by group", "", f"nDCG@{TOP}")
    for place, (prefix, (label, colour)) in enumerate(_METHODS.items()):
        gain = ndcg(hits[prefix][:, :TOP], size)
        value, low, high = _estimates({group: (gain, mask) for group, mask in inside.items()}, rows)
        at = np.arange(len(inside)) + (place - 1.5) * _WIDTH
        axes.bar(at, value, _WIDTH * 0.92, color=colour, label=label)
        bars = np.maximum([value - low, high - value], 0)
        axes.errorbar(at, value, yerr=bars, fmt="none", ecolor=_INK, elinewidth=0.9, capsize=2)
    counts = [f"{_GROUPS[group]}\n{mask.sum():,}" for group, mask in inside.items()]
    axes.set_xticks(np.arange(len(inside)), counts)
    axes.grid(visible=False, axis="x")
    return _save(figure, axes, path)


def _recall_by_length(rows: "pd.DataFrame", hits: Mapping[str, Array], path: Path) -> Path:
    size = rows[RELEVANT].map(len).to_numpy()
    counted = np.ones(len(rows), dtype=bool)
    figure, axes = _axes("What is found, by length of the list", "length of the list", "share of the visit's likes")
    for prefix, (label, colour) in _METHODS.items():
        found = np.cumsum(hits[prefix], axis=1) / size[:, None]
        lengths = np.arange(1, found.shape[1] + 1)
        columns = {str(length): (found[:, length - 1], counted) for length in lengths}
        value, low, high = _estimates(columns, rows)
        axes.plot(lengths, value, color=colour, linewidth=1.8, label=label)
        axes.fill_between(lengths, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.set(xlim=(1, None), ylim=(0, None))
    return _save(figure, axes, path)


def _popularity(rows: "pd.DataFrame", shown: Mapping[str, Array], path: Path) -> Path:
    """Shares of what is shown, and of what is liked, that the most liked items make up."""
    known = known_of(rows)
    rank = np.empty(len(known.ids), dtype=np.int64)
    rank[np.argsort(-known.likes, kind="stable")] = np.arange(len(rank))
    figure, axes = _axes(
        "Popularity of what is shown and what is liked", "number of items, most liked first", "share of all"
    )
    for prefix, (label, colour) in _METHODS.items():
        axes.plot(
            *_share(known.place(shown[prefix][shown[prefix] >= 0]), rank), color=colour, label=f"{label}, first {TOP}"
        )
    liked = known.place(np.concatenate(rows[RELEVANT].tolist()))
    axes.plot(*_share(liked, rank), color=_INK, linestyle="--", linewidth=1.2, label="liked")
    axes.set(xscale="log", xlim=(1, len(rank)), ylim=(0, 1.02))
    return _save(figure, axes, path)


def _share(places: Array, rank: Array) -> tuple[Array, Array]:
    """Numbers of items, most liked first, and the share of all `places` (-1: not known) that are among them."""
    found = np.bincount(rank[places[places >= 0]], minlength=len(rank))
    return np.arange(1, len(rank) + 1), np.cumsum(found) / max(len(places), 1)
