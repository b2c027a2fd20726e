"""What the watch has found, as the monitor shows it."""

import logging
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry, Counter

from orrery.adapters.database import open_database
from orrery.adapters.prediction_log import LogUnavailable
from orrery.adapters.watch_log import WatchLog
from orrery.watching import ColumnDrift, Measure, Quality, Watched
from services.monitor.watch_metrics import MOST_FEATURES, WatchMetrics

START, HOUR = datetime(2024, 5, 1, tzinfo=UTC), timedelta(hours=1)
WATCHED_AT = datetime(2024, 5, 3, tzinfo=UTC)
COLUMN = ColumnDrift("amount", psi=0.31, threshold=0.12, missing=0.02, outside=0.01, importance=0.8)
WINDOW = Watched("a", START, START + HOUR, "7", "drift", rows=5_000, degraded=3, inputs=(COLUMN,), share=0.8)
TRUTH = Quality(
    labelled=4_900,
    maturity=0.98,
    lag_seconds=3_600.0,
    realised={"auc": 0.7, "ap": 0.4},
    estimated={"auc": 0.9, "ap": 0.42},
    parted=("auc",),
)


class Log(WatchLog):
    """The watch's log in SQLite, which can be away."""

    away = False
    read = 0

    def latest(self, use_case: str, limit: int = 1) -> list[tuple[datetime, Watched]]:
        self.read += limit > 1
        if self.away:
            raise LogUnavailable("the log of the watch cannot be read: no route to host")
        return super().latest(use_case, limit)


class Shown:
    """The metrics of a log, and a clock that the test moves."""

    def __init__(self, log: WatchLog) -> None:
        self.registry, self.seconds = CollectorRegistry(), 0.0
        errors = Counter("monitor_errors_total", "-", ["dep"], registry=self.registry)
        self.metrics = WatchMetrics(log, 300, errors, clock=lambda: self.seconds)
        self.registry.register(self.metrics)
        self.poll = self.metrics.poll

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def all(self) -> dict[str, list[dict[str, str]]]:
        found: dict[str, list[dict[str, str]]] = {}
        for family in self.registry.collect():
            for sample in family.samples:
                assert math.isfinite(sample.value)
                found.setdefault(sample.name, []).append(sample.labels)
        return found


@pytest.fixture
def log(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'log.db'}", durable=False)
    yield Log(engine)
    engine.dispose()


@pytest.fixture
def shown(log) -> Shown:
    return Shown(log)


def test_before_the_first_watch_only_its_promise_is_shown(shown):
    shown.poll()

    assert set(shown.all()) - {"monitor_errors_created"} == {
        "monitor_errors_total", "watch_interval_seconds", "watch_log_last_success_timestamp_seconds"
    }  # fmt: skip
    assert shown("watch_interval_seconds") == 300
    assert shown("monitor_errors_total", dep="log") == 0


def test_a_window_is_shown_with_its_rows_and_its_time(log, shown):
    score = replace(COLUMN, name="score", psi=0.05)
    log.write(replace(WINDOW, score=score, sustained=True), WATCHED_AT)
    shown.poll()

    assert shown("drift_score", use_case="a", feature="amount", method="psi_ref_bins") == 0.31
    assert shown("drift_threshold", use_case="a", feature="amount") == 0.12
    assert shown("feature_missing_ratio", use_case="a", feature="amount") == 0.02
    assert shown("feature_outside_ratio", use_case="a", feature="amount") == 0.01
    assert shown("drift_share", use_case="a") == 0.8
    assert shown("drift_sustained", use_case="a") == 1
    assert shown("drift_window_rows", use_case="a") == 5_000
    assert shown("drift_window_end_timestamp_seconds", use_case="a") == (START + HOUR).timestamp()
    assert shown("drift_last_success_timestamp_seconds", use_case="a") == WATCHED_AT.timestamp()
    assert shown("score_drift_score", use_case="a") == 0.05
    assert shown("score_drift_threshold", use_case="a") == 0.12
    states = ("no data", "few rows", "stable", "drift")
    assert [shown("drift_state", use_case="a", state=state) for state in states] == [0, 0, 0, 1]


def test_a_window_without_rows_claims_nothing_of_inputs_scores_and_labels(log, shown):
    empty = Watched("a", START, START + HOUR, None, "no data", rows=0, degraded=0)
    log.write(empty, WATCHED_AT)
    shown.poll()

    names = {name for name in shown.all() if name.startswith(("drift_", "score_", "label_", "realized_", "estimated_"))}
    assert names == {
        "drift_sustained", "drift_state", "drift_window_rows", "drift_window_end_timestamp_seconds",
        "drift_last_success_timestamp_seconds",
    }  # fmt: skip


def test_what_is_no_number_is_left_out(log, shown):
    odd = replace(COLUMN, psi=math.nan, threshold=math.inf)
    log.write(replace(WINDOW, inputs=(odd,), quality=replace(TRUTH, lag_seconds=None)), WATCHED_AT)
    shown.poll()

    assert {"drift_score", "drift_threshold", "label_lag_seconds"} & set(shown.all()) == set()
    assert shown("feature_missing_ratio", use_case="a", feature="amount") == 0.02


