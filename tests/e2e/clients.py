"""The running platform, as a client and an operator see it."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from stack import GATEWAY, Stack

from cli.supervisor import Supervisor
from orrery.settings import GatewaySettings, Settings

ROOT = Path(__file__).parent.parent.parent
ORRERY = Path(sys.executable).with_name("orrery")
Asked = tuple[str, dict[str, Any]]
"""a path of the gateway, and what to send there"""
Make = Callable[[], Asked]


def until(
    question: Callable[[], object], seconds: float, what: Callable[[], str] = lambda: "it", pause: float = 0.2
) -> float:
    """The moment at which the answer was yes, asked once at least; who does not answer has not said so."""
    end = time.monotonic() + seconds
    while True:
        with suppress(httpx.HTTPError):
            if question():
                return time.monotonic()
        if time.monotonic() > end:
            raise AssertionError(f"{what()}: not within {seconds:.0f} s")
        time.sleep(pause)


@dataclass
class Platform:
    """What `orrery up` left running."""

    settings: Settings
    client: httpx.Client
    supervisor: Supervisor
    headers: dict[str, str]
    number: int = field(default_factory=lambda: int(time.time() * 1_000))

    def orrery(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([ORRERY, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)

    def body(self, **changes: Any) -> dict[str, Any]:
        """A transaction of somebody the data set does not know, so that a demo after this one sees what it saw."""
        self.number += 1
        moment = "2018-09-20T10:00:00Z"
        ids = {"transaction_id": self.number, "customer_id": self.number, "terminal_id": self.number}
        return {**ids, "amount": 42.0, "tx_datetime": moment, **changes}

    def transaction(self, **changes: Any) -> Asked:
        """A path and what is sent there."""
        return "/v1/fraud/predict", {"json": self.body(**changes)}

    def film(self, **options: Any) -> Asked:
        """A film that was never sent before, as a DICOM file."""
        from usecases.imaging.phantom import draw
        from usecases.imaging.phantom_dicom import written

        self.number += 1
        data = written(draw(self.number), self.number, moment=datetime(2026, 1, 5, tzinfo=UTC), **options)
        file = ("film.dcm", data, "application/dicom")
        return "/v1/imaging/predict", {"files": {"file": file}, "data": {"explain": "true"}}  # as the log has it

    def predict(self, **changes: Any) -> httpx.Response:
        path, sent = self.transaction(**changes)
        return self.client.post(path, **sent)

    def served(self, use_case: str = "fraud") -> str | None:
        models = self.client.get("/v1/models").json()["models"]
        return next((model["version"] for model in models if model["use_case"] == use_case), None)

    def logged(self, answer: dict[str, Any]) -> bool:
        """Whether the prediction log has an answer as it was given."""
        found = self.client.get(f"/v1/predictions/{answer['prediction_id']}")
        return found.status_code == httpx.codes.OK and found.json()["answer"] == answer

    def wait(self, question: Any, seconds: float = 30) -> float:
        """Seconds until `question` is answered with yes."""
        start = time.monotonic()
        return until(question, seconds, pause=0.02) - start

    @contextmanager
    def load(self, rate: float, make: "Make | None" = None) -> Iterator["Load"]:
        """Predictions, of transactions or of what `make` says, at a constant rate while the block runs."""
        load = Load(self, rate, make or self.transaction)
        load.start()
        yield load
        load.stop.set()
        load.join()


@contextmanager
def client_of(stack: Stack, home: Path) -> Iterator[Platform]:
    """A client of a stack's published gateway, with the first key."""
    headers = {"Authorization": f"Bearer {stack.orrery('keys', 'show').stdout.strip()}"}
    settings = Settings(home=home, gateway=GatewaySettings(url=GATEWAY))
    with httpx.Client(base_url=GATEWAY, headers=headers, timeout=10) as client:
        yield Platform(settings, client, Supervisor(home), headers)


class Load(threading.Thread):
    """An open-loop client: it sends on schedule whether or not earlier answers have come."""

    def __init__(self, platform: Platform, rate: float, make: Make) -> None:
        super().__init__()
        self.platform, self.rate, self.make, self.stop = platform, rate, make, threading.Event()
        self.answered: list[dict[str, Any]] = []
        self.failed: list[str] = []

    def run(self) -> None:
        asyncio.run(self._send())

    async def _send(self) -> None:
        start, sent, running = time.monotonic(), 0, set()
        url, headers = self.platform.settings.gateway_url, self.platform.headers
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=10) as client:
            while not self.stop.is_set():
                task = asyncio.create_task(self._one(client))
                running.add(task)
                task.add_done_callback(running.discard)
                sent += 1
                await asyncio.sleep(max(0.0, start + sent / self.rate - time.monotonic()))
            await asyncio.gather(*running)

    async def _one(self, client: httpx.AsyncClient) -> None:
        try:
            path, sent = self.make()
            response = await client.post(path, **sent)
        except httpx.HTTPError as error:
            self.failed.append(repr(error))
            return
        if response.status_code == httpx.codes.OK:
            self.answered.append(response.json())
        else:
            self.failed.append(f"{response.status_code} {response.text}")
