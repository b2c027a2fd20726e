"""Served features are computed again offline: a sample, once a window, and what nobody can say is counted apart."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel
from sqlalchemy import insert, update
from toy.toy_case import CASE

from orrery.adapters.database import open_database
from orrery.adapters.feature_store import online_layout
from orrery.adapters.online_store import StoreUnavailable, online_path
from orrery.adapters.prediction_log import LogUnavailable, metadata, predictions
from orrery.adapters.traffic_log import TrafficLog
from orrery.adapters.watch_log import SkewLog
from orrery.moments import micros
from orrery.preparation import data_versions
from orrery.recomputing import recompute
from orrery.settings import Settings
from orrery.skew import Skew
from orrery.usecase import Key, SourceRequest
from orrery.watch_settings import WatchSettings
from orrery.watching import Watching

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
START, NOW = datetime(2024, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)


class Asked(BaseModel):
    id: int
    x: float


def features(raw):
    """x, and how many rows there were before this one."""
    ordered = raw.sort_values("at")
    table = pd.DataFrame({"id": ordered["id"], "event_timestamp": ordered["at"], "x": ordered["x"].astype(np.float32)})
    return {"toy_features": table.assign(before=np.arange(len(table)))}


def collected(requests, *_):
    rows = [(asked.id, START + asked.id * HOUR, asked.x) for asked in requests]
    return pd.DataFrame(rows, columns=["id", "at", "x"]).astype({"at": "datetime64[us, UTC]"})


TOY = replace(
    CASE,
    training=replace(CASE.training, features=features, collected=collected, watching=Watching(window=DAY)),
    serving=replace(
        CASE.serving,
        request=Asked,
        feature_names=("x", "before"),
        keys=lambda asked: [Key("toy_history", asked.id)],
        example=Asked(id=0, x=0),
    ),
)


def raw(rows):
    """One row an hour, as the data of an installation say."""
    at = pd.Series([START + number * HOUR for number in range(rows)], dtype="datetime64[us, UTC]")
    return pd.DataFrame({"id": np.arange(rows), "at": at, "x": np.arange(rows) / 7})


class Platform:
    """A log, an online store that was filled until a moment, and raw data that know more than that."""

    def __init__(self, home, sample=1_000):
        self.settings = Settings(home=home, watch=WatchSettings(sample=sample))
        self.engine = open_database(self.settings.log_url, durable=False)
        metadata.create_all(self.engine)
        self.traffic, self.found = TrafficLog(self.engine), SkewLog(self.engine)

    def fill(self, until):
        path = online_path(self.settings)
        path.parent.mkdir(parents=True)
        path.touch()
        layout = online_layout(self.settings)
        layout.prepare([])
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("INSERT INTO orrery_views (view, declaration) VALUES ('toy_history', '{}')")
        layout.note_materialized("toy_history", until)

    def prepare(self, rows):
        data_versions(self.settings).add("toy", raw(rows), {"rows": rows}, SourceRequest("generated"))

    def answer(self, number, before=None, **other):
        """An answer to event `number`, whose stored values are of the hour before."""
        seen = {"x": float(np.float32(number / 7)), "before": float(number if before is None else before)}
        source = {"entity": 1, "status": "present", "event_time": (START + (number - 1) * HOUR).isoformat()}
        values = {
            "sequence": number + 1, "prediction_id": str(number), "use_case": "toy", "identity": str(number),
            "event_time": micros(START + number * HOUR), "recorded_at": 0, "variant": "champion", "degraded": False,
            "rules_version": "1", "answer": "{}", "request": json.dumps({"id": number, "x": number / 7}),
            "features": json.dumps(seen), "sources": json.dumps({"toy_history": source}),
        }  # fmt: skip
        with self.engine.begin() as connection:
            connection.execute(insert(predictions).values(values | other))

    def recompute(self, case=TOY, now=NOW):
        return recompute(case, self.traffic, self.found, self.settings, now)


@pytest.fixture
def platform(tmp_path):
    """Two days of answers and a bit, after a day that the store was filled with; the raw data know them all."""
    platform = Platform(tmp_path)
    platform.prepare(100)
    platform.fill(START + DAY)
    for number in range(24, 80):
        platform.answer(number)
    yield platform
    platform.engine.dispose()


def test_a_clean_replay_has_no_skew(platform):
    skew = platform.recompute()
    assert (skew.first, skew.last) == (START + 2 * DAY, START + 3 * DAY)
    assert (skew.sampled, skew.degraded, skew.unknown, skew.compared) == (24, 0, 0, 24)
    view = skew.views["toy_features"]
    assert (view.rows, view.differing, view.features) == (24, 0, {"x": 0, "before": 0})
    assert (skew.ages["toy_history"].median_seconds, skew.ages["toy_history"].late_seconds) == (3_600, 3_600)
    assert platform.found.newest()["toy"] == (NOW, skew)


def test_one_row_that_differs_is_one_of_all(platform):
    changed = json.dumps({"x": float(np.float32(60 / 7)), "before": 59.0})
    with platform.engine.begin() as connection:
        connection.execute(update(predictions).where(predictions.c.identity == "60").values(features=changed))
    view = platform.recompute().views["toy_features"]
    assert (view.differing, view.features) == (1, {"x": 0, "before": 1})
    assert view.share(view.differing) == 1 / 24


def test_what_the_raw_data_know_and_nobody_has_told_is_not_expected(tmp_path):
    """A replay of every other event: those left out lie in the raw data, and no store can know them."""
    other = Platform(tmp_path / "other")
    other.prepare(100)
    other.fill(START + DAY)
    for place, number in enumerate(range(24, 80, 2)):
        other.answer(number, before=24 + place)
    skew = other.recompute()
    other.engine.dispose()
    assert (skew.compared, skew.views["toy_features"].differing) == (12, 0)


def test_without_prepared_data_all_that_is_known_was_served(tmp_path):
    alone = Platform(tmp_path)
    alone.fill(START)
    for number in range(60):
        alone.answer(number)
    skew = alone.recompute()
    alone.engine.dispose()
    assert (skew.compared, skew.views["toy_features"].differing) == (24, 0)


def test_a_memory_bounds_what_is_read(platform):
    seen = []

    def remembered(frame):
        seen.append((frame["at"].min(), frame["at"].max()))
        return {"toy_features": features(frame)["toy_features"].drop(columns="before")}

    watching = Watching(window=DAY, memory=30 * HOUR)
    case = replace(TOY, training=replace(TOY.training, features=remembered, watching=watching))
    skew = platform.recompute(case)
    assert seen == [(START + 18 * HOUR, START + 71 * HOUR)]
    assert skew.views["toy_features"].features == {"x": 0}


def test_degraded_and_unknown_rows_are_no_skew(platform):
    with platform.engine.begin() as connection:
        for identity, changed in (("50", {"degraded": True}), ("51", {"features": None})):
            connection.execute(update(predictions).where(predictions.c.identity == identity).values(changed))
    skew = platform.recompute()
    assert (skew.sampled, skew.degraded, skew.unknown, skew.compared) == (24, 2, 0, 22)


def test_where_requests_do_not_become_raw_rows_nobody_knows_what_they_should_have_been(platform):
    skew = platform.recompute(replace(TOY, training=replace(TOY.training, collected=None)))
    assert (skew.unknown, skew.compared, skew.views) == (24, 0, {})
    assert "does not say how its requests become raw rows" in skew.reason
    assert skew.ages["toy_history"].median_seconds == 3_600


def test_the_sample_is_bounded_and_the_same_each_time(platform):
    first = platform.traffic.sample("toy", START + DAY, START + 2 * DAY, 5)
    assert len(first) == 5
    assert first == platform.traffic.sample("toy", START + DAY, START + 2 * DAY, 5)
    other = platform.traffic.sample("toy", START + 2 * DAY, START + 3 * DAY, 5)
    assert [row.sequence % 24 for row in first] != [row.sequence % 24 for row in other]
    assert platform.traffic.sample("nobody", START, START + 9 * DAY, 5) == []


def test_a_window_is_compared_once_and_each_look_is_noted(platform, monkeypatch):
    first = platform.recompute()
    monkeypatch.setattr("orrery.recomputing.judge", lambda *_: pytest.fail("it was compared before"))
    assert platform.recompute(now=NOW + HOUR) == first
    assert platform.found.newest()["toy"] == (NOW + HOUR, first)
    assert len(platform.found.latest("toy", 9)) == 1
    platform.found.write(replace(first, first=START + 9 * DAY, last=START + 10 * DAY), NOW)
    assert platform.recompute() == first, "event time has gone back, as when a replay begins again"


def test_a_look_that_is_killed_is_made_up_for(platform):
    def killed(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        platform.recompute(replace(TOY, training=replace(TOY.training, features=killed)))
    assert platform.found.newest() == {}
    assert platform.recompute().compared == 24


def test_nothing_is_said_before_a_window_is_over_or_where_nothing_is_stored(platform, tmp_path):
    new = Platform(tmp_path / "new")
    assert new.recompute() is None
    new.answer(3)
    assert new.recompute() is None
    new.engine.dispose()
    stateless = replace(TOY, serving=replace(TOY.serving, keys=lambda _: []))
    assert platform.recompute(stateless) is None
    platform.settings = platform.settings.model_copy(update={"watch": WatchSettings(sample=0)})
    assert platform.recompute() is None
    assert platform.found.newest() == {}


def test_a_store_or_a_log_that_is_away_is_no_skew(platform):
    online_path(platform.settings).unlink()
    with pytest.raises(StoreUnavailable):
        platform.recompute()
    assert platform.found.newest() == {}
    away = open_database("postgresql://nobody@127.0.0.1:1/none", durable=False)
    with pytest.raises(LogUnavailable):
        recompute(TOY, TrafficLog(away), SkewLog(away), platform.settings, NOW)
    away.dispose()


def test_what_is_kept_is_what_was_found(platform):
    skew = platform.recompute()
    assert Skew.from_json(skew.to_json()) == skew
