"""What fails around the gateway, and what a client notices of it."""

import json
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from itertools import count

import httpx
import pytest
from running import eventually, gateway, version
from sqlalchemy import Engine, event

import usecases
from orrery.adapters.database import open_database
from orrery.adapters.prediction_log import LogReader
from orrery.bundle import Bundle

EXAMPLE = usecases.serving("fraud").example.model_dump(mode="json")
PREDICT = "/v1/fraud/predict"
ids = count(1)


def ask(client, **changes):
    return client.post(PREDICT, json=EXAMPLE | {"transaction_id": next(ids)} | changes)


def metric(client, line):
    return f"\n{line}" in client.get("/metrics").text


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rewritten(bundle, folder, **changes):
    """A bundle that is right in every byte and wrong in what it says."""
    shutil.copytree(bundle.folder, folder)
    about = bundle.manifest.model_dump(exclude={"files"}) | changes
    return Bundle.write(folder, about)


def logged_rows(settings):
    engine = open_database(settings.log_url, durable=False)
    found = LogReader(engine).since("fraud", limit=100_000)
    engine.dispose()
    return found


class Load:
    """Requests at a constant rate, each on a connection of its own, until told to stop."""

    def __init__(self, settings, key, rate):
        self.rate = rate
        none_kept = httpx.Limits(max_keepalive_connections=0)
        headers = {"X-API-Key": key}
        self.client = httpx.Client(
            base_url=settings.gateway_url, headers=headers, limits=none_kept, timeout=10, verify=False
        )
        self.answers, self.failures, self.refused = [], [], 0
        self.over = threading.Event()

    def one(self):
        number = next(ids)
        try:
            body = EXAMPLE | {"transaction_id": number, "explain": False}
            response = self.client.post(PREDICT, json=body)
        except httpx.ConnectError:
            self.refused += 1
        except httpx.HTTPError:
            self.failures.append(number)
        else:
            if response.status_code == 200:
                self.answers.append(response.text)
            else:
                self.failures.append(number)

    def run(self):
        started = time.monotonic()
        with self.client, ThreadPoolExecutor(16) as pool:
            for turn in count():
                if self.over.wait(max(0.0, started + turn / self.rate - time.monotonic())):
                    return
                pool.submit(self.one)


@contextmanager
def loaded(settings, key, rate=50):
    load = Load(settings, key, rate)
    thread = threading.Thread(target=load.run)
    thread.start()
    try:
        yield load
    finally:
        load.over.set()
        thread.join()


# --- the model ---------------------------------------------------------------------------------


def test_the_alias_moves_under_load_and_nobody_notices(served, configured, key, catalogue, bundles):
    with loaded(configured, key) as load:
        eventually(lambda: len(load.answers) > 20)
        for number in (2, 3, 4):
            catalogue.register(bundles[number % 2], str(number))
            started = time.monotonic()
            eventually(lambda wanted=str(number): version(served) == wanted)
            assert time.monotonic() - started < 2
        eventually(lambda: len(load.answers) > 120)
    answers = [json.loads(text) for text in load.answers]
    assert not load.failures
    assert not load.refused
    assert not any(answer["degraded"] for answer in answers)
    assert {answer["model_version"] for answer in answers} >= {"1", "4"}
    assert metric(served, 'model_load_total{result="served",use_case="fraud"} 4.0')
    assert served.get("/metrics").text.count("\nmodel_serving_info{") == 1


def test_an_alias_that_was_moved_past_the_gate_is_told(served, catalogue, bundles):
    gated = 'registry_alias_gate_passed{alias="champion",use_case="fraud"}'
    eventually(lambda: metric(served, f"{gated} 1.0"))
    catalogue.register(bundles[1], "2")
    del catalogue.champion["fraud"]["tags"][1]
    eventually(lambda: version(served) == "2" and metric(served, f"{gated} 0.0"))
    del catalogue.champion["fraud"]
    eventually(lambda: not metric(served, gated))


