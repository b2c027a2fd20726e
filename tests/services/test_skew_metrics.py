"""What was found of served features, as the monitor shows it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry, Counter

from orrery.adapters.database import open_database
from orrery.adapters.watch_log import SkewLog
from orrery.skew import Ages, Skew, ViewSkew
from services.monitor.skew_metrics import MOST_FEATURES, SkewMetrics

START, DAY = datetime(2024, 5, 1, tzinfo=UTC), timedelta(days=1)
LOOKED_AT = datetime(2024, 5, 3, tzinfo=UTC)
VIEW = ViewSkew(rows=1_000, differing=3, features={"amount": 3, "count": 1, "night": 0})
SKEW = Skew(
    "a", START, START + DAY, sampled=1_020, degraded=15, unknown=5,
    views={"rows": VIEW}, ages={"history": Ages(3_600.0, 90_000.0)},
)  # fmt: skip


class Shown:
    def __init__(self, log):
        self.registry = CollectorRegistry()
        errors = Counter("monitor_errors_total", "-", ["dep"], registry=self.registry)
        self.metrics = SkewMetrics(log, errors)
        self.registry.register(self.metrics)

    def __call__(self, name, **labels):
        return self.registry.get_sample_value(name, labels)

    def names(self):
        return {sample.name for family in self.metrics.collect() for sample in family.samples}


@pytest.fixture
def log(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'log.db'}", durable=False)
    yield SkewLog(engine)
    engine.dispose()


def shown(log):
    found = Shown(log)
    found.metrics.poll()
    return found


def test_shares_are_shown_by_view_and_by_feature_with_their_rows_and_times(log):
    log.write(SKEW, LOOKED_AT)
    found = shown(log)
    of_view = {"use_case": "a", "feature_view": "rows"}
    assert found("feature_view_skew_ratio", **of_view) == 0.003
    shares = {name: found("feature_skew_ratio", **of_view, feature=name) for name in VIEW.features}
    assert shares == {"amount": 0.003, "count": 0.001, "night": 0}
    rows = {
        each: found("feature_skew_rows", use_case="a", outcome=each) for each in ("compared", "degraded", "unknown")
    }
    assert rows == {"compared": 1_000, "degraded": 15, "unknown": 5}
    assert found("feature_skew_window_end_timestamp_seconds", use_case="a") == (START + DAY).timestamp()
    assert found("feature_skew_last_success_timestamp_seconds", use_case="a") == LOOKED_AT.timestamp()
    ages = [
        found("feature_freshness_seconds", use_case="a", feature_view="history", quantile=q) for q in ("0.5", "0.95")
    ]
    assert ages == [3_600, 90_000]


def test_one_row_of_a_thousand_is_a_thousandth(log):
    log.write(replace(SKEW, views={"rows": replace(VIEW, differing=1, features={"count": 1})}), LOOKED_AT)
    assert shown(log)("feature_skew_ratio", use_case="a", feature_view="rows", feature="count") == 0.001


def test_where_nothing_could_be_compared_no_share_is_claimed(log):
    log.write(replace(SKEW, degraded=0, unknown=1_020, views={}), LOOKED_AT)
    log.write(replace(SKEW, use_case="b", views={"rows": ViewSkew(0, 0, {"amount": 0})}), LOOKED_AT)
    found = shown(log)
    assert found("feature_skew_rows", use_case="a", outcome="compared") == 0
    assert not [name for name in found.names() if name.endswith("skew_ratio")]


def test_the_worst_features_have_series(log):
    many = {f"f{number:03}": number for number in range(MOST_FEATURES + 9)}
    log.write(replace(SKEW, views={"rows": ViewSkew(1_000, 60, many)}), LOOKED_AT)
    found = shown(log)
    of_view = {"use_case": "a", "feature_view": "rows"}
    assert found("feature_skew_ratio", **of_view, feature="f008") is None
    assert found("feature_skew_ratio", **of_view, feature="f009") == 0.009


def test_a_database_that_is_away_is_told_and_what_it_last_said_is_shown(log, monkeypatch):
    log.write(SKEW, LOOKED_AT)
    found = shown(log)
    monkeypatch.setattr(log, "_engine", open_database("postgresql://nobody@127.0.0.1:1/none", durable=False))
    found.metrics.poll()
    assert found("monitor_errors_total", dep="log") == 1
    assert found("feature_view_skew_ratio", use_case="a", feature_view="rows") == 0.003


def test_before_the_first_look_nothing_is_shown(log):
    assert shown(log).names() == set()
