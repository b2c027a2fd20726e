"""The loop as one picture: what was promised, what came true, and how far the traffic was from what was known."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from orrery.watching import Watched


def draw(windows: Sequence[Watched], changed: datetime, metric: str, path: Path) -> Path:
    """Write a PNG of all windows, the oldest first; `changed` is when the world did."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    worth, distance = figure.subplots(2, 1, sharex=True)
    known = [each for each in windows if each.quality]
    days = [each.first for each in known]
    qualities = [each.quality for each in known if each.quality]
    worth.plot(days, [each.estimated.get(metric) for each in qualities], "--", color="0.5", label="estimated")
    ripe = [
        (day, each.realised[metric])
        for day, each in zip(days, qualities, strict=True)
        if each.mature and metric in each.realised
    ]
    worth.plot([day for day, _ in ripe], [value for _, value in ripe], "o-", color="tab:blue", label="realised")
    worth.set(ylabel=metric, ylim=(0, 1), title=f"{windows[0].use_case}: live quality by day of event time")
    scored = [each for each in windows if each.score]
    distance.plot(
        [each.first for each in scored], [each.score.psi for each in scored if each.score], "o-", label="score PSI"
    )
    distance.plot(
        [each.first for each in scored], [each.share for each in scored], "s-", label="share of importance that drifts"
    )
    distance.set(ylabel="drift", ylim=(0, None))
    for axes in (worth, distance):
        axes.axvline(changed, color="tab:red", label="the world changes")
        for day in _switches(windows):
            axes.axvline(day, color="tab:green", label="another champion answers")
        axes.legend(fontsize="small", loc="lower left" if axes is worth else "upper right")
    figure.autofmt_xdate()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def _switches(windows: Sequence[Watched]) -> list[datetime]:
    """The first windows that another version answered most of."""
    served = [each for each in windows if each.version]
    return [after.first for before, after in pairwise(served) if before.version != after.version]
