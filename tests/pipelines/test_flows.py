"""The flows on a real Prefect, Feast and MLflow: promoted, the same again, refused, materialized."""

import json
import warnings
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from toy.toy_case import CASE, START, views

from cli.flow_runs import FlowRuns
from orrery.adapters.audit_log import AuditLog
from orrery.adapters.online_store import open_online_store
from orrery.adapters.registry import Registry
from orrery.settings import PrefectSettings
from orrery.usecase import Budget, Key

pytestmark = pytest.mark.slow


@pytest.fixture
def case(monkeypatch):
    """Makes `usecases.case` give the toy, with a budget; a seed of 13 trains a bad model."""

    def given(seed=7):
        toy = replace(CASE, views=views(), training=replace(CASE.training, budget=Budget(1, 1, seed)))
        monkeypatch.setattr("usecases.case", lambda name: toy)

    monkeypatch.setenv(
        "PYTHONPATH", str(Path(__file__).parent.parent)
    )  # the gate reloads bundles in a process of its own
    monkeypatch.setattr("orrery.building.code_hash", lambda use_case, root=None: "the code of this test")
    monkeypatch.setattr("orrery.provenance.code_hash", lambda use_case, root=None: "the code of this test")
    given()
    return given


@pytest.fixture
def release(prefect_url, catalogue, case):
    """Runs the flow; returns its outcome as the command sees it."""
    from pipelines.release import release as flow

    configured = catalogue.model_copy(update={"prefect": PrefectSettings(url=prefect_url)})

    def run(**parameters):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = flow(use_case="toy", as_of=START + timedelta(days=20), return_state=True, **parameters)
        with FlowRuns(configured) as runs:
            return runs.follow(str(state.state_details.flow_run_id))

    return run


def test_a_release_is_promoted_once_and_a_worse_one_is_refused(release, case, catalogue):
    first = release()
    assert (first.state, first.name) == ("COMPLETED", "Promoted")
    [facts] = first.tables["facts"]
    assert facts["version"] == "1"
    assert facts["gateway"] == "no gateway"
    assert [row["metric"] for row in first.tables["metrics"]] == ["accuracy"]
    assert {row["passed"] for row in first.tables["checks"]} == {"yes"}

    again = release()
    assert again.name == "Promoted"
    assert again.tables["facts"][0]["changed"] is False
    assert again.tables["facts"][0]["run_id"] == facts["run_id"]

    case(seed=13)
    worse = release(cause="toy/f1/then")
    assert (worse.state, worse.name) == ("COMPLETED", "Refused")
    assert "no worse than champion" in worse.message
    assert {row["passed"] for row in worse.tables["checks"]} == {"yes", "NO"}
    assert len(Registry(catalogue).versions("toy")) == 1
    assert Registry(catalogue).version("toy", "champion").run_id == facts["run_id"]
    refused = list(AuditLog(catalogue).records())[-1]
    assert (refused["action"], refused["subject"]) == ("release refused", "toy")
    assert refused["actor"] == f"prefect flow run {worse.run_id}"
    assert refused["details"]["cause"] == "toy/f1/then"
    assert refused["details"]["run_id"] == worse.tables["facts"][0]["run_id"]
    assert any("no worse than champion" in reason for reason in refused["details"]["reasons"])


def test_the_audit_log_has_what_a_promotion_was_caused_by(release, catalogue):
    release(cause="toy/f1/then")
    [promoted] = [record for record in AuditLog(catalogue).records() if record["action"] == "promote"]
    assert promoted["details"]["cause"] == "toy/f1/then"


def test_a_release_outside_the_data_fails_and_says_so(release):
    failed = release(source="nowhere")
    assert failed.state == "FAILED"
    assert "has no source 'nowhere'" in failed.message


def test_progress_is_published(release, prefect):
    outcome = release()
    wanted = {"artifacts": {"flow_run_id": {"any_": [outcome.run_id]}, "type": {"any_": ["progress"]}}}
    found = prefect.post("/artifacts/filter", json=wanted).json()
    shares = {artifact["description"].partition(":")[0]: artifact["data"] for artifact in found}
    assert {"features", "fit", "evaluate"} <= set(shares)
    assert set(shares.values()) == {100.0}


def test_materialize_brings_a_moment_online_and_refuses_the_future(release, case, catalogue):
    from orrery.adapters.feature_store import FutureDate
    from pipelines.materialize import materialize

    def times_seen():
        [stored] = open_online_store(catalogue).read([Key("toy_history", 3)]).values()
        return stored.values["times_seen"]

    release()
    assert times_seen() == 10, "a first champion finds its features"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        materialize(use_case="toy", end=START + timedelta(hours=600))
        assert times_seen() == 12
        with pytest.raises(FutureDate):
            materialize(use_case="toy", end=datetime.now(UTC) + timedelta(days=1))


def test_a_transient_error_is_tried_again_and_another_is_not(prefect_url, monkeypatch):
    from prefect import flow

    from orrery.errors import OrreryError, TransientError
    from pipelines import steps

    monkeypatch.setattr(steps, "RETRY_DELAYS", [0.0, 0.0])
    tried = []

    def failing(error):
        def work(_):
            tried.append(error)
            raise error("no")

        return flow(lambda: steps.step("fail", work, retried=True), name="fails")

    for error, times in ((TransientError, 3), (OrreryError, 1)):
        tried.clear()
        with pytest.raises(error):
            failing(error)()
        assert len(tried) == times


@pytest.mark.parametrize("live", [True, False])
def test_schedules_are_live_unless_the_settings_say_otherwise(settings, live):
    from orrery.settings import PrefectSettings
    from pipelines.deployments import deployments

    changed = settings.model_copy(update={"prefect": PrefectSettings(schedules=live)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [schedule.active for each in deployments(changed) for schedule in each.schedules]
    assert found
    assert set(found) == {live}


def test_deployments_are_written_once_and_again(prefect, settings):
    from pipelines import deployments

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = deployments.apply(settings)
        off = prefect.get("/deployments/name/release/fraud").json()
        schedule = f"/deployments/{off['id']}/schedules/{off['schedules'][0]['id']}"
        prefect.patch(schedule, json={"active": False})
        assert deployments.apply(settings) == names
    assert {"release/fraud", "materialize/fraud", "respond/fraud"} <= set(names)
    found = prefect.post("/deployments/filter", json={}).json()
    assert len(found) == len(names)
    assert all(each["work_pool_name"] == settings.prefect.pool for each in found)
    asked_only = {
        prefect.get(f"/deployments/name/{name}").json()["id"]
        for name in names
        if name.startswith(("respond/", "report/"))
    }
    assert {each["id"]: len(each["schedules"]) for each in found} == {
        each["id"]: 0 if each["id"] in asked_only else 1 for each in found
    }
    assert [each["id"] for each in found for schedule in each["schedules"] if not schedule["active"]] == [off["id"]]
    automations = prefect.post("/automations/filter", json={}).json()
    assert [each["name"] for each in automations] == [deployments.ZOMBIES]
    own = {"Promoted", "Refused", "Started", "Suggested", "Declined"}
    assert {f"prefect.flow-run.{name}" for name in own} <= set(automations[0]["trigger"]["expect"])
    assert json.dumps(found[0]["parameters"]) == json.dumps({"use_case": found[0]["name"]})
