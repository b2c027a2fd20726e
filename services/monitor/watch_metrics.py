"""What the watch has found of served traffic, as metrics: the last that its log said, and how old that is."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import get_args

from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from orrery.adapters.watch_log import WatchLog
from orrery.watching import ColumnDrift, Quality, State, Watched
from services.monitor.reading import Reading

MOST_FEATURES = 50
"""the most important inputs of a model, which have series of their own"""
METHOD = "psi_ref_bins"
"""population stability index on the bins that were frozen with the model"""
_WINDOWS, _SHOWN = 200, 12
"""how far back a window with mature labels is looked for, and how many windows show theirs"""
_SECONDS = 60.0
"""between two looks that far back, when no new window makes it look sooner"""
_OF_A_FEATURE, _OF_A_METRIC = ("use_case", "feature"), ("use_case", "metric")
_METRICS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "drift_score": (
        "How far an input, or what a use case measures, is from what the model was judged on",
        (*_OF_A_FEATURE, "method"),
    ),
    "drift_threshold": ("What chance alone seldom exceeds at this number of rows", _OF_A_FEATURE),
    "feature_missing_ratio": ("Rows without a value", _OF_A_FEATURE),
    "feature_importance_ratio": ("How much of the model's output hangs on it", _OF_A_FEATURE),
    "feature_outside_ratio": ("Rows beyond all that the model learned from", _OF_A_FEATURE),
    "drift_share": ("Importance of the inputs that have drifted, of all inputs'", ("use_case",)),
    "drift_sustained": ("1: drift in enough of the last windows to act on", ("use_case",)),
    "drift_state": ("1 for what the last window is", ("use_case", "state")),
    "drift_window_rows": ("Rows of the last window", ("use_case",)),
    "drift_window_end_timestamp_seconds": ("End of the last window, in event time", ("use_case",)),
    "drift_last_success_timestamp_seconds": ("When the last window was watched", ("use_case",)),
    "score_drift_score": ("How far the watched output is from the model's own on its test rows", ("use_case",)),
    "score_drift_threshold": ("What chance alone seldom exceeds at this number of rows", ("use_case",)),
    "label_maturity_ratio": ("Rows of the last window whose label has arrived", ("use_case",)),
    "window_label_maturity_ratio": (
        "Rows whose label has arrived, of the last windows; 00 is the newest",
        ("use_case", "windows_ago"),
    ),
    "label_lag_seconds": ("Median wait for a label, in the window that quality is of", ("use_case",)),
    "quality_window_end_timestamp_seconds": ("End of the last window with mature labels, event time", ("use_case",)),
    "realized_quality": ("What the answers were worth, in the last window with mature labels", _OF_A_METRIC),
    "estimated_quality": ("What scores alone promised of the same window, or of the last if none is", _OF_A_METRIC),
    "realized_auc": ("realized_quality of auc", ("use_case",)),
    "estimated_auc": ("estimated_quality of auc", ("use_case",)),
    "quality_parted": ("1: worse than estimated by more than chance gives", _OF_A_METRIC),
    "watch_interval_seconds": ("Promised time between two looks at a use case", ()),
    "watch_log_last_success_timestamp_seconds": ("When the watch's log was last read", ()),
}
"""name -> meaning, labels"""
_Sample = tuple[str, tuple[str, ...], float | None]
_Windows = Mapping[str, tuple[datetime, Watched]]


class WatchMetrics(Collector):
    """Reads the watch's log when it is told to, and shows what it last read. `errors` counts what it could not read."""

    def __init__(
        self, log: WatchLog, interval: float, errors: Counter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._source, self._interval, self._clock = log, interval, clock
        self._reading = Reading(self._read, errors.labels("log"))
        self.poll = self._reading.poll
        self._newest: _Windows = {}
        self._mature: Mapping[str, Watched] = {}
        self._maturities: Mapping[str, list[float]] = {}
        self._looked_back = -math.inf

    def _read(self) -> None:
        newest, now = self._source.newest(), self._clock()
        if newest != self._newest or now >= self._looked_back + _SECONDS:
            found = {name: [each for _, each in self._source.latest(name, _WINDOWS)] for name in newest}
            self._mature = {name: mature for name, windows in found.items() if (mature := _mature(windows))}
            self._maturities = {name: _maturities(windows[:_SHOWN]) for name, windows in found.items()}
            self._looked_back = now
        self._newest = newest

    def collect(self) -> Iterator[GaugeMetricFamily]:
        families = {name: GaugeMetricFamily(name, said, labels=labels) for name, (said, labels) in _METRICS.items()}
        for name, labels, value in self._samples():
            if value is not None and math.isfinite(value):
                families[name].add_metric(labels, value)
        yield from families.values()

    def _samples(self) -> Iterator[_Sample]:
        yield "watch_interval_seconds", (), self._interval
        yield "watch_log_last_success_timestamp_seconds", (), self._reading.at
        mature = self._mature
        for name, (at, window) in self._newest.items():
            yield "drift_last_success_timestamp_seconds", (name,), at.timestamp()
            yield from _of_window(name, window)
            yield from _of_quality(name, window, mature.get(name))
            for ago, maturity in enumerate(self._maturities.get(name, ())):
                yield "window_label_maturity_ratio", (name, f"{ago:02}"), maturity


def _mature(windows: Sequence[Watched]) -> Watched | None:
    """The newest window that most labels have arrived of."""
    return next((each for each in windows if each.quality and each.quality.mature), None)


def _maturities(windows: Sequence[Watched]) -> list[float]:
    """Of each window; NaN, which is not shown, where no label is wanted."""
    return [each.quality.maturity if each.quality else math.nan for each in windows]


def _of_window(name: str, window: Watched) -> Iterator[_Sample]:
    yield "drift_window_rows", (name,), window.rows
    yield "drift_window_end_timestamp_seconds", (name,), window.last.timestamp()
    yield "drift_sustained", (name,), window.sustained
    for state in get_args(State):
        yield "drift_state", (name, state), state == window.state
    if window.inputs:
        yield "drift_share", (name,), window.share
    for column in sorted(window.inputs, key=lambda each: -each.importance)[:MOST_FEATURES]:
        yield from _of_input(name, column)
    for each in window.measures:
        yield "drift_score", (name, each.feature, each.method), each.value
        yield "drift_threshold", (name, each.feature), each.threshold
    if window.score:
        yield "score_drift_score", (name,), window.score.psi
        yield "score_drift_threshold", (name,), window.score.threshold


def _of_input(name: str, column: ColumnDrift) -> Iterator[_Sample]:
    yield "drift_score", (name, column.name, METHOD), column.psi
    yield "drift_threshold", (name, column.name), column.threshold
    yield "feature_missing_ratio", (name, column.name), column.missing
    yield "feature_importance_ratio", (name, column.name), column.importance
    yield "feature_outside_ratio", (name, column.name), column.outside


def _of_quality(name: str, newest: Watched, mature: Watched | None) -> Iterator[_Sample]:
    """Truth and estimate of one window; with no mature one there is no truth, and the estimate is the newest's."""
    if newest.quality:
        yield "label_maturity_ratio", (name,), newest.quality.maturity
    if mature and mature.quality:
        yield "quality_window_end_timestamp_seconds", (name,), mature.last.timestamp()
        yield from _estimated(name, mature.quality)
        yield from _realised(name, mature.quality)
    elif newest.quality:
        yield from _estimated(name, newest.quality)


def _estimated(name: str, quality: Quality) -> Iterator[_Sample]:
    for metric, value in quality.estimated.items():
        yield "estimated_quality", (name, metric), value
    yield "estimated_auc", (name,), quality.estimated.get("auc")


def _realised(name: str, quality: Quality) -> Iterator[_Sample]:
    yield "label_lag_seconds", (name,), quality.lag_seconds
    for metric, value in quality.realised.items():
        yield "realized_quality", (name, metric), value
        yield "quality_parted", (name, metric), metric in quality.parted
    yield "realized_auc", (name,), quality.realised.get("auc")
