"""What operators ask: is it alive, is it ready, what answers, and what was said of one prediction."""

import asyncio
import json
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from orrery.adapters.prediction_log import Logged, LogUnavailable
from orrery.moments import micros, moment
from orrery.prediction import Predictor
from services.gateway.access import require
from services.gateway.problems import NoSuchPrediction, documented
from services.gateway.routes import runtime_of
from services.gateway.runtime import now
from services.gateway.standing import Status

health = APIRouter(tags=["operations"])
records = APIRouter(prefix="/v1", tags=["records"])
_PROBE_SECONDS = 2.0


@health.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@health.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """It can answer and record: by a model, or by rules when there is none. Says what is amiss."""
    runtime = runtime_of(request)
    ready = not runtime.draining
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            log = await asyncio.wrap_future(runtime.writer.probe(micros(now())))
    except (LogUnavailable, TimeoutError) as error:
        ready, log = False, str(error) or "the log does not answer"
    if runtime.draining:
        log = "draining"
    models = {name: _state(predictor) for name, predictor in runtime.predictors.items()}
    return JSONResponse({"ready": ready, "checks": {"log": log, "models": models}}, 200 if ready else 503)


@health.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus' text format."""
    return Response(generate_latest(runtime_of(request).metrics.registry), media_type=CONTENT_TYPE_LATEST)


@records.get("/models", responses=documented(401, 403), openapi_extra={"security": [{"APIKeyHeader": []}]})
async def models(request: Request) -> JSONResponse:
    """What answers now, by use case."""
    runtime = runtime_of(request)
    await require(request, runtime.keys, "read")
    return JSONResponse({"models": [_model(predictor) for predictor in runtime.predictors.values()]})


@records.get(
    "/status",
    response_model=Status,
    responses=documented(401, 403, 503),
    openapi_extra={"security": [{"APIKeyHeader": []}]},
)
async def status(request: Request) -> Status:
    """How each use case stands: champion, traffic, promise, drift, labels, last release. Null fields have a reason."""
    runtime = runtime_of(request)
    await require(request, runtime.keys, "read")
    return runtime.observer.status()


@records.get(
    "/predictions/{prediction_id}",
    responses=documented(401, 403, 404, 503),
    openapi_extra={"security": [{"APIKeyHeader": []}]},
)
async def prediction(
    request: Request, prediction_id: Annotated[str, Path(min_length=1, max_length=64)]
) -> JSONResponse:
    """One prediction's lineage: what was asked, what the model saw and how old it was, who answered, and the truth."""
    runtime = runtime_of(request)
    await require(request, runtime.keys, "read")
    logged = await asyncio.to_thread(runtime.log.by_id, prediction_id)
    if logged is None:
        raise NoSuchPrediction("no prediction of that id is in the log")
    return JSONResponse(_lineage(logged))


def _state(predictor: Predictor) -> str:
    served = predictor.served
    return f"version {served.version} ({served.source})" if served else "rules only: no model is loaded"


def _model(predictor: Predictor) -> dict[str, Any]:
    served = predictor.served
    rules = predictor.rules or predictor.serving.default_rules
    about: dict[str, Any] = {"use_case": predictor.name, "version": None, "rules_version": str(rules["version"])}
    if served is None:
        return about
    manifest = served.model.manifest.model_dump(
        mode="json",
        include={
            "created_at",
            "trained_from",
            "trained_to",
            "as_of",
            "rows",
            "data_version",
            "git_commit",
            "lock_hash",
        },
    )
    answers = {"version": served.version, "variant": served.variant, "run_id": served.run_id}
    answers |= {"digest": served.digest, "source": served.source, "device": served.model.device}
    return about | answers | manifest


def _moment(micro: int | None) -> str | None:
    return None if micro is None else moment(micro).isoformat()


def _lineage(logged: Logged) -> dict[str, Any]:
    record = logged.record
    label = {"value": logged.label, "arrived_at": _moment(logged.label_arrived_at)}
    return {
        "prediction_id": record.prediction_id,
        "use_case": record.use_case,
        "sequence": logged.sequence,
        "event_time": _moment(record.event_time),
        "recorded_at": _moment(record.recorded_at),
        "request": json.loads(record.request),
        "features": _parsed(record.features),
        "sources": _aged(json.loads(record.sources), record.event_time),
        "outputs": _parsed(record.outputs),
        "answer": json.loads(record.answer),
        "rules_version": record.rules_version,
        "model": {
            "version": record.model_version,
            "run_id": record.run_id,
            "digest": record.digest,
            "data_version": record.data_version,
            "git_commit": record.git_commit,
        },
        "label": None if logged.label is None else label,
    }


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _aged(sources: dict[str, dict[str, Any]], event_time: int) -> dict[str, dict[str, Any]]:
    """Each source with its age: the seconds from its latest event to this one."""
    for source in sources.values():
        known = source["event_time"]
        age = None if known is None else (event_time - micros(datetime.fromisoformat(known))) / 1_000_000
        source["age_seconds"] = age
    return sources
