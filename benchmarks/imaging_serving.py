"""Films through the gateway: TorchServe against its twin in the gateway, alone and batched, and what else costs."""

import argparse
import asyncio
import base64
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np

import usecases
from benchmarks.gateway import ROOT, embedded, free_port, served
from benchmarks.load.fitted_bundle import fitted
from cli.console import emit, progress
from orrery.adapters.model_server import load_model
from orrery.adapters.model_source import LastGood
from orrery.adapters.torchserve import VersionStore
from orrery.bundle import Bundle
from orrery.settings import Settings, child_environment
from orrery.torchserve_settings import TorchserveSettings
from orrery.usecase import Array, Progress

NAME = "imaging"
CLIENTS = (1, 4, 8)
SERVERS: tuple[tuple[str, Literal["torchserve", "in_process"], int], ...] = (
    ("TorchServe, one at a time", "torchserve", 1),
    ("TorchServe, batches up to 8", "torchserve", 8),
    ("twin in the gateway", "in_process", 1),
)
"""name, who runs the model, films at once"""
_WARM_UP, _TIMED = 20, 20
_START_SECONDS = 60.0
TARGET_MS = 500.0
"""the most that a DICOM film may take, p95, one client, without OCR"""


def run(seconds: float, report: Progress) -> dict[str, Any]:
    """All of it, in a home that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        raw = fitted(NAME, embedded(home), report, sample=True)
        requests = usecases.training(NAME).requests(raw.tail(60))
        bodies = [event.model_dump(mode="json") for _, kind, event in requests if kind == "predict"]
        films = [_dicom(seed) for seed in range(40)]
        rows: list[dict[str, Any]] = []
        for step, (name, server, batch) in enumerate(SERVERS):
            report("serving", step, len(SERVERS), name)
            rows += _measured(name, _settings(home, server, batch), bodies, films, seconds)
        report("serving", len(SERVERS), len(SERVERS))
        found = {"rates": rows, "costs": _costs(home, films)}
    slowest = max(row["p95_ms"] for row in rows if row["clients"] == 1 and row["sent"] == "DICOM")
    return found | {
        "target": {"p95_ms": TARGET_MS},
        "passed": slowest <= TARGET_MS and not any(r["errors"] for r in rows),
    }


def _settings(home: Path, server: Literal["torchserve", "in_process"], batch: int) -> Settings:
    found = embedded(home)
    ports = {name: free_port() for name in ("port", "management_port", "metrics_port")}
    gateway = found.gateway.model_copy(update={"model_server": server})
    log = found.log.model_copy(update={"durable": False})
    return found.model_copy(
        update={
            "gateway": gateway,
            "log": log,
            "torchserve": TorchserveSettings(batch=batch, batch_delay_ms=2, **ports),
        }
    )


def _dicom(seed: int) -> bytes:
    from usecases.imaging.phantom import draw
    from usecases.imaging.phantom_dicom import written

    return written(draw(seed), seed, moment=datetime(2026, 1, 5, tzinfo=UTC))


def _measured(
    name: str, settings: Settings, bodies: Sequence[dict[str, Any]], films: Sequence[bytes], seconds: float
) -> Iterator[dict[str, Any]]:
    """A row for each number of clients, and one for DICOM files of one client."""
    numbers = count()
    mark = f"{settings.gateway.model_server}-{settings.torchserve.batch}"

    def picture() -> dict[str, Any]:
        number = next(numbers)
        body = bodies[number % len(bodies)] | {"film_id": f"{mark}-{number}"}
        return {"content": json.dumps(body), "headers": {"content-type": "application/json"}}

    def film() -> dict[str, Any]:
        return {"content": films[next(numbers) % len(films)], "headers": {"content-type": "application/dicom"}}

    with _torchserve(settings), served(settings) as key:
        ask = _Asking(settings, key)
        asyncio.run(ask.by(2, picture, _WARM_UP / 10))
        for clients in CLIENTS:
            yield {"server": name, "sent": "picture", "clients": clients} | asyncio.run(
                ask.by(clients, picture, seconds)
            )
        yield {"server": name, "sent": "DICOM", "clients": 1} | asyncio.run(ask.by(1, film, seconds))


@contextmanager
def _torchserve(settings: Settings) -> Iterator[None]:
    """TorchServe with the bundle that the gateway serves, where it is wanted."""
    if settings.gateway.model_server == "in_process":
        yield
        return
    with (settings.home / "torchserve.log").open("ab") as log:
        command = [sys.executable, "-m", "services.torchserve"]
        process = subprocess.Popen(command, cwd=ROOT, env=child_environment(settings, {}), stdout=log, stderr=log)  # noqa: S603
        try:
            _wait(settings)
            registered, folder = LastGood(settings.models_folder / NAME).current() or _nothing()
            with VersionStore(settings) as store:
                store.put(Bundle.open(folder), registered.version)
            yield
        finally:
            process.terminate()
            process.wait(30)


def _nothing() -> Any:
    raise SystemExit("no bundle was fitted")


def _wait(settings: Settings) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        try:
            if httpx.get(f"{settings.torchserve_url}/ping").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise SystemExit((settings.home / "torchserve.log").read_text()[-2_000:])


class _Asking:
    """Clients that each send the next film when they have the answer to the last."""

    def __init__(self, settings: Settings, key: str) -> None:
        self._url, self._headers = settings.gateway_url, {"authorization": f"Bearer {key}"}

    async def by(self, clients: int, make: Callable[[], dict[str, Any]], seconds: float) -> dict[str, Any]:
        """Milliseconds and films a second of so many clients."""
        taken: list[float] = []
        wrong = 0
        until = time.monotonic() + seconds

        async def one(client: httpx.AsyncClient) -> None:
            nonlocal wrong
            while time.monotonic() < until:
                sent = make()
                began = time.perf_counter()
                answer = await client.post(f"/v1/{NAME}/predict", content=sent["content"], headers=sent["headers"])
                taken.append(1_000 * (time.perf_counter() - began))
                wrong += answer.status_code != httpx.codes.OK or answer.json()["degraded"]

        async with httpx.AsyncClient(base_url=self._url, headers=self._headers, timeout=30, trust_env=False) as client:
            began = time.monotonic()
            await asyncio.gather(*(one(client) for _ in range(clients)))
            passed = time.monotonic() - began
        p50, p95 = np.percentile(taken, (50, 95))
        return {
            "p50_ms": round(float(p50), 1),
            "p95_ms": round(float(p95), 1),
            "films_a_second": round(len(taken) / passed, 1),
            "errors": int(wrong),
        }


def _costs(home: Path, films: Sequence[bytes]) -> list[dict[str, Any]]:
    """Milliseconds of one film, median, in one process: scoring, Grad-CAM of it, taking a file in, reading text."""
    from usecases.imaging.features import inputs
    from usecases.imaging.intake import Intake
    from usecases.imaging.picture import encode
    from usecases.imaging.scoring import score

    _, folder = LastGood(home / "models" / NAME).current() or _nothing()
    model, intake = load_model(folder), Intake(bytes(32))
    plain = [film for film in (intake.receive(data).film for data in films) if film is not None]
    rows = [inputs(film.picture, film.age, film.sex, film.view)[None] for film in plain]
    maps: list[Array] = [score(model, row)["cam"][0] for row in rows]
    with_text = [_with_text(seed) for seed in range(_TIMED // 4)]
    return [
        {"what": "score, twin", "ms": _median(lambda row: score(model, row), rows)},
        {"what": "map of Grad-CAM as PNG in base64", "ms": _median(lambda cam: base64.b64encode(encode(cam)), maps)},
        {"what": "intake without text", "ms": _median(intake.receive, films)},
        {"what": "intake with burned-in text, read and painted over", "ms": _median(intake.receive, with_text)},
    ]


def _with_text(seed: int) -> bytes:
    from usecases.imaging.phantom import draw
    from usecases.imaging.phantom_dicom import written

    return written(draw(seed), seed, moment=datetime(2026, 1, 5, tzinfo=UTC), text=True)


def _median(call: Callable[[Any], object], values: Sequence[Any]) -> float:
    taken = []
    for value in values[:_TIMED]:
        began = time.perf_counter()
        call(value)
        taken.append(1_000 * (time.perf_counter() - began))
    return round(float(np.median(taken)), 2)


def main() -> None:
    """Print the tables, or JSON; exit 1 when the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="the measurements as JSON")
    parser.add_argument("--seconds", type=float, default=10, help="how long each measurement lasts")
    asked = parser.parse_args()
    with progress() as report:
        found = run(asked.seconds, report)
    if asked.json:
        emit(found, as_json=True)
    else:
        emit(found["rates"], as_json=False, title="films through the gateway")
        emit(found["costs"], as_json=False, title="one film")
    sys.exit(0 if found["passed"] else 1)


if __name__ == "__main__":
    main()
