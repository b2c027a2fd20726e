"""What a replay has seen so far: rate, latency, decisions, and how good the scores were."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cli.traffic import Reply

if TYPE_CHECKING:
    from rich.console import RenderableType

Online = Callable[[Sequence[Mapping[str, Any]], Sequence[str]], Mapping[str, Any]]
"""answers, JSON of the feedback -> what they were worth"""
POSITIVE = 0.5
"""a label above it is a positive"""


class Tally:
    """Counts replies.

    `truth` is identity -> label as the data set knows it; the gateway learns a label only when it arrives. `online`
    says what answers and the feedback to them were worth; without it they are decisions and scores of a class.
    """

    def __init__(self, truth: Mapping[str, float], score: str, total: int, online: Online | None = None) -> None:
        self._truth = truth
        self._score = score
        self._total = total
        self._online = online
        self._began = time.monotonic()
        self._milliseconds: list[float] = []
        self._scores: list[float] = []
        self._labels: list[float] = []
        self._answers: list[Mapping[str, Any]] = []
        self._feedback: list[str] = []
        self._asked: set[str] = set()
        self.replies = self.predictions = self.feedback = self.degraded = self.strangers = 0
        self.reasons: Counter[str] = Counter()
        self.decisions: Counter[str] = Counter()
        self.caught: Counter[str] = Counter()
        self.versions: Counter[str] = Counter()
        self._last: dict[str, str] = {}
        """decision -> the id of its last prediction"""

    def __call__(self, reply: Reply) -> None:
        """Count one reply."""
        self.replies += 1
        if reply.event.kind == "predict":
            self._asked.add(reply.event.identity)
        if reply.status == HTTPStatus.NOT_FOUND and reply.event.identity not in self._asked:
            self.strangers += 1  # its request was made before the window, and elsewhere
        elif reply.reason:
            self.reasons[reply.reason] += 1
        elif reply.event.kind == "feedback":
            self.feedback += 1
            if self._online:
                self._feedback.append(reply.event.body)
        else:
            self._count_prediction(reply)

    def _count_prediction(self, reply: Reply) -> None:
        answer = reply.answer
        self.predictions += 1
        self._milliseconds.append(reply.milliseconds)
        self.degraded += bool(answer.get("degraded"))
        self.versions[str(answer.get("model_version"))] += 1
        self._last[str(answer.get("decision"))] = answer.get("prediction_id", "")
        if self._online:
            self._answers.append(answer)
            return
        label = self._truth.get(reply.event.identity)
        if (decision := answer.get("decision")) is not None:
            self.decisions[decision] += 1
            self.caught[decision] += label is not None and label > POSITIVE
        if label is not None and (score := answer.get(self._score)) is not None:
            self._scores.append(score)
            self._labels.append(label)

    def result(self) -> dict[str, Any]:
        """Everything counted, for a table or JSON, and what the answers were worth. Milliseconds."""
        worth = dict(self._online(self._answers, self._feedback)) if self._online else self._classified()
        return {**self._counted(), "telling_prediction": self._telling(), "online": worth}

    def _counted(self) -> dict[str, Any]:
        seconds = time.monotonic() - self._began
        p50, p99 = np.percentile(self._milliseconds, (50, 99)) if self._milliseconds else (None, None)
        return {
            "predictions": self.predictions,
            "labels": self.feedback,
            **({"labels_of_others": self.strangers} if self.strangers else {}),
            "errors": self.reasons.total(),
            "reasons": dict(self.reasons),
            "degraded": self.degraded,
            "seconds": round(seconds, 1),
            "rate": round(self.replies / seconds, 1),
            "p50_ms": None if p50 is None else round(float(p50), 2),
            "p99_ms": None if p99 is None else round(float(p99), 2),
            "versions": dict(self.versions),
        }

    def _classified(self) -> dict[str, Any]:
        """Decisions, the positives among them, and the average precision: None while there is no positive."""
        positive = np.array(self._labels) > POSITIVE
        caught = {decision: count for decision, count in self.caught.items() if count}
        return {
            "decisions": dict(self.decisions),
            "positives": {"all": int(positive.sum()), **caught},
            "ap": average_precision(positive, np.array(self._scores)),
        }

    def _telling(self) -> str:
        """The prediction that says most: the last one of the rarest decision."""
        return self._last[min(self._last, key=lambda decision: self.decisions[decision])] if self._last else ""

    @property
    def share(self) -> float:
        """Replies so far, as a share of the events."""
        return min(self.replies / self._total, 1.0) if self._total else 1.0

    def line(self) -> str:
        """Where the replay stands, in one line."""
        now = self._counted()
        shown = {"events/s": now["rate"], "p99 ms": now["p99_ms"], "errors": now["errors"]}
        said = "  ".join(f"{name} {value:.3g}" for name, value in shown.items() if value is not None)
        return f"replay: {100 * self.share:.0f} %  {said}"

    def __rich__(self) -> "RenderableType":
        from rich.console import Group
        from rich.progress_bar import ProgressBar

        from cli.console import table

        worth = {} if self._online else self._classified()
        shown = {name.replace("_", " "): value for name, value in {**self._counted(), **worth}.items()}
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
