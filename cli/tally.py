"""What a replay has seen so far: rate, latency, decisions, and how good the scores were."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cli.traffic import Reply

if TYPE_CHECKING:
    from rich.console import RenderableType

POSITIVE = 0.5
"""a label above it is a positive"""


class Tally:
    """Counts replies.

    `truth` is identity -> label as the data set knows it; the gateway learns a label only when it arrives.
    """

    def __init__(self, truth: Mapping[str, float], score: str, total: int) -> None:
        self._truth = truth
        self._score = score
        self._total = total
        self._began = time.monotonic()
        self._milliseconds: list[float] = []
        self._scores: list[float] = []
        self._labels: list[float] = []
        self.replies = self.predictions = self.feedback = self.degraded = 0
        self.reasons: Counter[str] = Counter()
        self.decisions: Counter[str] = Counter()
        self.caught: Counter[str] = Counter()
        self.versions: Counter[str] = Counter()
        self._last: dict[str, str] = {}
        """decision -> the id of its last prediction"""

    def __call__(self, reply: Reply) -> None:
        """Count one reply."""
        self.replies += 1
        if reply.reason:
            self.reasons[reply.reason] += 1
        elif reply.event.kind == "feedback":
            self.feedback += 1
        else:
            self._count_prediction(reply)

    def _count_prediction(self, reply: Reply) -> None:
        answer = reply.answer
        self.predictions += 1
        self._milliseconds.append(reply.milliseconds)
        self.degraded += bool(answer.get("degraded"))
        self.versions[str(answer.get("model_version"))] += 1
        self._last[str(answer.get("decision"))] = answer.get("prediction_id", "")
        label = self._truth.get(reply.event.identity)
        if (decision := answer.get("decision")) is not None:
            self.decisions[decision] += 1
            self.caught[decision] += label is not None and label > POSITIVE
        if label is not None and (score := answer.get(self._score)) is not None:
            self._scores.append(score)
            self._labels.append(label)

    def result(self) -> dict[str, Any]:
        """Everything counted, for a table or JSON. Milliseconds; `ap` is None while there is no positive."""
        seconds = time.monotonic() - self._began
        p50, p99 = np.percentile(self._milliseconds, (50, 99)) if self._milliseconds else (None, None)
        return {
            "predictions": self.predictions,
            "labels": self.feedback,
            "errors": self.reasons.total(),
            "reasons": dict(self.reasons),
            "degraded": self.degraded,
            "seconds": round(seconds, 1),
            "rate": round(self.replies / seconds, 1),
            "p50_ms": None if p50 is None else round(float(p50), 2),
            "p99_ms": None if p99 is None else round(float(p99), 2),
            "versions": dict(self.versions),
            "decisions": dict(self.decisions),
            "positives": {
                "all": int(np.sum(np.array(self._labels) > POSITIVE)),
                **{k: v for k, v in self.caught.items() if v},
            },
            "ap": average_precision(np.array(self._labels) > POSITIVE, np.array(self._scores)),
            "telling_prediction": self._telling(),
        }

    def _telling(self) -> str:
        """The prediction that says most: the last one of the rarest decision."""
        return self._last[min(self._last, key=lambda decision: self.decisions[decision])] if self._last else ""

    @property
    def share(self) -> float:
        """Replies so far, as a share of the events."""
        return self.replies / self._total if self._total else 1.0

    def line(self) -> str:
        """Where the replay stands, in one line."""
        now = self.result()
        shown = {"events/s": now["rate"], "p99 ms": now["p99_ms"], "errors": now["errors"], "AP": now["ap"]}
        said = "  ".join(f"{name} {value:.3g}" for name, value in shown.items() if value is not None)
        return f"replay: {100 * self.share:.0f} %  {said}"

    def __rich__(self) -> "RenderableType":
        from rich.console import Group
        from rich.progress_bar import ProgressBar

        from cli.console import table

        shown = {name.replace("_", " "): value for name, value in self.result().items() if name != "telling_prediction"}
        return Group(ProgressBar(total=1.0, completed=self.share, width=60), table(shown))


def average_precision(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float | None:
    """Area under the precision-recall steps; rows of equal score count together. None without a positive.

    `positive` and `scores` are of shape (n,).
    """
    if not positive.any():
        return None
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    gained = np.diff(hits[ends], prepend=0)
    return float(np.sum(gained * hits[ends] / (ends + 1)) / hits[-1])
