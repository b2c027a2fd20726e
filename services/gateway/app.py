"""The prediction service: an endpoint for every use case there is, and what operators need."""

import gc
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

import usecases
from orrery.settings import Settings
from orrery.usecase import Serving
from services.gateway import operations
from services.gateway.desk import GatewayDesk
from services.gateway.limits import BodyLimit
from services.gateway.problems import handle_errors
from services.gateway.reports import reports
from services.gateway.routes import use_case_router
from services.gateway.runtime import running


def create_app(settings: Settings, servings: Mapping[str, Serving] | None = None) -> FastAPI:
    """The gateway of `servings`; without them, of every use case there is. Opens nothing before it is started."""
    cases = {name: usecases.serving(name) for name in usecases.names()} if servings is None else servings

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(settings, cases) as runtime:
            app.state.runtime = runtime
            gc.freeze()  # what is loaded now stays: the collector need not look at it again
            yield

    app = FastAPIOffline(
        title="Orrery gateway",
        summary="Typed predictions, each recorded before it is answered.",
        version=version("orrery"),
        lifespan=lifespan,
        redoc_url=None,
    )
    larger = {path: serving.body_bytes for name, serving in cases.items() for path in (f"/v1/{name}/", *serving.paths)}
    app.add_middleware(BodyLimit, most=settings.gateway.body_bytes, larger=larger)
    handle_errors(app)
    for name, serving in cases.items():
        if serving.endpoints is not None:  # first: it may answer in place of the usual ones
            app.include_router(serving.endpoints(GatewayDesk(name, app, settings)))
        app.include_router(use_case_router(name, serving))
    app.include_router(operations.records)
    app.include_router(reports)
    app.include_router(operations.health)
    return app
