"""Draws what an experiment shows: intervals, one below the other."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orrery.errors import OrreryError

if TYPE_CHECKING:
    from orrery.experiments import Analysis, Comparison
    from orrery.off_policy import Estimate, Evaluation
    from orrery.sequential import Interval

_BETTER, _WORSE, _GREY, _INK, _PALE = "#3d8b57", "#c8503c", "#9aa2ad", "#30343b", "#d9dde3"


class PlotRefused(OrreryError):
    """The plot cannot be written there."""


def check_png(path: Path | None) -> None:
    """Raises PlotRefused for a plot of another kind, before anything is computed."""
    if path and path.suffix != ".png":
        raise PlotRefused(f"{path} is not a .png file; plots are PNG only")


def draw_lifts(found: "Analysis", path: Path) -> Path:
    """One row of axes a metric: percent of the control, or units of the metric where that cannot be said.

    Raises PlotRefused.
    """
    metrics = list(dict.fromkeys(one.metric for one in found.comparisons))
    sizes = [1 + sum(one.metric == name for one in found.comparisons) for name in metrics]
    figure = _figure(1.1 * len(metrics) + 0.32 * len(found.comparisons) + 0.4)
    for axes, name in zip(
        figure.subplots(len(metrics), squeeze=False, height_ratios=sizes)[:, 0], metrics, strict=True
    ):
        _draw_metric(axes, name, [one for one in found.comparisons if one.metric == name])
    return _saved(figure, f"Lift over {found.control}, {100 * (1 - found.alpha):g} % intervals", path)


def draw_estimates(found: "Evaluation", reward: str, path: Path) -> Path:
    """The target policy's value by each estimator, beside the on-policy mean. Raises PlotRefused."""
    said = {name.upper(): one for name, one in vars(found.estimates).items() if one}
    figure, mean = _figure(1.5 + 0.32 * len(said)), found.on_policy
    axes = figure.subplots()
    rows = [("on-policy mean", mean, _INK)]
    rows += [(name, one.value, _colour(one)) for name, one in said.items()]
    _draw_rows(axes, rows)
    axes.axvline(mean.value, color=_INK, linewidth=1, linestyle="--")
    axes.axvspan(mean.low, mean.high, color=_PALE, alpha=0.6, linewidth=0)
    axes.set_xlabel(_plain(f"mean {reward}"), color=_INK)
    return _saved(figure, "Target policy, 95 % intervals", path)


def _draw_metric(axes: Any, name: str, found: "list[Comparison]") -> None:
    percent = all(one.outcome.relative for one in found)
    rows = []
    for one in found:
        part, scale = (one.outcome.relative, 100) if percent else (one.outcome.lift, 1)
        assert part is not None
        colour = (_BETTER if part.value > 0 else _WORSE) if one.significant else _GREY
        rows.append((one.variant, type(part)(scale * part.value, scale * part.low, scale * part.high), colour))
    _draw_rows(axes, rows)
    axes.axvline(0, color=_INK, linewidth=1)
    axes.set_xlabel(_plain(f"{name}, {'%' if percent else 'in its units'}"), color=_INK)


def _colour(one: "Estimate") -> str:
    return _BETTER if one.verdict.startswith("better") else _WORSE if one.verdict.startswith("worse") else _GREY


def _draw_rows(axes: Any, rows: "Sequence[tuple[str, Interval, str]]") -> None:
    """A point with its interval a row, the first on top."""
    for place, (_, part, colour) in enumerate(reversed(rows)):
        ends = [part.low, part.high]
        axes.plot(ends, [place, place], color=colour, linewidth=1.8, marker="|", markersize=9, markeredgewidth=1.8)
        axes.plot(part.value, place, "o", color=colour)
    axes.set_yticks(range(len(rows)), [_plain(name) for name, _, _ in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color=_PALE, linewidth=0.6)
    axes.set_axisbelow(True)


def _figure(height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(7.2, height), layout="constrained")


def _saved(figure: Any, title: str, path: Path) -> Path:
    figure.suptitle(_plain(title), fontsize=12, fontweight="bold", color=_INK)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise PlotRefused(f"{path} cannot be written: {error.strerror}; choose another place") from error
    return path


def _plain(text: str) -> str:
    """Text that is not taken for mathematics."""
    return text.replace("$", r"\$")
