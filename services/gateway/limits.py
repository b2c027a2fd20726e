"""What one client cannot take from the others: memory by large bodies, time by too many requests at once."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orrery.telemetry import GatewayMetrics
from services.gateway.problems import BodyTooLarge, Overloaded


class BodyLimit:
    """Stops reading a body at `most` bytes, or at what `larger` says for a path that begins so."""

    def __init__(self, app: ASGIApp, most: int, larger: Mapping[str, int]) -> None:
        self._app = app
        self._most = most
        self._larger = larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        read = 0
        found = [bytes_ for path, bytes_ in self._larger.items() if scope["path"].startswith(path)]
        most = max([self._most, *found])

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                raise BodyTooLarge(f"a body may have {most} bytes")
            return message

        await self._app(scope, counted, send)


class Places:
    """The requests in work at once: who finds no place within `wait_ms` is sent away, quickly."""

    def __init__(self, limit: int, wait_ms: float, metrics: GatewayMetrics) -> None:
        self._free = asyncio.Semaphore(limit)
        self._wait_ms = wait_ms
        self._inflight, self._waited = metrics.inflight, metrics.queue_wait
        metrics.inflight_limit.set(limit)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold a place. Raises Overloaded."""
        started = perf_counter()
        try:
            async with asyncio.timeout(self._wait_ms / 1_000):
                await self._free.acquire()
        except TimeoutError:
            raise Overloaded("no place became free in time; try again in a second") from None
        self._waited.observe(perf_counter() - started)
        self._inflight.inc()
        try:
            yield
        finally:
            self._inflight.dec()
            self._free.release()
