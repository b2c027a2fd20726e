"""The flow that reports on served windows, on a real Prefect: `watch` asks for it, and it makes what is due."""

import warnings
from datetime import UTC, datetime, timedelta

import pytest
from prefect_api import deploy, runs_of
from toy.toy_case import CASE

from orrery import reporting
from orrery.adapters.database import open_database
from orrery.adapters.report_log import Kept, ReportLog
from orrery.adapters.watch_log import WatchLog
from orrery.watching import Watched

pytestmark = pytest.mark.slow
FIRST = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def configured(silent_platform, prefect, monkeypatch):
    """Settings of a platform with one judged window, and a deployment of `report`."""
    monkeypatch.setattr("usecases.training", lambda name: CASE.training)
    monkeypatch.setattr("usecases.serving", lambda name: CASE.serving)
    deploy(prefect, "report")
    return silent_platform


@pytest.fixture
def engine(configured):
    opened = open_database(configured.log_url, durable=False)
    WatchLog(opened).write(Watched("toy", FIRST, FIRST + timedelta(days=1), "1", "stable", 900, 0), FIRST)
    yield opened
    opened.dispose()


def run(name):
    import importlib

    flow = getattr(importlib.import_module(f"pipelines.{name}"), name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return flow(use_case="toy", return_state=True)


def kept():
    last = FIRST + timedelta(days=1)
    return Kept("toy", FIRST, last, "1", "r", "mlflow-artifacts:/x", ("data-drift.html",), 900, False, last)


def test_the_watch_asks_for_one_report_until_it_is_made(configured, engine, prefect):
    for _ in range(2):
        assert run("watch").is_completed()
    [made] = runs_of(prefect, "report")
    assert made["parameters"] == {"use_case": "toy"}
    prefect.delete(f"/flow_runs/{made['id']}")
    ReportLog(engine).write(kept())
    assert run("watch").is_completed()
    assert runs_of(prefect, "report") == []


def test_its_pages_are_linked_in_prefect(configured, engine, prefect, monkeypatch):
    monkeypatch.setattr(reporting, "_made", lambda *_: kept())
    assert run("report").is_completed()
    found = prefect.post("/artifacts/filter", json={"artifacts": {"type": {"any_": ["markdown"]}}}).json()
    address = "http://127.0.0.1:8000/reports/toy/20240101T000000Z/data-drift.html"
    assert [each["key"] for each in found if address in each["data"]] == ["report-toy-data-drift"]


def test_where_nothing_is_due_it_ends_well(configured, engine):
    ReportLog(engine).write(kept())
    assert run("report").is_completed()


def test_a_window_whose_log_was_emptied_fails_and_says_so(configured, engine):
    state = run("report")
    assert state.is_failed()
    assert "was the log emptied?" in state.message
