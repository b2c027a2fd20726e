"""What the gateway lends to the endpoints that a use case brings itself."""

import asyncio
import json
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel

from orrery.adapters.access_log import AccessLog
from orrery.adapters.use_case_secret import secret_of
from orrery.settings import Settings
from services.gateway.access import require
from services.gateway.answering import acknowledged, answered
from services.gateway.runtime import Runtime, now


class GatewayDesk:
    """The desk of one use case. Its folder, secret and audit log are made when they are first asked for."""

    def __init__(self, name: str, app: FastAPI, settings: Settings) -> None:
        self._name, self._app, self._settings = name, app, settings

    @property
    def _runtime(self) -> Runtime:
        runtime: Runtime = self._app.state.runtime
        return runtime

    @cached_property
    def folder(self) -> Path:
        folder = (self._settings.home / self._name).absolute()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    @cached_property
    def secret(self) -> bytes:
        return secret_of(self._settings, self._name)

    @cached_property
    def _audit(self) -> AccessLog:
        return AccessLog(self.folder / "access.jsonl", self.secret)

    def now(self) -> datetime:
        return now()

    async def allow(self, request: Request, verb: str) -> str:
        scope = verb if verb == "read" else f"{verb}:{self._name}"
        return await require(request, self._runtime.keys, scope)

    async def predict(self, event: BaseModel) -> Mapping[str, Any]:
        started = perf_counter()
        answer = await answered(self._runtime, self._name, event, started)
        fields: dict[str, Any] = json.loads(answer.body)
        return fields

    async def feedback(self, event: BaseModel) -> Mapping[str, Any]:
        told = await acknowledged(self._runtime, self._name, event)
        return told.model_dump()

    async def logged(self, prediction_id: str) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
        found = await asyncio.to_thread(self._runtime.log.by_id, prediction_id)
        if found is None or found.record.use_case != self._name:
            return None
        return json.loads(found.record.request), json.loads(found.record.answer)

    async def record(self, who: str, action: str, subject: str, details: Mapping[str, Any]) -> None:
        await asyncio.to_thread(self._audit.append, action, subject, dict(details), who)

    def count(self, event: str, outcome: str) -> None:
        self._runtime.metrics.events.labels(self._name, event, outcome).inc()

    def level(self, what: str, value: float) -> None:
        self._runtime.metrics.levels.labels(self._name, what).set(value)