@pytest.mark.parametrize("what", ["flipped", "digest", "features", "golden", "cannot answer", "another", "incomplete"])
def test_a_bundle_that_is_not_right_never_answers(served, catalogue, bundles, tmp_path, what):
    bundle = bundles[1]
    if what == "features":
        bundle = rewritten(bundle, tmp_path / "bad", features=bundle.manifest.features[::-1])
    elif what == "golden":
        outputs = {name: [0.5] * len(values) for name, values in bundle.manifest.golden.outputs.items()}
        golden = bundle.manifest.golden.model_copy(update={"outputs": outputs})
        bundle = rewritten(bundle, tmp_path / "bad", golden=golden)
    elif what == "cannot answer":
        learned = {k: v for k, v in bundle.manifest.learned.items() if k != "thresholds"}
        bundle = rewritten(bundle, tmp_path / "bad", learned=learned)
    elif what == "another":
        bundle = rewritten(bundle, tmp_path / "bad", use_case="toy")
    copy = catalogue.register(bundle, "2", digest="0" * 64 if what == "digest" else None)
    if what == "flipped":
        flip(copy / "classifier.onnx")
    result = "unavailable" if what == "incomplete" else "rejected"
    if what == "incomplete":
        (copy / "classifier.txt").unlink()
    wanted = f'model_load_total{{result="{result}",use_case="fraud"}}'
    eventually(lambda: wanted in served.get("/metrics").text)
    assert ask(served).json()["model_version"] == "1"
    catalogue.register(bundles[1], "3")
    eventually(lambda: version(served) == "3")


def test_a_bundle_may_not_reach_outside_its_folder(served, catalogue, bundles):
    copy = catalogue.register(bundles[1], "2")
    manifest = json.loads((copy / "bundle.json").read_text())
    manifest["files"]["../../evil.txt"] = "0" * 64
    (copy / "bundle.json").write_text(json.dumps(manifest))
    eventually(lambda: metric(served, 'model_load_total{result="rejected",use_case="fraud"} '))
    assert version(served) == "1"


def test_the_same_bundle_under_a_new_version_is_not_fetched_again(served, catalogue, bundles):
    copy = catalogue.register(bundles[0], "2")
    shutil.rmtree(copy)
    eventually(lambda: version(served) == "2")


# --- the catalogue -----------------------------------------------------------------------------


def test_without_the_catalogue_predictions_go_on_and_a_start_serves(configured, key, catalogue, bundles):
    catalogue.register(bundles[0], "1")
    with gateway(configured, key) as client:
        eventually(lambda: version(client) == "1")
        catalogue.stop()
        eventually(lambda: 'dep="catalogue"' in client.get("/metrics").text)
        assert not ask(client).json()["degraded"]
    with gateway(configured, key) as client:
        assert client.get("/readyz").status_code == 200
        assert ask(client).json()["model_version"] == "1"
        assert client.get("/v1/models").json()["models"][0]["source"] == "cache"
        catalogue.register(bundles[1], "2")
        catalogue.start()
        eventually(lambda: version(client) == "2")
        assert client.get("/v1/models").json()["models"][0]["source"] == "registry"
    kept = {path.name for path in (configured.models_folder / "fraud").iterdir()}
    assert kept == {"current.json", bundles[0].digest, bundles[1].digest}


def test_a_damaged_last_good_copy_does_not_answer(configured, key, catalogue, bundles):
    catalogue.register(bundles[0], "1")
    with gateway(configured, key) as client:
        eventually(lambda: version(client) == "1")
        catalogue.stop()
    flip(configured.models_folder / "fraud" / bundles[0].digest / "classifier.onnx")
    with gateway(configured, key) as client:
        answer = ask(client).json()
        assert (answer["degraded"], answer["decision"], answer["model_version"]) == (True, "review", None)
        catalogue.start()
        eventually(lambda: version(client) == "1")


# --- the store and the log ---------------------------------------------------------------------


def test_without_the_store_rules_answer_and_it_learns_later(served, configured):
    ask(served)
    store = configured.feature_folder / "online.db"
    away = [path.rename(path.with_name("away" + path.name)) for path in configured.feature_folder.glob("online.db*")]
    # open connections survive a rename; a fresh process would not have them
    with gateway(configured.model_copy(update={"gateway": other_port(configured)}), None) as client:
        client.headers["X-API-Key"] = served.headers["X-API-Key"]
        answers = [ask(client).json() for _ in range(3)]
        assert all(answer["degraded"] and answer["decision"] == "review" for answer in answers)
        assert answers[0]["feature_status"] == {"customer_history": "unavailable", "terminal_history": "unavailable"}
        assert metric(client, 'gateway_dependency_errors_total{dep="store",kind="StoreUnavailable"} 3.0')
        for path in away:
            path.rename(path.with_name(path.name.removeprefix("away")))
        eventually(store.exists)
        eventually(lambda: metric(client, "process_open_fds") and learned(configured) == 4)
        seen = client.get(f"/v1/predictions/{ask(client).json()['prediction_id']}").json()["features"]
        assert seen["CUSTOMER_ID_NB_TX_1DAY_WINDOW"] == 5


def other_port(settings):
    from running import free_port

    return settings.gateway.model_copy(update={"port": free_port()})


