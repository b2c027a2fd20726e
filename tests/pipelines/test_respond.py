"""The flow that answers an alert, on a real Prefect: killed anywhere and run again, it starts one release."""

import json
import warnings
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prefect_api import deploy, runs_of
from toy.toy_case import CASE

from orrery import responding
from orrery.adapters.audit_log import AuditLog
from orrery.adapters.orchestrator import BUSY_WAITS, Orchestrator, OrchestratorUnavailable, RunRefused
from orrery.retraining import DECLINED, STARTED, SUGGESTED, Alert, Facts

pytestmark = pytest.mark.slow
NOW = datetime.now(UTC)


def alert() -> Alert:
    """Another one each time."""
    return Alert(name="DriftSustained", started_at=NOW, fingerprint=uuid4().hex[:16], summary="Inputs drift.")


@pytest.fixture
def configured(silent_platform, monkeypatch):
    """Settings of a platform whose policy has nothing against a release."""
    training = replace(CASE.training, collected=lambda *_: None)
    monkeypatch.setattr("usecases.training", lambda name: training)
    monkeypatch.setattr("pipelines.steps.RETRY_DELAYS", [0.0, 0.0])
    monkeypatch.setattr(responding, "known_facts", lambda *_: Facts(datetime.now(UTC), (), 0, 10**6, NOW, 0))
    return silent_platform


@pytest.fixture
def deployed(prefect):
    """Deployments of the flows, as far as Prefect must know them; `.runs()` are those of the release."""

    class Deployed:
        def add(self, flow: str, **others) -> str:
            return deploy(prefect, flow, **others)

        def runs(self, cause: str) -> list[dict]:
            return [run for run in runs_of(prefect, "release") if run["parameters"].get("cause") == cause]

    made = Deployed()
    made.add("release")
    yield made
    for run in runs_of(prefect, "release"):
        prefect.delete(f"/flow_runs/{run['id']}")


def run(said: Alert, **others):
    """Run the flow here; its final state."""
    from pipelines.respond import respond

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return respond(use_case="toy", alert=said, return_state=True, **others)


def decisions(configured) -> list[str]:
    return [r["action"] for r in AuditLog(configured).records() if r["action"].startswith("retrain")]


def test_an_alert_starts_one_release_and_says_why(configured, deployed):
    said = alert()
    states = [run(said), run(said)]
    assert [(state.type.value, state.name) for state in states] == [("COMPLETED", "Started")] * 2
    assert "1,000,000 labelled events" in states[0].message
    assert decisions(configured) == [STARTED]
    [release] = deployed.runs(said.cause("toy"))
    assert release["id"] in states[0].message
    assert release["parameters"] == {"use_case": "toy", "cause": said.cause("toy"), "source": "log"}
    assert release["state_type"] == "SCHEDULED"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "point",
    [
        "orrery.responding.known_facts",
        "orrery.adapters.audit_log.AuditLog.append",
        "orrery.responding.ensure_release",
        "orrery.adapters.orchestrator.Orchestrator._ask",
    ],
)
def test_killed_at_any_point_and_run_again_it_is_one_decision_and_one_release(
    configured, deployed, monkeypatch, point, when
):
    said = alert()
    with pytest.MonkeyPatch.context() as patch:
        holder, _, name = point.rpartition(".")
        module, _, inner = holder.rpartition(".")
        target = responding if holder == "orrery.responding" else getattr(__import__(module, fromlist=["_"]), inner)
        real = getattr(target, name)

        def dies(*arguments, **named):
            if when == "after":
                real(*arguments, **named)
            raise RuntimeError("killed")

        patch.setattr(target, name, dies)
        assert run(said).type.value == "FAILED"
    assert len(decisions(configured)) <= 1
    assert len(deployed.runs(said.cause("toy"))) <= 1
    assert run(said).name == "Started"
    assert decisions(configured) == [STARTED]
    assert len(deployed.runs(said.cause("toy"))) == 1


def test_a_policy_that_suggests_or_declines_starts_no_release(configured, deployed, monkeypatch):
    changed = configured.model_copy(update={"retrain": configured.retrain.model_copy(update={"policy": "suggest"})})
    monkeypatch.setattr("pipelines.respond.settings", lambda: changed)
    said = alert()
    assert run(said).name == "Suggested"
    monkeypatch.setattr(responding, "known_facts", lambda *_: Facts(NOW, (NOW,), 0, 10**6, NOW, 0))
    other = alert()
    declined = run(other)
    assert declined.name == "Declined"
    assert "a cool-down of 24.0 hours is asked" in declined.message
    assert decisions(configured) == [SUGGESTED, DECLINED]
    assert deployed.runs(said.cause("toy")) + deployed.runs(other.cause("toy")) == []


def test_a_short_absence_of_prefect_is_waited_for(configured, deployed, monkeypatch):
    failures = [OrchestratorUnavailable("away")] * 2
    real = responding.ensure_release

    def sometimes(*arguments):
        if failures:
            raise failures.pop()
        return real(*arguments)

    monkeypatch.setattr(responding, "ensure_release", sometimes)
    assert run(alert()).name == "Started"


def test_runs_are_made_once_and_those_for_later_are_not_going_on(configured, deployed, prefect):
    with Orchestrator(configured, BUSY_WAITS) as orchestrator:
        assert orchestrator.going_on("release/toy") == 0
        first = orchestrator.start("release/toy", {"use_case": "toy"}, "k")
        second = orchestrator.start("release/toy", {"use_case": "toy"}, "k")
        assert (first.fresh, second.fresh, first.run_id) == (True, False, second.run_id)
        assert first.state == "SCHEDULED"
        assert orchestrator.going_on("release/toy") == 1
        later = {"scheduled_time": (NOW + timedelta(days=1)).isoformat()}
        found = prefect.get("/deployments/name/release/toy").json()
        state = {"type": "SCHEDULED", "state_details": later}
        prefect.post(f"/deployments/{found['id']}/create_flow_run", json={"state": state})
        assert orchestrator.going_on("release/toy") == 1
        done = {"state": {"type": "COMPLETED"}, "force": True}
        prefect.post(f"/flow_runs/{first.run_id}/set_state", json=done)
        assert orchestrator.going_on("release/toy") == 0
        assert orchestrator.start("release/toy", {}, "k").state == "COMPLETED"


def test_the_deployment_takes_an_alert_and_nothing_else(configured, deployed, prefect):
    from prefect.utilities.callables import parameter_schema

    from pipelines.respond import respond

    schema = json.loads(parameter_schema(respond).model_dump_json())
    deployed.add(
        "respond", parameter_openapi_schema=schema, enforce_parameter_schema=True, parameters={"use_case": "toy"}
    )
    said = alert().model_copy(update={"summary": "{{ 7 * 7 }} \U0001f600"})
    with Orchestrator(configured, BUSY_WAITS) as orchestrator:
        made = orchestrator.start("respond/toy", {"use_case": "toy", "alert": said.model_dump(mode="json")}, "a")
    run = prefect.get(f"/flow_runs/{made.run_id}").json()
    assert Alert.model_validate(run["parameters"]["alert"]) == said
    with Orchestrator(configured, BUSY_WAITS) as orchestrator, pytest.raises(RunRefused, match="required property"):
        orchestrator.start("respond/toy", {"use_case": "toy", "alert": {"name": "DriftSustained"}}, "b")
