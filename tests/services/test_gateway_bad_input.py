"""Whatever is sent, the answer is a problem that names the field, never repeats the value, and comes quickly."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from running import eventually

import usecases
from orrery.adapters.api_keys import open_keys

EXAMPLE = usecases.serving("fraud").example.model_dump(mode="json")
LABEL = usecases.serving("fraud").example_feedback.model_dump(mode="json")
PREDICT, FEEDBACK = "/v1/fraud/predict", "/v1/fraud/feedback"


def send(client, text, path=PREDICT):
    return client.post(path, content=text, headers={"Content-Type": "application/json"})


def problem(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found = response.json()
    assert found["status"] == status
    assert found["title"]
    return found


def without(name):
    return {key: value for key, value in EXAMPLE.items() if key != name}


FIELDS = ("transaction_id", "customer_id", "terminal_id", "amount", "tx_datetime")
BAD = [
    *((name, json.dumps(without(name))) for name in FIELDS),
    *((name, json.dumps(EXAMPLE | {name: None})) for name in FIELDS),
    *((name, json.dumps(EXAMPLE | {name: {"deep": 1}})) for name in FIELDS),
    *((name, json.dumps(EXAMPLE | {name: "seven"})) for name in FIELDS),
    ("surprise", json.dumps(EXAMPLE | {"surprise": 1})),
    ("transaction_id", json.dumps(EXAMPLE | {"transaction_id": "17"})),
    ("transaction_id", json.dumps(EXAMPLE | {"transaction_id": 1.5})),
    ("transaction_id", json.dumps(EXAMPLE | {"transaction_id": -1})),
    ("transaction_id", json.dumps(EXAMPLE | {"transaction_id": 2**63})),
    ("transaction_id", json.dumps(EXAMPLE | {"transaction_id": 10**60})),
    ("customer_id", json.dumps(EXAMPLE | {"customer_id": True})),
    ("amount", json.dumps(EXAMPLE | {"amount": "57.16"})),
    ("amount", json.dumps(EXAMPLE | {"amount": -0.01})),
    ("amount", json.dumps(EXAMPLE | {"amount": 1e308})),
    ("amount", json.dumps(EXAMPLE | {"amount": 1_000_000.01})),
    ("amount", json.dumps(EXAMPLE | {"amount": 57.161})),
    ("amount", json.dumps(EXAMPLE | {"amount": float("nan")})),
    ("amount", json.dumps(EXAMPLE | {"amount": float("inf")})),
    ("amount", json.dumps(EXAMPLE | {"amount": float("-inf")})),
    ("amount", json.dumps(EXAMPLE | {"amount": 0}).replace('"amount": 0', '"amount": 1e999')),
    ("tx_datetime", json.dumps(EXAMPLE | {"tx_datetime": 1_538_386_200})),
    ("tx_datetime", json.dumps(EXAMPLE | {"tx_datetime": "2018-10-01T09:30:00"})),
    ("tx_datetime", json.dumps(EXAMPLE | {"tx_datetime": "1999-12-31T23:59:59Z"})),
    ("tx_datetime", json.dumps(EXAMPLE | {"tx_datetime": "0001-01-01T00:00:00+23:59"})),
    ("tx_datetime", json.dumps(EXAMPLE | {"tx_datetime": "9999-12-31T23:59:59-23:59"})),
    ("tx_datetime", json.dumps(EXAMPLE | {"tx_datetime": (datetime.now(UTC) + timedelta(days=2)).isoformat()})),
    ("tx_datetime", json.dumps(EXAMPLE | {"tx_datetime": "2018-13-45T00:00:00Z"})),
    ("explain", json.dumps(EXAMPLE | {"explain": "yes"})),
]  # fmt: skip


@pytest.mark.parametrize(("field", "text"), BAD, ids=[f"{field}-{index}" for index, (field, _) in enumerate(BAD)])
def test_a_bad_field_is_named(standing, field, text):
    found = problem(send(standing, text), 422)
    assert field in [each["field"] for each in found["errors"]]
    assert all(each["reason"] for each in found["errors"])


def test_values_are_never_repeated(standing):
    secret = "4111111111111111"
    for body in (
        EXAMPLE | {"amount": secret},
        EXAMPLE | {"tx_datetime": secret + "x"},
        EXAMPLE | {"explain": secret},
        EXAMPLE | {"surprise": secret},
    ):
        assert secret not in send(standing, json.dumps(body)).text
    assert secret not in send(standing, f'{{"amount": {secret} {secret}').text


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("fraud", {"fraud": "maybe"}),
        ("fraud", {"fraud": 1}),
        ("arrived_at", {"arrived_at": "tomorrow"}),
        ("arrived_at", {"arrived_at": (datetime.now(UTC) + timedelta(days=3)).isoformat()}),
        ("transaction_id", {"transaction_id": -3}),
        ("body", {"terminal_id": 3}),
        ("surprise", {"surprise": 3}),
    ],
)
def test_a_bad_label_is_named(standing, field, changes):
    found = problem(send(standing, json.dumps(LABEL | changes), FEEDBACK), 422)
    assert field in [each["field"] for each in found["errors"]]


@pytest.mark.parametrize(
    "text",
    ["", "{", "nonsense", '{"transaction_id": ' + "9" * 9_000 + "}", "null null", '{"amount": 01}', b"\xff\xfe{}"],
)
def test_what_is_not_json_is_refused(standing, text):
    problem(send(standing, text), 400)


@pytest.mark.parametrize("text", ["[]", "null", "7", '"text"'])
def test_json_that_is_no_object_is_refused(standing, text):
    problem(send(standing, text), 422)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deeply_nested_json_is_refused_quickly(standing, opening):
    started = time.perf_counter()
    problem(send(standing, opening * 10_000), 400)
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("chunked", [True, False])
def test_a_large_body_is_not_read(standing, chunked):
    body = b" " * 10_000_000
    content = (body[start : start + 65_536] for start in range(0, len(body), 65_536)) if chunked else body
    problem(standing.post(PREDICT, content=content), 413)
    assert standing.get("/healthz").status_code == 200


@pytest.mark.parametrize("path", [PREDICT, FEEDBACK, "/v1/models", "/v1/predictions/abc"])
@pytest.mark.parametrize("headers", [{"X-API-Key": ""}, {"X-API-Key": "ork_00000000_" + "x" * 43}, {"X-API-Key": "ork"},
                                     {"X-API-Key": "", "Authorization": "Basic abc"}])  # fmt: skip
def test_without_a_living_key_nothing_is_said(standing, path, headers):
    method = "GET" if path.startswith(("/v1/models", "/v1/predictions")) else "POST"
    response = standing.request(method, path, headers=headers)
    problem(response, 401)
    assert response.headers["www-authenticate"] == "Bearer"


def test_a_key_may_do_what_its_scopes_say(standing):
    text, key = open_keys(standing.settings).create("half", ["predict:fraud"])
    headers = {"X-API-Key": "", "Authorization": f"Bearer {text}"}
    eventually(lambda: standing.post(PREDICT, json=EXAMPLE, headers=headers).status_code == 200)
    for method, path in (("POST", FEEDBACK), ("GET", "/v1/models"), ("GET", "/v1/predictions/abc")):
        assert "lacks the scope" in problem(standing.request(method, path, headers=headers), 403)["detail"]
    other, _ = open_keys(standing.settings).create("other", ["predict:another"])
    eventually(lambda: standing.post(PREDICT, json=EXAMPLE, headers={"X-API-Key": other}).status_code == 403)
    open_keys(standing.settings).revoke(key.key_id)
    eventually(lambda: standing.post(PREDICT, json=EXAMPLE, headers=headers).status_code == 401)


def test_what_is_not_there_is_a_problem_too(standing):
    problem(standing.get("/nowhere"), 404)
    problem(standing.post("/v1/nowhere/predict", json=EXAMPLE), 404)
    problem(standing.get(PREDICT), 405)
    problem(standing.get("/v1/predictions/abc"), 404)


def test_bad_requests_are_counted_apart(bare):
    send(bare, "nonsense")
    text = bare.get("/metrics").text
    assert 'gateway_predictions_total{outcome="invalid",use_case="fraud",variant="",version=""} 1.0' in text
    assert 'gateway_prediction_duration_seconds_count{outcome_class="client",use_case="fraud"} 1.0' in text
