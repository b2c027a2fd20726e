"""The platform in containers: sizes, memory, time to the first answer, and latency beside the gateway as a process."""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np

from benchmarks.gateway import DEFAULT, RATES, embedded, prepare, served
from benchmarks.load.open_loop import OpenLoop
from cli.console import emit, progress
from orrery.settings import Settings
from orrery.usecase import Progress

ROOT = Path(__file__).parents[1]
TARGETS = {"gateway_mb": 900, "worker_mb": 3_500, "ready_s": 90.0, "first_answer_s": 120.0, "memory_mb": 4_096}
_STRANGERS = 50_000_000
"""added to every id, so that nothing that is measured is about an entity of the data"""
_RATES = tuple(rate for rate in RATES if rate <= 100)
_ROUNDS = 3
_UNITS = {"GiB": 1_024.0, "MiB": 1.0, "KiB": 1 / 1_024}


def docker(*arguments: str) -> str:
    """What docker prints. Raises CalledProcessError."""
    return subprocess.run(["docker", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S603, S607


def sizes() -> dict[str, float]:
    """Megabytes of our images, by role."""
    names = sorted({name for name in docker("compose", "config", "--images").split() if name.startswith("orrery/")})
    found = json.loads(docker("image", "inspect", *names))
    return {each["RepoTags"][0].split("/")[1].split(":")[0]: round(each["Size"] / 1e6) for each in found}


def memory() -> dict[str, float]:
    """Megabytes in use, by service."""
    ids = docker("compose", "ps", "--quiet").split()
    lines = docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", *ids).splitlines()
    return {line.split()[0].rsplit("-", 2)[-2]: _megabytes(line.split()[1]) for line in lines}


def _megabytes(text: str) -> float:
    unit = next(unit for unit in _UNITS if text.endswith(unit))
    return round(float(text.removesuffix(unit)) * _UNITS[unit], 1)


def starts(url: str, key: str, body: bytes) -> dict[str, float]:
    """Stop everything, start it, and wait for a ready gateway and for an answer of the champion: seconds."""
    docker("compose", "down")
    began = time.monotonic()
    starting = subprocess.Popen(["docker", "compose", "up", "--detach"], cwd=ROOT, stderr=subprocess.DEVNULL)  # noqa: S607
    with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=2.0) as client:
        ready = _until(lambda: client.get("/readyz").is_success, began)
        answer = _until(lambda: _by_model(client.post(f"/v1/{DEFAULT}/predict", content=body)), began)
    starting.wait()
    return {"ready_s": round(ready, 1), "first_answer_s": round(answer, 1)}


def _by_model(answer: httpx.Response) -> bool:
    return answer.is_success and not answer.json()["degraded"]


def _until(question: Callable[[], bool], began: float) -> float:
    while time.monotonic() - began < 300:
        try:
            if question():
                return time.monotonic() - began
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise SystemExit("the containers did not come up in 300 s; see `make ps`")


def strangers(bodies: Sequence[bytes]) -> list[bytes]:
    """The same requests about entities that no data set knows."""
    found = []
    for body in bodies:
        event = json.loads(body)
        found.append(json.dumps({k: v + _STRANGERS if k.endswith("_id") else v for k, v in event.items()}).encode())
    return found


def compared(
    targets: dict[str, tuple[str, str]], bodies: Sequence[bytes], seconds: float, report: Progress
) -> list[dict[str, Any]]:
    """Each rate at each target in turn, some rounds of it; `targets`: name -> URL and key. Medians over the rounds."""
    rest, rows = {name: iter(bodies) for name in targets}, []
    for rate in _RATES:
        rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in targets}
        for turn in range(_ROUNDS):
            for name, (url, key) in targets.items():
                report("latency", turn, _ROUNDS, f"{name} at {rate}/s")
                batch = [next(rest[name]) for _ in range(round(rate * seconds))]
                rounds[name].append(asyncio.run(_ask(url, key, batch, rate)))
        row: dict[str, Any] = {"rate": rate}
        for name, found in rounds.items():
            row[f"{name}_p50_ms"], row[f"{name}_p99_ms"] = (round(float(x), 2) for x in np.median(found, axis=0))
        rows.append(row | {f"ratio_{p}": round(row[f"containers_{p}_ms"] / row[f"embedded_{p}_ms"], 2)
                           for p in ("p50", "p99")})  # fmt: skip
    report("latency", _ROUNDS, _ROUNDS)
    return rows


async def _ask(url: str, key: str, bodies: Sequence[bytes], rate: float) -> tuple[float, float]:
    where = urlsplit(url)
    client = OpenLoop(where.hostname or "", where.port or 80, f"/v1/{DEFAULT}/predict", key)
    sent = await client.send(bodies, rate)
    client.close()
    if failed := [each.status for each in sent if each.status != 200]:
        raise SystemExit(f"{len(failed)} of {len(sent)} requests to {url} failed: {sorted(set(failed))}")
    p50, p99 = np.percentile([each.seconds * 1_000 for each in sent], [50, 99])
    return float(p50), float(p99)


def run(seconds: float, report: Progress) -> dict[str, Any]:
    """All of it. The containers must be up; they are stopped and started once."""
    try:
        url = f"http://{docker('compose', 'port', 'gateway', '8000').strip()}"
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit("the containers are not up; start them with `make up`") from error
    key = docker("compose", "exec", "-T", "worker", "orrery", "keys", "show").strip()
    with tempfile.TemporaryDirectory() as folder:
        settings: Settings = embedded(Path(folder))
        bodies = strangers(prepare(settings, DEFAULT, seconds * _ROUNDS, report))
        report("start", 0, 1)
        began = starts(url, key, bodies.pop())
        report("start", 1, 1, f"{began['first_answer_s']} s")
        time.sleep(30)  # what starts with the gateway has settled
        used = memory()
        with served(settings) as own:
            rows = compared(
                {"embedded": (settings.gateway_url, own), "containers": (url, key)}, bodies, seconds, report
            )
    sized = sizes()
    measured = {f"{role}_mb": sized[role] for role in ("gateway", "worker")} | began
    measured["memory_mb"] = round(sum(used.values()))
    passed = all(measured[name] <= most for name, most in TARGETS.items())
    return {"images_mb": sized, "memory_mb": used, "latency": rows, "measured": measured, "targets": TARGETS,
            "passed": passed}  # fmt: skip


def main() -> None:
    """Print tables, or JSON; exit 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="the measurements as JSON")
    parser.add_argument("--seconds", type=float, default=10, help="how long each rate lasts, each round")
    asked = parser.parse_args()
    with progress() as report:
        found = run(asked.seconds, report)
    if asked.json:
        emit(found, as_json=True)
    else:
        for name in ("images_mb", "memory_mb", "measured", "latency"):
            emit(found[name], as_json=False, title=name)
    sys.exit(0 if found["passed"] else 1)


if __name__ == "__main__":
    main()
