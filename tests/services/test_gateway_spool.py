"""What a client notices when the server of the prediction log dies, freezes and comes back: nothing."""

import json
import subprocess
import sys
import time
from collections import Counter

import pytest
from running import ROOT, eventually
from test_gateway_failures import ask, loaded, logged_rows, metric

import usecases
from orrery.adapters.database import open_database
from orrery.adapters.prediction_log import LogReader
from orrery.settings import child_environment

pytest_plugins = ["postgres_server"]
LABEL = usecases.serving("fraud").example_feedback.model_dump(mode="json")


@pytest.fixture
def configured(configured, postgres):
    """The log on a server."""
    return configured.model_copy(update={"log": configured.log.model_copy(update={"url": postgres.database()})})


@pytest.fixture
def running(gateway_process, catalogue, bundles):
    """A gateway as a process, with a model."""
    catalogue.register(bundles[0], "1")
    gateway_process.start()
    with gateway_process.client() as client:
        eventually(lambda: client.get("/v1/models").json()["models"][0]["version"] == "1")
    return gateway_process


def state(client):
    response = client.get("/readyz")
    assert response.status_code == 200, response.text
    return response.json()["checks"]["log"]


def more(load, answers):
    seen = len(load.answers)
    eventually(lambda: len(load.answers) > seen + answers)


def check_whole(client, settings, texts):
    """Every answer is in the log, each event once, no number twice; the store has learned each event once."""
    answers = [json.loads(text) for text in texts]
    last = ask(client).json()
    features = client.get(f"/v1/predictions/{last['prediction_id']}").json()["features"]
    rows = {logged.record.prediction_id: logged for logged in logged_rows(settings)}
    for answer in (*answers, last):
        assert json.loads(rows[answer["prediction_id"]].record.answer) == answer
    assert max(Counter(logged.record.identity for logged in rows.values()).values()) == 1
    engine = open_database(settings.log_url, durable=False)
    numbers = [each.sequence for each in LogReader(engine).events("fraud", limit=100_000)]
    engine.dispose()
    assert numbers == list(range(1, len(numbers) + 1))
    assert features["CUSTOMER_ID_NB_TX_1DAY_WINDOW"] == len(rows)


@pytest.mark.slow
def test_killed_twice_under_load_nobody_notices_and_nothing_is_lost(running, configured, postgres):
    with running.client() as client, loaded(configured, running.key, rate=20) as load:
        more(load, 20)
        told = client.post(
            "/v1/fraud/feedback", json=LABEL | {"transaction_id": json.loads(load.answers[0])["transaction_id"]}
        )
        assert told.status_code == 200
        for _ in range(2):
            postgres.kill()
            more(load, 40)
            assert state(client).startswith("spooling: ")
            assert metric(client, 'gateway_dependency_errors_total{dep="log",kind="unavailable"} ')
            assert not metric(client, "gateway_log_spooled_rows 0.0")
            started = time.monotonic()
            known = json.loads(load.answers[-1])
            for refused in (
                client.get(f"/v1/predictions/{known['prediction_id']}"),
                client.post("/v1/fraud/feedback", json=LABEL | {"transaction_id": known["transaction_id"]}),
            ):
                assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
                assert refused.headers["content-type"] == "application/problem+json"
            assert time.monotonic() - started < 1
            postgres.start()
            eventually(lambda: state(client) == "writable")
            assert metric(client, "gateway_log_spooled_rows 0.0")
            more(load, 20)
    assert (load.failures, load.refused) == ([], 0)
    with running.client() as client:
        check_whole(client, configured, load.answers)


@pytest.mark.slow
def test_frozen_under_load_nobody_gets_an_error(running, configured, postgres):
    with running.client() as client, loaded(configured, running.key, rate=20) as load:
        more(load, 20)
        with postgres.frozen():
            more(load, 60)
        eventually(lambda: state(client) == "writable")
        more(load, 20)
    assert (load.failures, load.refused) == ([], 0)
    with running.client() as client:
        check_whole(client, configured, load.answers)


@pytest.mark.slow
def test_both_killed_nothing_is_lost(running, configured, postgres):
    with loaded(configured, running.key, rate=20) as load:
        more(load, 20)
        postgres.kill()
        more(load, 40)
        running.kill()
    postgres.start()
    running.start()
    with running.client() as client:
        assert state(client) == "writable"
        check_whole(client, configured, load.answers)


def test_an_event_asked_in_an_outage_and_after_it_has_one_answer(running, configured, postgres):
    with running.client() as client:
        before = ask(client, transaction_id=10_001).content
        postgres.kill()
        assert ask(client, transaction_id=10_001, amount=5.0).content == before
        during = ask(client, transaction_id=10_002).content
        assert ask(client, transaction_id=10_002, amount=5.0).content == during
        postgres.start()
        eventually(lambda: state(client) == "writable")
        assert ask(client, transaction_id=10_002, amount=9.0).content == during
    running.kill()
    running.start()
    with running.client() as client:
        assert ask(client, transaction_id=10_001).content == before
        assert ask(client, transaction_id=10_002).content == during
    assert len(logged_rows(configured)) == 2


def test_a_start_without_the_server_says_so_in_one_line(configured, postgres):
    postgres.kill()
    environment = child_environment(configured, {"PYTHONPATH": str(ROOT)})
    done = subprocess.run(
        [sys.executable, "-m", "services.gateway"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert json.loads(line)["level"] == "CRITICAL"
    assert f"on 127.0.0.1:{postgres.port} does not answer" in json.loads(line)["message"]
    assert "Traceback" not in line