def test_what_a_use_case_measures_has_a_method_of_its_own(log, shown):
    log.write(replace(WINDOW, measures=(Measure("embedding", "mmd_rbf", 0.04, 0.01),)), WATCHED_AT)
    shown.poll()

    assert shown("drift_score", use_case="a", feature="embedding", method="mmd_rbf") == 0.04
    assert shown("drift_threshold", use_case="a", feature="embedding") == 0.01
    assert shown("drift_score", use_case="a", feature="amount", method="psi_ref_bins") == 0.31


def test_the_most_important_inputs_have_series(log, shown):
    many = [replace(COLUMN, name=f"f{number}", importance=number / 1e4) for number in range(MOST_FEATURES + 9)]
    log.write(replace(WINDOW, inputs=tuple(many)), WATCHED_AT)
    shown.poll()

    named = {labels["feature"] for labels in shown.all()["drift_score"]}
    assert named == {f"f{number}" for number in range(9, MOST_FEATURES + 9)}


def test_truth_stands_beside_the_estimate_of_its_own_window(log, shown):
    log.write(replace(WINDOW, quality=TRUTH), WATCHED_AT)
    early = Quality(labelled=10, maturity=0.002, lag_seconds=5.0, realised={"auc": 0.1}, estimated={"auc": 0.99})
    log.write(replace(WINDOW, first=START + HOUR, last=START + 2 * HOUR, quality=early), WATCHED_AT)
    shown.poll()

    assert shown("label_maturity_ratio", use_case="a") == 0.002
    assert shown("label_lag_seconds", use_case="a") == 3_600
    assert shown("realized_quality", use_case="a", metric="ap") == 0.4
    assert shown("estimated_quality", use_case="a", metric="ap") == 0.42
    assert (shown("realized_auc", use_case="a"), shown("estimated_auc", use_case="a")) == (0.7, 0.9)
    assert shown("quality_parted", use_case="a", metric="auc") == 1
    assert shown("quality_parted", use_case="a", metric="ap") == 0
    assert shown("quality_window_end_timestamp_seconds", use_case="a") == (START + HOUR).timestamp()


def test_each_of_the_last_windows_shows_how_many_labels_have_come(log, shown):
    for ago in range(15):
        first = START - ago * HOUR
        log.write(
            replace(WINDOW, first=first, last=first + HOUR, quality=replace(TRUTH, maturity=ago / 20)), WATCHED_AT
        )
    shown.poll()

    assert shown("window_label_maturity_ratio", use_case="a", windows_ago="00") == 0
    assert shown("window_label_maturity_ratio", use_case="a", windows_ago="11") == 0.55
    assert len(shown.all()["window_label_maturity_ratio"]) == 12


def test_before_labels_are_mature_there_is_an_estimate_and_no_truth(log, shown):
    log.write(replace(WINDOW, quality=replace(TRUTH, maturity=0.89)), WATCHED_AT)
    shown.poll()

    assert shown("label_maturity_ratio", use_case="a") == 0.89
    assert shown("estimated_quality", use_case="a", metric="ap") == 0.42
    assert shown("window_label_maturity_ratio", use_case="a", windows_ago="00") == 0.89
    truth = {"realized_quality", "realized_auc", "quality_parted", "quality_window_end_timestamp_seconds"}
    assert truth & set(shown.all()) == set()


def test_labels_that_arrive_for_an_older_window_are_seen_within_a_minute(log, shown):
    log.write(replace(WINDOW, quality=replace(TRUTH, maturity=0.5)), WATCHED_AT)
    log.write(replace(WINDOW, first=START + HOUR, last=START + 2 * HOUR), WATCHED_AT)
    shown.poll()
    log.write(replace(WINDOW, quality=TRUTH), WATCHED_AT)
    for shown.seconds in (5, 10, 59):
        shown.poll()
    assert (log.read, shown("realized_auc", use_case="a")) == (1, None), "windows far back are not read at each poll"

    shown.seconds = 60
    shown.poll()
    assert shown("realized_auc", use_case="a") == 0.7


def test_while_the_database_is_away_what_it_last_said_is_shown_and_its_age_told(log, shown, caplog):
    log.write(WINDOW, WATCHED_AT)
    shown.poll()
    read_at = shown("watch_log_last_success_timestamp_seconds")
    log.away = True
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            shown.poll()

        assert shown("monitor_errors_total", dep="log") == 3
        assert shown("watch_log_last_success_timestamp_seconds") == read_at
        assert shown("drift_score", use_case="a", feature="amount", method="psi_ref_bins") == 0.31
        assert len([line for line in caplog.messages if "what it last said is shown" in line]) == 1

        log.away = False
        shown.poll()
        shown.poll()
    assert shown("watch_log_last_success_timestamp_seconds") > read_at
    assert caplog.messages.count("the watch's log is read again") == 1


def test_a_database_that_never_answered_is_told_and_nothing_is_claimed():
    engine = open_database("postgresql://nobody@127.0.0.1:1/none", durable=False)
    shown = Shown(WatchLog(engine))
    shown.poll()
    engine.dispose()

    assert shown("monitor_errors_total", dep="log") == 1
    assert shown("watch_log_last_success_timestamp_seconds") is None
    assert "drift_sustained" not in shown.all()
