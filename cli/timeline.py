"""The moments of `orrery loop` as they happen, and what its champions were worth to the traffic they served."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cli.console import say
from orrery.errors import OrreryError
from orrery.watching import Watched

BEFORE, OLD, NEW = "before the change", "changed, old champion", "changed, new champion"


class LoopBroken(OrreryError):
    """Something that the loop promises did not happen."""


@dataclass
class Story:
    """What has happened so far, and the folder that is to hold it."""

    folder: Path
    champion: str = ""
    successor: str = ""
    moments: list[dict[str, Any]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LoopBroken(f"no folder {self.folder} ({error.strerror}); choose another with --out") from error
        self.timeline, self.picture = self.folder / "timeline.json", self.folder / "loop.png"

    def tell(self, what: str, **details: Any) -> None:
        """Add a moment and say it."""
        second = round(time.monotonic() - self.began)
        self.moments.append({"second": second, "what": what, **details})
        shown = "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in details.items() if value)
        say(f"[bold]{second:>4} s[/]  {what}{f': {shown}' if shown else ''}")


def by_champion(windows: Sequence[Watched], changed: datetime, old: str, new: str) -> dict[str, dict[str, float]]:
    """The means of live quality, over windows with mature labels. Raises LoopBroken where a part has no window."""
    mature = [each for each in windows if each.quality and each.quality.mature]
    parts = {
        BEFORE: [each for each in mature if each.last <= changed],
        OLD: [each for each in mature if each.first >= changed and each.version == old],
        NEW: [each for each in mature if each.version == new],
    }
    for name, found in parts.items():
        if not found:
            raise LoopBroken(f"no window of {name!r} has mature labels")
    return {name: _means(found) for name, found in parts.items()}


def better(live: dict[str, dict[str, float]], metric: str) -> dict[str, dict[str, float]]:
    """The same. Raises LoopBroken when the new champion was not better."""
    worse, best = live[OLD][metric], live[NEW][metric]
    if not best > worse:
        raise LoopBroken(f"live {metric} is {best} with the new champion and {worse} with the old one")
    return live


def _means(windows: Sequence[Watched]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for window in windows:
        realised: Mapping[str, float] = window.quality.realised if window.quality else {}
        for name, value in realised.items():
            values.setdefault(name, []).append(value)
    return {name: round(sum(each) / len(each), 4) for name, each in values.items()} | {"windows": len(windows)}
