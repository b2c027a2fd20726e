"""The README's story, told by the running platform: after `make demo`, `make e2e`."""

import json
import os
import signal
from pathlib import Path

import httpx
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
SUMMARY = Path(__file__).parent.parent.parent / "build" / "demo" / "summary.json"
OUTSIDERS = ("mlflow", "prefect", "worker", "prometheus")


def test_the_demo_tells_the_truth():
    fraud = json.loads(SUMMARY.read_text())["use_cases"]["fraud"]
    assert fraud["gate"] == "passed"
    assert fraud["test"]["ap"] >= 0.69
    assert fraud["served"]["errors"] == 0
    assert fraud["parity"]["rows"] >= 3_000
    assert fraud["parity"]["mismatches"] == 0


def test_an_answer_names_its_model_and_can_be_traced(platform):
    answer = platform.predict(amount=900.0).json()
    assert not answer["degraded"]
    assert answer["model_version"] == platform.served()
    traced = platform.client.get(f"/v1/predictions/{answer['prediction_id']}").json()
    assert traced["answer"]["score"] == answer["score"]
    assert traced["model"]["data_version"]
    assert traced["features"]["TX_AMOUNT"] == 900


def test_predictions_go_on_without_mlflow_prefect_and_prometheus(platform):
    running = [name for name, state in platform.supervisor.states().items() if state.up]
    down = [name for name in OUTSIDERS if name in running]
    before = platform.served()
    for name in down:
        platform.supervisor._call("stopProcess", name, True)
    try:
        assert not platform.predict().json()["degraded"]
        platform.supervisor._call("stopProcess", "gateway", True)
        with pytest.raises(httpx.ConnectError):
            platform.predict()
        platform.supervisor._call("startProcess", "gateway", True)
        platform.wait(lambda: platform.served() == before, 20)
        answer = platform.predict().json()
        assert not answer["degraded"]
        assert answer["model_version"] == before
    finally:
        assert platform.orrery("up").returncode == 0


def test_kill_9_under_load_loses_no_answered_prediction(platform):
    pid = platform.supervisor.states()["gateway"].pid
    with platform.load(rate=50) as load:
        platform.wait(lambda: len(load.answered) >= 100)
        os.kill(pid, signal.SIGKILL)
        platform.wait(lambda: platform.served() is not None)
        answered = len(load.answered)
        platform.wait(lambda: len(load.answered) >= answered + 50)
    assert load.failed, "the kill was not under load"
    for answer in load.answered:
        logged = platform.client.get(f"/v1/predictions/{answer['prediction_id']}")
        assert logged.status_code == httpx.codes.OK
        assert logged.json()["answer"]["score"] == answer["score"]


def test_a_better_version_is_served_within_two_seconds_and_no_request_fails(platform):
    before = platform.served()
    with platform.load(rate=50) as load:
        # a little more of the past: not the same release, and not a worse one
        done = platform.orrery("train", "fraud", "--as-of", "2018-09-12", "--days", "80", "--trials", "1", "--json")
        assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
        assert platform.served() != before
        seconds = []
        for command in (["rollback", "fraud"], ["promote", "fraud", platform.served()]):
            assert platform.orrery(*command).returncode == 0
            champion = json.loads(platform.orrery("models", "fraud", "--json").stdout)
            wanted = next(row["version"] for row in champion if "champion" in row["aliases"])
            seconds.append(platform.wait(lambda wanted=wanted: platform.served() == str(wanted)))
    assert not load.failed
    degraded = [answer for answer in load.answered if answer["degraded"]]
    assert len(degraded) <= len(load.answered) / 1_000, "training beside serving costs more than a late read or two"
    assert max(seconds) <= 2
    assert {answer["model_version"] for answer in load.answered} - {None} == {before, platform.served()}
