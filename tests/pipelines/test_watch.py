"""The flow that looks at served traffic, on a real Prefect: what it finds is kept, and a declined alert asked again."""

import json
import warnings
from datetime import UTC, datetime, timedelta

import pytest
from prefect_api import deploy, runs_of
from toy.toy_case import CASE

from orrery import settings as settings_module
from orrery.adapters.audit_log import AuditLog
from orrery.adapters.database import open_database
from orrery.adapters.watch_log import WatchLog
from orrery.errors import OrreryError
from orrery.retraining import DECLINED, STARTED, Alert
from orrery.watching import Watched

pytestmark = pytest.mark.slow
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
ALERT = Alert(name="DriftSustained", started_at=FIRST, fingerprint="f1", summary="Inputs drift.")


@pytest.fixture
def configured(catalogue, silent_platform, prefect, monkeypatch):
    """Settings of a platform that has answered nothing, and deployments of what a look may start."""
    monkeypatch.setenv("ORRERY_RETRAIN__LABELS", "0")
    settings_module.settings.cache_clear()
    monkeypatch.setattr("usecases.training", lambda name: CASE.training)
    monkeypatch.setattr("usecases.serving", lambda name: CASE.serving)
    for flow in ("respond", "report", "release"):
        deploy(prefect, flow)
    return settings_module.settings()


@pytest.fixture
def log(configured):
    engine = open_database(configured.log_url, durable=False)
    yield WatchLog(engine)
    engine.dispose()


@pytest.fixture
def asked(prefect):
    """The runs of `respond` there are."""
    return lambda: runs_of(prefect, "respond")


def look():
    from pipelines.watch import watch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return watch(use_case="toy", return_state=True)


def declined(configured):
    details = {"cause": ALERT.cause("toy"), "alert": json.loads(ALERT.model_dump_json())}
    AuditLog(configured).append(DECLINED, "toy", details)


def drifting(log):
    log.write(Watched("toy", FIRST, FIRST + timedelta(days=1), "1", "drift", 900, 0, sustained=True), FIRST)


def test_a_look_is_kept_even_where_nothing_was_answered(configured, log, asked):
    assert look().is_completed()
    looked_at, window = log.newest()["toy"]
    assert (window.state, window.rows) == ("no data", 0)
    assert datetime.now(UTC) - looked_at < timedelta(minutes=1)
    assert asked() == []


def test_features_that_cannot_be_compared_fail_the_run_and_keep_no_verdict(configured, log, monkeypatch):
    """Bad raw data, say: drift is judged all the same, and the run says what is amiss."""

    def broken(*_):
        raise OrreryError("row 7: there is no such terminal")

    monkeypatch.setattr("orrery.recomputing.recompute", broken)
    state = look()
    assert state.is_failed()
    assert "no such terminal" in state.message
    assert log.newest()["toy"][1].state == "no data"


def test_while_trouble_lasts_a_declined_alert_is_asked_again_once_a_window(configured, log, asked, monkeypatch):
    declined(configured)
    assert look().is_completed()
    assert asked() == [], "there is no trouble"
    drifting(log)
    monkeypatch.setenv("ORRERY_RETRAIN__LABELS", "1")
    settings_module.settings.cache_clear()
    assert look().is_completed()
    assert asked() == [], "it would be declined again"
    monkeypatch.setenv("ORRERY_RETRAIN__LABELS", "0")
    settings_module.settings.cache_clear()
    assert look().is_completed()
    assert look().is_completed()
    [run] = asked()
    assert run["parameters"]["use_case"] == "toy"
    assert run["parameters"]["alert"]["fingerprint"] == "f1"


def test_an_alert_that_started_a_release_is_not_asked_again(configured, log, asked):
    before = len(asked())
    declined(configured)
    AuditLog(configured).append(
        STARTED, "toy", {"cause": ALERT.cause("toy"), "alert": {}, "reasons": [], "parameters": {}}
    )
    drifting(log)
    assert look().is_completed()
    assert len(asked()) == before
