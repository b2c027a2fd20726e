"""Events over HTTP at a pace, several in flight, those that share an entity one after the other."""

import asyncio
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import httpx

TIMEOUT_SECONDS = 30.0
Kind = Literal["predict", "feedback"]


@dataclass(frozen=True)
class Event:
    """One thing a client says: a request, or a label that has arrived."""

    moment: datetime
    kind: Kind
    identity: str
    keys: frozenset[Hashable]
    """entities it touches"""
    body: str
    """JSON"""


@dataclass(frozen=True)
class Reply:
    """What came back. `milliseconds` counts from the moment the event could be sent, so waiting for a place shows."""

    event: Event
    status: int
    """0: no answer"""
    milliseconds: float
    answer: dict[str, Any]
    reason: str
    """why it failed; empty when it did not"""


@dataclass(frozen=True)
class Target:
    """Where events go."""

    url: str
    """base of `predict` and `feedback`"""
    key: str
    """API key"""
    in_flight: int = 16
    """requests on their way at once"""


React = Callable[[Event, dict[str, Any]], Sequence[Event]]
"""a prediction's event, its answer -> what the client says to it at once"""
Pace = Callable[[int, Event], float]
"""index, event -> seconds after the start when it is due"""


def by_rate(per_second: float) -> Pace:
    """The same time between all events."""
    return lambda index, _event: index / per_second


def by_speed(factor: float, first: datetime) -> Pace:
    """Event time from `first` on, `factor` times as fast."""
    return lambda _index, event: (event.moment - first).total_seconds() / factor


async def send(
    events: Sequence[Event], pace: Pace, target: Target, seen: Callable[[Reply], None], react: React = lambda *_: ()
) -> None:
    """Send every event when it is due (open loop), those that share a key in their order; `seen` gets each reply.

    What `react` makes of an answer is sent before any later event that shares a key with the prediction.
    """
    limits = httpx.Limits(max_connections=target.in_flight, max_keepalive_connections=target.in_flight)
    headers = {"authorization": f"Bearer {target.key}", "content-type": "application/json"}
    places = asyncio.Semaphore(target.in_flight)
    async with httpx.AsyncClient(
        base_url=target.url, headers=headers, limits=limits, timeout=TIMEOUT_SECONDS, trust_env=False
    ) as client:
        last: dict[Hashable, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            began = time.monotonic()
            for index, event in enumerate(events):
                await asyncio.sleep(max(0.0, began + pace(index, event) - time.monotonic()))
                earlier = {last[each] for each in event.keys if each in last and not last[each].done()}
                task = group.create_task(_one(event, earlier, client, places, seen, react))
                last.update(dict.fromkeys(event.keys, task))


async def _one(
    event: Event,
    earlier: Iterable[asyncio.Task[None]],
    client: httpx.AsyncClient,
    places: asyncio.Semaphore,
    seen: Callable[[Reply], None],
    react: React,
) -> None:
    if earlier:
        await asyncio.wait(earlier)
    began = time.perf_counter()
    async with places:
        status, answer, reason = await _post(client, event)
    seen(Reply(event, status, 1_000 * (time.perf_counter() - began), answer, reason))
    if event.kind == "predict" and not reason:
        for reaction in react(event, answer):
            await _one(reaction, (), client, places, seen, react)


async def _post(client: httpx.AsyncClient, event: Event) -> tuple[int, dict[str, Any], str]:
    try:
        response = await client.post(event.kind, content=event.body)
        answer = response.json() if response.content else {}
    except httpx.HTTPError as error:
        return 0, {}, type(error).__name__
    except ValueError:
        return response.status_code, {}, f"{response.status_code} without JSON"
    reason = "" if response.is_success else f"{response.status_code} {answer.get('title', '')}".strip()
    return response.status_code, answer, reason