def learned(settings):
    from orrery.adapters.online_store import open_online_store

    store = open_online_store(settings)
    try:
        return store.applied("fraud")
    finally:
        store.close()


def test_with_a_full_disk_nothing_is_answered_that_is_not_logged(served, configured):
    assert ask(served).status_code == 200
    limit = {"pages": 1}

    def full(connection):
        connection.exec_driver_sql(f"PRAGMA max_page_count={limit['pages']}")

    event.listen(Engine, "begin", full)
    try:
        refused = [ask(served) for _ in range(40)]
        limit["pages"] = 1_000_000
        assert refused[-1].status_code == 503
        assert refused[-1].headers["retry-after"] == "1"
        assert refused[-1].json()["title"] == "The answer cannot be recorded now"
        assert ask(served).status_code == 200
    finally:
        event.remove(Engine, "begin", full)
    answered = 2 + sum(response.status_code == 200 for response in refused)
    assert len(logged_rows(configured)) == answered
    assert 'outcome="error"' in served.get("/metrics").text


def test_a_locked_log_is_said_and_readiness_knows(served, configured):
    other = open_database(configured.log_url, durable=False)
    with other.begin():
        assert ask(served).status_code == 503
        ready = served.get("/readyz")
        assert ready.status_code == 503
        assert "locked" in ready.json()["checks"]["log"]
        assert served.get("/healthz").status_code == 200
    other.dispose()
    assert ask(served).status_code == 200
    assert served.get("/readyz").json()["checks"]["models"] == {"fraud": "version 1 (registry)"}


def test_too_many_at_once_are_sent_away_quickly(configured, key):
    narrow = configured.gateway.model_copy(update={"inflight": 2, "queue_ms": 10})
    with gateway(configured.model_copy(update={"gateway": narrow}), key) as client:
        other = open_database(configured.log_url, durable=False)
        with other.begin(), ThreadPoolExecutor(2) as pool:
            slow = [pool.submit(ask, client) for _ in range(2)]
            eventually(lambda: metric(client, "gateway_inflight 2.0"))
            started = time.monotonic()
            shed = ask(client)
            assert time.monotonic() - started < 0.3
            assert (shed.status_code, shed.headers["retry-after"]) == (503, "1")
            assert [each.result().status_code for each in slow] == [503, 503]
        other.dispose()
        assert ask(client).status_code == 200
        assert 'gateway_predictions_total{outcome="shed"' in client.get("/metrics").text


# --- the process -------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_under_load_it_loses_no_answer_and_learns_each_event_once(
    gateway_process, configured, catalogue, bundles
):
    catalogue.register(bundles[0], "1")
    gateway_process.start()
    with loaded(configured, gateway_process.key, rate=100) as load:
        for _ in range(2):
            before = len(load.answers)
            eventually(lambda seen=before: len(load.answers) > seen + 60)
            gateway_process.kill()
            gateway_process.start()
        before = len(load.answers)
        eventually(lambda: len(load.answers) > before + 20)
    answers = [json.loads(text) for text in load.answers]
    with gateway_process.client() as client:
        after = ask(client).json()
        seen = client.get(f"/v1/predictions/{after['prediction_id']}").json()["features"]
        for answer in answers:
            assert client.get(f"/v1/predictions/{answer['prediction_id']}").json()["answer"] == answer
    rows = len(logged_rows(configured))
    assert rows >= len(answers) + 1 > 120
    assert seen["CUSTOMER_ID_NB_TX_1DAY_WINDOW"] == rows


@pytest.mark.slow
def test_asked_to_stop_it_answers_what_it_has_taken(gateway_process, configured, catalogue, bundles):
    catalogue.register(bundles[0], "1")
    gateway_process.start()
    with loaded(configured, gateway_process.key, rate=50) as load:
        eventually(lambda: len(load.answers) > 50)
        gateway_process.process.send_signal(signal.SIGTERM)
        assert gateway_process.process.wait(10) == 0
    # a connection that still waited to be accepted is reset when the socket closes: nobody took its request
    taken = {int(logged.record.identity) for logged in logged_rows(configured)}
    assert not taken & set(load.failures)
    assert len(load.failures) <= 2


@pytest.mark.slow
def test_a_connection_that_rests_as_long_as_clients_keep_theirs_is_still_open(gateway_process):
    gateway_process.start()
    with closing(HTTPConnection("127.0.0.1", gateway_process.settings.gateway.port, timeout=5)) as connection:
        connection.connect()
        first = connection.sock
        for rest in (6, 0):  # httpx gives an idle connection up after five seconds, others after a minute
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            assert (answer.status, answer.read() != b"") == (200, True)
            time.sleep(rest)
        assert connection.sock is first, "the second answer came by another connection"
