"""Traffic: in order where order matters, at its pace, and every failure has a reason."""

import asyncio
import json
import threading
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest

from cli.traffic import Event, Target, by_rate, by_speed, send

START = datetime(2020, 1, 1, tzinfo=UTC)


class Recorder:
    """An HTTP server that notes what is in flight at once for each key."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.order: dict[str, list[int]] = defaultdict(list)
        self.now: dict[str, int] = defaultdict(int)
        self.overlaps = 0
        self.most = 0
        self.connections: set[object] = set()

    def handle(self, body: dict, connection: object) -> tuple[int, dict]:
        with self.lock:
            self.connections.add(connection)
            for key in body["keys"]:
                self.order[key].append(body["number"])
                self.now[key] += 1
                self.overlaps += self.now[key] > 1
            self.most = max(self.most, sum(self.now.values()))
        time.sleep(0.005)
        with self.lock:
            for key in body["keys"]:
                self.now[key] -= 1
        return (503, {"title": "Overloaded"}) if body["number"] == 13 else (200, {"prediction_id": "p"})


@pytest.fixture
def recorder(stand_in) -> tuple[Recorder, str]:
    seen = Recorder()
    stand_in.answer = lambda _method, _path, body, connection: seen.handle(body, connection)
    return seen, f"{stand_in.url}/"


def _events(count: int) -> list[Event]:
    def event(number: int) -> Event:
        keys = [f"customer {number % 3}", f"terminal {number % 7}"]
        body = json.dumps({"number": number, "keys": keys})
        return Event(START + timedelta(seconds=number), "predict", str(number), frozenset(keys), body)

    return [event(number) for number in range(count)]


def test_events_that_share_a_key_go_one_after_the_other(recorder):
    server, url = recorder
    replies = []
    asyncio.run(send(_events(60), by_rate(10_000), Target(url, "key"), replies.append))

    assert len(replies) == 60
    assert server.overlaps == 0
    assert server.most > 2, "several are in flight at once"
    assert all(numbers == sorted(numbers) for numbers in server.order.values())
    assert len(server.connections) <= 16


def test_a_reaction_comes_before_the_next_event_of_its_key(recorder):
    server, url = recorder
    replies = []

    def react(event, answer):
        assert answer == {"prediction_id": "p"}
        body = {**json.loads(event.body), "number": int(event.identity) + 0.5}
        return [Event(event.moment, "feedback", event.identity, event.keys, json.dumps(body))]

    asyncio.run(send(_events(20), by_rate(10_000), Target(url, "key"), replies.append, react))

    assert len(replies) == 20 + 19, "what failed has no reaction"
    assert server.overlaps == 0
    assert server.order["customer 0"][:4] == [0, 0.5, 3, 3.5]


def test_a_failure_has_its_reason(recorder):
    replies = []
    asyncio.run(send(_events(20), by_rate(10_000), Target(recorder[1], "key"), replies.append))

    assert [reply.reason for reply in replies if reply.reason] == ["503 Overloaded"]


def test_nobody_there_is_a_failure_of_each_event():
    replies = []
    asyncio.run(send(_events(5), by_rate(10_000), Target("http://127.0.0.1:9/", "key"), replies.append))

    assert [reply.reason for reply in replies] == ["ConnectError"] * 5


def test_pace(recorder):
    assert by_rate(50)(100, _events(1)[0]) == pytest.approx(2.0)
    assert by_speed(60, START)(0, _events(121)[120]) == pytest.approx(2.0)
    began = time.monotonic()
    asyncio.run(send(_events(11), by_rate(20), Target(recorder[1], "key"), lambda reply: None))
    assert time.monotonic() - began >= 0.5
