"""The endpoints of a use case: one to ask, one to tell the truth later."""

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, ValidationError

from orrery.prediction import Acknowledged
from orrery.usecase import Serving
from services.gateway.access import require
from services.gateway.answering import acknowledged, answered, outcome_of
from services.gateway.problems import documented, refused
from services.gateway.runtime import Runtime

api_key = APIKeyHeader(name="X-API-Key", auto_error=False)
Handler = Callable[[Request], Awaitable[Response]]


def runtime_of(request: Request) -> Runtime:
    """The running gateway behind a request."""
    runtime: Runtime = request.app.state.runtime
    return runtime


def parsed(model: type[BaseModel], body: bytes) -> BaseModel:
    """A body as a typed event. Raises BodyRefused or FieldsRefused."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise refused(error) from None


def _predict(name: str, serving: Serving) -> Handler:
    scope = f"predict:{name}"

    async def handle(request: Request) -> Response:
        started = perf_counter()
        runtime = runtime_of(request)
        metrics = runtime.predictors[name].metrics
        try:
            await require(request, runtime.keys, scope)
            metrics.stage("auth", perf_counter() - started)
            event = parsed(serving.request, await request.body())
        except Exception as error:
            metrics.ended(outcome_of(error), perf_counter() - started)
            raise
        answer = await answered(runtime, name, event, started)
        return Response(answer.body, media_type="application/json")

    return handle


def _feedback(name: str, serving: Serving) -> Handler:
    scope = f"feedback:{name}"

    async def handle(request: Request) -> Response:
        runtime = runtime_of(request)
        try:
            await require(request, runtime.keys, scope)
            event = parsed(serving.feedback, await request.body())
        except Exception as error:
            runtime.predictors[name].metrics.told(outcome_of(error))
            raise
        told = await acknowledged(runtime, name, event)
        return Response(told.model_dump_json(), media_type="application/json")

    return handle


def _typed(handler: Handler) -> type[APIRoute]:
    """A route that is documented by its endpoint's types and answered by `handler`.

    FastAPI's own way parses the body twice and resolves dependencies: several times the work of the model.
    """

    class Typed(APIRoute):
        def get_route_handler(self) -> Any:
            return handler

    return Typed


def _described(model: type[BaseModel]) -> Callable[..., Any]:
    async def endpoint(body: Any) -> Any:
        """Never called: its types are what the documentation shows."""

    endpoint.__annotations__["body"] = model
    return endpoint


def use_case_router(name: str, serving: Serving) -> APIRouter:
    """The endpoints under /v1/<name>."""
    router = APIRouter(prefix=f"/v1/{name}", tags=[name])
    _add(router, name, "predict", _predict(name, serving), serving.request, serving.response, serving.example)
    _add(router, name, "feedback", _feedback(name, serving), serving.feedback, Acknowledged, serving.example_feedback)
    return router


def _add(
    router: APIRouter,
    name: str,
    verb: str,
    handler: Handler,
    asked: type[BaseModel],
    answered: type[BaseModel],
    example: BaseModel,
) -> None:
    content = {"application/json": {"example": example.model_dump(mode="json")}}
    router.add_api_route(
        f"/{verb}",
        _described(asked),
        methods=["POST"],
        response_model=answered,
        responses=documented(400, 401, 403, 404, 413, 422, 503),
        summary=f"{verb.capitalize()} {name}",
        operation_id=f"{verb}_{name}",
        openapi_extra={"requestBody": {"content": content}, "security": [{"APIKeyHeader": []}]},
        route_class_override=_typed(handler),
    )
