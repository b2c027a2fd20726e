"""One event of a use case, from its arrival to its answer: bounded, and counted once however it ends."""

from time import perf_counter

from pydantic import BaseModel

from orrery.prediction import Acknowledged, Answered
from services.gateway.problems import Overloaded, status_of
from services.gateway.runtime import Runtime


async def answered(runtime: Runtime, name: str, event: BaseModel, started: float) -> Answered:
    """The answer to an event that came at `started`, of `perf_counter`. Raises what `Predictor.predict` does."""
    predictor = runtime.predictors[name]
    try:
        async with runtime.places.one():
            answer = await predictor.predict(event)
    except Exception as error:
        predictor.metrics.ended(outcome_of(error), perf_counter() - started)
        raise
    outcome = "fallback" if answer.degraded else "ok"
    predictor.metrics.ended(outcome, perf_counter() - started, answer.version, answer.variant)
    return answer


async def acknowledged(runtime: Runtime, name: str, event: BaseModel) -> Acknowledged:
    """A feedback, recorded. Raises what `Predictor.feedback` does."""
    predictor = runtime.predictors[name]
    try:
        async with runtime.places.one():
            told = await predictor.feedback(event)
    except Exception as error:
        predictor.metrics.told(outcome_of(error))
        raise
    predictor.metrics.told("repeated" if told.repeated else "ok")
    return told


def outcome_of(error: Exception) -> str:
    """How a request that failed is counted."""
    if isinstance(error, Overloaded):
        return "shed"
    return "invalid" if status_of(error) < 500 else "error"
