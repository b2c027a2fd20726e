"""Requests at a constant rate, whatever the server does: latency counts from the moment a request was due."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import httptools

_CONNECTIONS = 256


@dataclass(frozen=True)
class Sent:
    """What became of one request."""

    status: int
    """HTTP status; 0 when there was no answer"""
    seconds: float
    """from the moment it was due to its answer"""
    body: bytes


class _Exchange(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def ask(self, request: bytes) -> "asyncio.Future[tuple[int, bytes]]":
        assert self.transport is not None
        self._parser, self._body = httptools.HttpResponseParser(self), b""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        assert self._parser is not None
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        assert self._parser is not None
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), self._body))

    def connection_lost(self, _: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError())


class OpenLoop:
    """A client that never waits for an answer before it sends the next request."""

    def __init__(self, host: str, port: int, path: str, key: str) -> None:
        self._host, self._port = host, port
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nX-API-Key: {key}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self._idle: list[_Exchange] = []
        self._open = 0

    async def send(self, bodies: Sequence[bytes], rate: float) -> list[Sent]:
        """Send each body when it is due, `rate` a second; the answers in the order of the bodies."""
        started = perf_counter()
        tasks = []
        for turn, body in enumerate(bodies):
            due = started + turn / rate
            await asyncio.sleep(due - perf_counter())
            tasks.append(asyncio.create_task(self._one(body, due)))
        return await asyncio.gather(*tasks)

    def close(self) -> None:
        for exchange in self._idle:
            if exchange.transport is not None:
                exchange.transport.close()
        self._idle.clear()

    async def _one(self, body: bytes, due: float) -> Sent:
        try:
            exchange = await self._exchange()
            status, answer = await exchange.ask(self._head + b"%d\r\n\r\n" % len(body) + body)
        except OSError:
            return Sent(0, perf_counter() - due, b"")
        self._idle.append(exchange)
        return Sent(status, perf_counter() - due, answer)

    async def _exchange(self) -> _Exchange:
        while self._idle:
            exchange = self._idle.pop()
            if exchange.transport is not None and not exchange.transport.is_closing():
                return exchange
            self._open -= 1  # the server has closed it while it was idle
        if self._open >= _CONNECTIONS:
            raise ConnectionRefusedError
        self._open += 1
        _, exchange = await asyncio.get_running_loop().create_connection(_Exchange, self._host, self._port)
        return exchange
