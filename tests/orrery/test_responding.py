"""What an alert leads to, on a real log, catalogue and audit log: one decision and at most one release."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prefect_runs import running_prefect
from toy.toy_case import TRAINING

from orrery import responding
from orrery.adapters.audit_log import AuditLog
from orrery.adapters.database import open_database
from orrery.adapters.log_spool import open_log
from orrery.adapters.log_writer import LogWriter
from orrery.adapters.orchestrator import Orchestrator, OrchestratorUnavailable, RunRefused, UnknownDeployment
from orrery.adapters.prediction_log import LabelRecord, PredictionRecord
from orrery.adapters.registry import CHAMPION, Record, Registry
from orrery.adapters.watch_log import WatchLog
from orrery.moments import micros
from orrery.retraining import APPROVED, DECLINED, STARTED, SUGGESTED, Alert
from orrery.settings import PrefectSettings
from orrery.watch_settings import RetrainSettings
from orrery.watching import Quality, Watched

AS_OF = datetime(2024, 1, 1, tzinfo=UTC)
"""of every bundle that `make_bundle` makes"""
ALERT = Alert(name="Drift", started_at=AS_OF + timedelta(days=40), fingerprint="f1", summary="Inputs drift.")
CAUSE = ALERT.cause("toy")


def prediction(identity: str, at: datetime) -> PredictionRecord:
    return PredictionRecord(
        prediction_id=f"p{identity}", use_case="toy", identity=identity, event_time=micros(at), recorded_at=1,
        model_version="1", run_id="r", digest="d", data_version="v", git_commit="c", variant="champion",
        degraded=False, degraded_reason=None, rules_version="1", score=0.5, request="{}", features="{}", sources="{}",
        outputs="{}", answer="{}",
    )  # fmt: skip


def label(identity: str, subject: str = "", value: float = 1.0) -> LabelRecord:
    return LabelRecord("toy", identity, value, arrived_at=7, recorded_at=8, feedback="{}", subject=subject)


@pytest.fixture
def prefect(monkeypatch):
    monkeypatch.setattr(responding, "BUSY_WAITS", (0.01,))
    with running_prefect("release/toy", "respond/toy") as fake:
        yield fake


@pytest.fixture
def answered(catalogue, prefect, make_bundle, tmp_path):
    """Settings of a platform with a champion, 30 answered events a day apart, 10 of them labelled after its data."""
    configured = catalogue.model_copy(
        update={"prefect": PrefectSettings(url=prefect.url), "retrain": RetrainSettings(labels=10)}
    )
    registry, bundle = Registry(configured), make_bundle()
    run_id = registry.log_run(Record("toy", "k", {}, {}, {"idempotency_key": "k"}, bundle))
    tags = {"idempotency_key": "k", "digest": bundle.digest, "gate": "passed"}
    registry.set_alias("toy", CHAMPION, registry.register("toy", run_id, tags).version)
    engine = open_database(configured.log_url, durable=False)
    writer = LogWriter(open_log(engine, tmp_path / "spool.db", 0))
    writer.start()
    moments = [AS_OF + timedelta(days=day - 5) for day in range(30)]
    for number, moment in enumerate(moments):
        writer.submit(prediction(str(number), moment)).result(5)
    for number in [*range(16), 6, 6]:
        writer.submit(label(str(number), value=1.0)).result(5)
    writer.close()
    engine.dispose()
    return configured


def respond(configured, alert=ALERT, **changed):
    training = replace(TRAINING, **{"collected": lambda *_: None, "label_delay": timedelta(0), **changed})
    return responding.respond("toy", alert, training, configured, "flow-1", "prefect flow run flow-1")


def decisions(configured):
    return [r for r in AuditLog(configured).records() if r["action"].startswith("retrain")]


def test_an_alert_with_enough_labels_starts_a_release_of_what_was_served(answered, prefect):
    engine = open_database(answered.log_url, durable=False)
    watched = Watched("toy", AS_OF, AS_OF + timedelta(days=1), "1", "drift", 500, 0, reasons=("x: PSI 0.4",))
    WatchLog(engine).write(watched, AS_OF)
    engine.dispose()

    found = respond(answered)
    assert found.verdict == "start"
    [record] = decisions(answered)
    assert (record["action"], record["subject"], record["actor"]) == (STARTED, "toy", "prefect flow run flow-1")
    details = record["details"]
    assert details["cause"] == CAUSE
    assert details["alert"]["summary"] == "Inputs drift."
    assert details["parameters"] == {
        "use_case": "toy", "cause": CAUSE, "source": "log", "as_of": "2024-01-25T00:00:00+00:00",
    }  # fmt: skip
    assert details["window"] == {
        "first": "2024-01-01T00:00:00+00:00", "last": "2024-01-02T00:00:00+00:00", "version": "1", "state": "drift",
        "rows": 500, "reasons": ["x: PSI 0.4"],
    }  # fmt: skip
    assert (details["flow_run"], details["key"]) == ("flow-1", f"release {CAUSE}")
    assert (
        "10 labelled events since 2024-01-01 00:00 that a candidate would learn from; 10 are asked"
        in details["reasons"]
    )

    assert responding.ensure_release("toy", found.cause, found.parameters, answered).fresh
    assert not responding.ensure_release("toy", found.cause, found.parameters, answered).fresh
    [run] = prefect.made("release/toy")
    assert run["parameters"] == details["parameters"]


def test_where_a_release_does_not_learn_from_what_was_served_no_source_is_named(answered):
    assert "source" not in respond(answered, collected=None).parameters


def test_asked_again_it_finds_what_it_decided(answered, prefect):
    first = respond(answered)
    prefect.going_on = 3
    assert respond(answered) == first
    assert len(decisions(answered)) == 1


def test_another_alert_meanwhile_is_declined_by_the_cooldown_although_no_release_runs_yet(answered):
    respond(answered)
    other = respond(answered, ALERT.model_copy(update={"fingerprint": "f2"}))
    assert other.verdict == "decline"
    assert "a cool-down of 24.0 hours is asked" in other.reasons[0]
    assert [record["action"] for record in decisions(answered)] == [STARTED, DECLINED]


def test_a_decline_is_written_once_and_thought_over_when_labels_have_come(answered):
    few = answered.model_copy(update={"retrain": RetrainSettings(labels=11)})
    for _ in range(3):
        assert respond(few).reasons == (
            "10 labelled events since 2024-01-01 00:00 that a candidate would learn from; 11 are asked",
        )
    assert respond(answered).verdict == "start"
    assert [record["action"] for record in decisions(answered)] == [DECLINED, STARTED]
    assert respond(few).verdict == "start", "what was started stays"


def test_a_use_case_with_few_events_asks_for_fewer_labels(answered):
    many = answered.model_copy(update={"retrain": RetrainSettings(labels=1_000)})
    assert respond(many).verdict == "decline"
    assert respond(many, watching=replace(TRAINING.watching, labels=11)).reasons[0].endswith("; 11 are asked")
    assert respond(many, watching=replace(TRAINING.watching, labels=10)).verdict == "start"


def test_one_release_at_a_time(answered, prefect):
    prefect.going_on = 1
    assert respond(answered).reasons == ("1 releases of the use case run or are due to",)


@pytest.mark.parametrize("policy", ["suggest", "off"])
def test_a_policy_that_starts_nothing_starts_nothing(answered, prefect, policy):
    careful = answered.model_copy(update={"retrain": RetrainSettings(labels=10, policy=policy)})
    assert respond(careful).verdict == {"suggest": "suggest", "off": "decline"}[policy]
    assert prefect.made("release/toy") == []


def test_a_suggestion_waits_for_approval_and_becomes_one_release(answered, prefect):
    careful = answered.model_copy(update={"retrain": RetrainSettings(labels=10, policy="suggest")})
    assert responding.suggestion("toy", careful) is None
    respond(careful)
    found = responding.suggestion("toy", careful)
    assert (found.response.cause, found.approved_by) == (CAUSE, None)

    prefect.instead = (503, b"{}")  # cut off after it was written down
    with pytest.raises(OrchestratorUnavailable):
        responding.approve("toy", found, careful)
    prefect.instead = None
    found = responding.suggestion("toy", careful)
    assert found.approved_by
    approved = responding.approve("toy", found, careful)
    assert (approved.by, approved.run.fresh) == (found.approved_by, True)
    assert not responding.approve("toy", found, careful).run.fresh
    assert [record["action"] for record in decisions(careful)] == [SUGGESTED, APPROVED]
    assert [run["parameters"]["cause"] for run in prefect.made("release/toy")] == [CAUSE]

    AuditLog(careful).append("promote", "toy", {"champion": "2"})
    assert responding.suggestion("toy", careful) is None, "it was answered"


def test_without_facts_nothing_is_decided(answered, prefect):
    prefect.instead = (503, b"{}")
    with pytest.raises(OrchestratorUnavailable):
        respond(answered)
    assert decisions(answered) == []


def test_without_a_champion_every_label_counts(answered):
    Registry(answered).delete_alias("toy", CHAMPION)
    facts = responding.known_facts("toy", replace(TRAINING, label_delay=timedelta(0)), answered)
    assert (facts.since, facts.labels) == (None, 16)


def test_a_busy_prefect_is_asked_again_for_the_same_run(answered, prefect, monkeypatch):
    monkeypatch.setattr(responding, "BUSY_WAITS", (0.01, 0.01))
    prefect.busy = 2
    assert responding.ensure_release("toy", CAUSE, {}, answered).fresh
    assert len(prefect.runs) == 1
    prefect.busy = 3
    with pytest.raises(OrchestratorUnavailable, match="503"):
        responding.ensure_release("toy", CAUSE, {}, answered)


def test_what_prefect_says_no_to_is_told_apart(answered, prefect):
    with Orchestrator(answered) as orchestrator:
        with pytest.raises(UnknownDeployment, match="no deployment release/nothing"):
            orchestrator.start("release/nothing", {}, "k")
        for instead, error in [((409, b'{"detail": "no"}'), RunRefused), ((200, b"<html>"), OrchestratorUnavailable)]:
            prefect.instead = instead
            with pytest.raises(error):
                orchestrator.start("release/toy", {}, "k")
        prefect.instead = (200, json.dumps({"count": 1}).encode())
        with pytest.raises(OrchestratorUnavailable, match="did not count"):
            orchestrator.going_on("release/toy")


def test_only_labels_that_a_candidate_would_learn_from_count(answered):
    """The newest answer is of day 24: rows of the last seventeen days have no label yet, or judge."""
    training = replace(TRAINING, label_delay=timedelta(days=7), held_back=timedelta(days=10))
    assert responding.known_facts("toy", training, answered).labels == 7
    found = respond(answered, label_delay=timedelta(days=7), held_back=timedelta(days=10))
    assert found.verdict == "decline"
    assert found.reasons[0].startswith("7 labelled events since 2024-01-01 00:00 that a candidate would learn from")


def window(day, state="stable", parted=(), maturity=1.0, version="1"):
    first = AS_OF + timedelta(days=day)
    quality = Quality(1, maturity, None, parted=tuple(parted))
    return Watched("toy", first, first + timedelta(days=1), version, state, 500, 0, quality=quality)


def test_a_trouble_begins_with_the_first_window_that_shows_it():
    quiet, drift = window(1), window(2, "drift")
    blind = window(3, "few rows", maturity=0.0)
    unripe = window(4, maturity=0.2)
    assert responding.troubled_since([]) is None
    assert responding.troubled_since([quiet, window(0, "drift")]) is None, "it is over"
    assert responding.troubled_since([unripe, blind, drift, quiet]) == drift.first
    assert responding.troubled_since([window(5, "drift"), blind, drift, quiet]) == drift.first
    assert responding.troubled_since([unripe, window(2, parted=["auc"]), quiet]) == drift.first
    assert responding.troubled_since([window(5, maturity=0.0, version="2"), drift, quiet]) is None, "another's"
    assert responding.troubled_since([window(5, "drift"), drift, quiet], "2") is None, (
        "its successor has answered nothing"
    )


def test_a_declined_alert_waits_until_something_is_started(answered, prefect):
    respond(answered, held_back=timedelta(days=100))
    assert responding.waiting("toy", answered) == ALERT
    assert responding.waiting("other", answered) is None
    held_back, ready = (
        replace(TRAINING, label_delay=timedelta(0), held_back=timedelta(days=days)) for days in (100, 0)
    )

    def again(newest=AS_OF, training=ready):
        return responding.ask_again("toy", ALERT, newest, training, answered)

    assert again(training=held_back) is None, "it would be declined again"
    assert again().run_id == again().run_id, "once a window"
    assert again().run_id != again(AS_OF + timedelta(days=1)).run_id
    respond(answered)
    assert responding.waiting("toy", answered) is None
