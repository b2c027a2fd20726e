"""A use case's own endpoints: what the gateway lends them, and what it keeps watching all the same."""

import re
from dataclasses import replace

import httpx
import pytest
from fastapi import APIRouter, Request
from running import gateway

import usecases
from orrery.adapters import access_log
from orrery.adapters.use_case_secret import secret_of

EXAMPLE = usecases.serving("fraud").example
OWN = "/v1/fraud/own"


def router(desk):
    router = APIRouter()

    @router.post(OWN)
    async def ask(request: Request):
        who = await desk.allow(request, "predict")
        body = await request.body()
        answer = await desk.predict(EXAMPLE.model_copy(update={"transaction_id": len(body)}))
        await desk.record(who, "predict", str(len(body)), {"decision": answer["decision"]})
        desk.count("file", "scored")
        desk.level("waiting", 3)
        return {"who": who, "at": desk.now().isoformat(), "answer": answer}

    @router.get(OWN + "/{prediction_id}")
    async def tell(request: Request, prediction_id: str):
        await desk.allow(request, "read")
        found = await desk.logged(prediction_id)
        return {"found": None if found is None else [dict(each) for each in found]}

    @router.post("/elsewhere")
    async def large(request: Request):
        return {"bytes": len(await request.body())}

    return router


@pytest.fixture
def client(configured, key):
    own = replace(usecases.serving("fraud"), endpoints=router, body_bytes=200_000, paths=("/elsewhere",))
    with gateway(configured, key, fraud=own) as client:
        yield client


def test_its_predictions_are_answered_logged_and_counted_as_any(client):
    said = client.post(OWN, content=b"123456").json()
    assert said["who"] == "test"
    answer = said["answer"]
    found = client.get(f"{OWN}/{answer['prediction_id']}").json()["found"]
    assert found[0]["transaction_id"] == 6
    assert found[1] == answer
    assert client.get(f"/v1/predictions/{answer['prediction_id']}").is_success
    metrics = client.get("/metrics").text
    assert re.search(r'gateway_predictions_total\{outcome="fallback",use_case="fraud".*\} 1\.0', metrics)
    assert 'use_case_events_total{event="file",outcome="scored",use_case="fraud"} 1.0' in metrics
    assert 'use_case_level{use_case="fraud",what="waiting"} 3.0' in metrics
    assert re.search(r'gateway_decisions_total\{decision="\w+",use_case="fraud"\} 1\.0', metrics)


def test_what_is_recorded_can_be_verified(client, configured):
    for size in (1, 2, 3):
        client.post(OWN, content=b"x" * size)
    path = configured.home / "fraud" / "access.jsonl"
    assert access_log.verify(path, secret_of(configured, "fraud")).records == 3
    assert path.parent.stat().st_mode & 0o077 == 0


def test_its_key_is_asked_for(client):
    assert httpx.post(f"{client.base_url}{OWN}", content=b"1").status_code == 401


def test_what_was_never_predicted_is_not_found(client):
    assert client.get(f"{OWN}/none").json() == {"found": None}


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [(OWN, 150_000, 200), (OWN, 200_001, 413), ("/elsewhere", 150_000, 200), ("/elsewhere", 200_001, 413)],
)
def test_its_bodies_may_be_larger_and_are_bounded(client, path, size, status):
    assert client.post(path, content=b"x" * size).status_code == status
