"""The gateway at rising rates: latency from the moment a request was due, and where its time goes."""

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel

from benchmarks.load.open_loop import OpenLoop, Sent
from cli.console import emit, progress
from orrery.settings import GatewaySettings, MlflowSettings, Settings, child_environment
from orrery.usecase import Progress

ROOT = Path(__file__).parents[1]
DEFAULT = "fraud"
RATES = (50, 100, 200, 400)
TARGETS = {"fraud": (100, 20.0), "recommendation": (50, 30.0)}
"""use case -> requests a second, and the most milliseconds that 99 of 100 may take"""
_WARM_UP = 300
_STAGES = ("features", "inference", "post", "log")


def prepare(settings: Settings, use_case: str, seconds: float, report: Progress) -> list[bytes]:
    """A feature store with real histories, a last-good bundle, and the requests that follow in event time."""
    import usecases
    from benchmarks.load.fitted_bundle import fitted

    raw, training = fitted(use_case, settings, report), usecases.training(use_case)
    wanted = _WARM_UP + round(sum(RATES) * seconds)
    later = raw[raw[training.moment] >= training.replay_from].head(wanted)
    if len(later) < wanted:  # everybody once, over and over
        later = raw.groupby(training.unit).tail(1)
    said = [event for _, kind, event in training.requests(later) if kind == "predict"]
    again = islice(cycle(said), wanted)
    named = next(name for name, value in said[0] if str(value) == usecases.serving(use_case).identity(said[0]))
    return [_as_event(event, named, number).model_dump_json().encode() for number, event in enumerate(again)]


def _as_event(event: BaseModel, named: str, number: int) -> BaseModel:
    """The same request as an event of its own, since an event that is sent twice has its answer already."""
    return event.model_copy(update={named: type(getattr(event, named))(number)})


@contextmanager
def served(settings: Settings) -> Iterator[str]:
    """The gateway in a process of its own, on a core of its own where there are two; gives a key."""
    from orrery.adapters.api_keys import ALL_SCOPES, open_keys

    key, _ = open_keys(settings).create("bench", ALL_SCOPES)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    with (settings.home / "gateway.log").open("wb") as log:
        command = [sys.executable, "-m", "services.gateway"]
        process = subprocess.Popen(command, cwd=ROOT, env=child_environment(settings, {}), stdout=log, stderr=log)  # noqa: S603
        try:
            if len(cores) > 1:
                os.sched_setaffinity(process.pid, cores[1:])
                os.sched_setaffinity(0, cores[:1])
            _wait(settings, process)
            yield key
        finally:
            process.terminate()
            process.wait(30)
            if len(cores) > 1:
                os.sched_setaffinity(0, cores)


def _wait(settings: Settings, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        time.sleep(0.1)
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{settings.gateway_url}/readyz").is_success:
                return
        except httpx.TransportError:
            continue
    raise SystemExit((settings.home / "gateway.log").read_text()[-2_000:])


def measure(
    settings: Settings, use_case: str, key: str, bodies: Sequence[bytes], seconds: float, report: Progress
) -> dict[str, Any]:
    """Every rate in turn, after a warm-up."""
    rest = iter(bodies)
    rows = []
    for step, rate in enumerate((0, *RATES)):
        report("gateway", step, len(RATES) + 1, f"{rate or 'warm-up'} requests/s")
        wanted = _WARM_UP if rate == 0 else round(rate * seconds)
        batch = [next(rest) for _ in range(wanted)]
        before = _stages(settings)
        started = time.perf_counter()
        sent = asyncio.run(send(settings, use_case, key, batch, rate or 50))
        took = time.perf_counter() - started
        if rate:
            rows.append(_row(rate, sent, took, before, _stages(settings)))
    report("gateway", len(RATES) + 1, len(RATES) + 1)
    result = {"use_case": use_case, "rates": rows, "durable": settings.log.durable}
    if use_case not in TARGETS:
        return result | {"passed": True}
    wanted, most = TARGETS[use_case]
    at_target = next(row for row in rows if row["rate"] == wanted)
    passed = at_target["p99_ms"] <= most and at_target["errors"] == 0
    return result | {"target": {"rate": wanted, "p99_ms": most}, "passed": passed}


async def send(settings: Settings, use_case: str, key: str, bodies: Sequence[bytes], rate: float) -> list[Sent]:
    """Bodies to a gateway at a rate, in an open loop."""
    client = OpenLoop(settings.gateway.host, settings.gateway.port, f"/v1/{use_case}/predict", key)
    sent = await client.send(bodies, rate)
    client.close()
    return sent


def _stages(settings: Settings) -> dict[str, tuple[float, float]]:
    """Stage -> seconds and requests until now; `total` too."""
    found: dict[str, list[float]] = {}
    names = {"gateway_stage_duration_seconds": "stage", "gateway_prediction_duration_seconds": "outcome_class"}
    for family in text_string_to_metric_families(httpx.get(f"{settings.gateway_url}/metrics").text):
        for sample in family.samples if family.name in names else ():
            kind = sample.name.rpartition("_")[2]
            stage = sample.labels.get("stage", "total")
            if kind in ("sum", "count"):
                found.setdefault(stage, [0.0, 0.0])[kind == "count"] += sample.value
    return {stage: (total, count) for stage, (total, count) in found.items()}


def _row(
    rate: float,
    sent: Sequence[Sent],
    took: float,
    before: Mapping[str, tuple[float, float]],
    after: Mapping[str, tuple[float, float]],
) -> dict[str, Any]:
    milliseconds = np.array([each.seconds for each in sent]) * 1_000
    p50, p99, p999 = np.percentile(milliseconds, [50, 99, 99.9])
    nothing = (0.0, 0.0)
    spent = {stage: after[stage][0] - before.get(stage, nothing)[0] for stage in (*_STAGES, "total")}
    row: dict[str, Any] = {
        "rate": rate,
        "achieved": round(len(sent) / took, 1),
        "errors": sum(each.status != 200 or b'"degraded":true' in each.body for each in sent),
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
        "p99.9_ms": round(float(p999), 2),
    }
    for stage in _STAGES:
        row[f"{stage}_ms"] = round(1_000 * spent[stage] / len(sent), 3)
        row[f"{stage}_share"] = round(spent[stage] / spent["total"], 3)
    return row


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def embedded(home: Path) -> Settings:
    """A gateway of its own home and port, with no catalogue."""
    gateway, mlflow = GatewaySettings(port=free_port(), poll_seconds=60), MlflowSettings(url="http://127.0.0.1:9")
    return Settings(home=home, gateway=gateway, mlflow=mlflow)


def run(use_case: str, seconds: float, durable: bool, report: Progress) -> dict[str, Any]:
    """All of it, in a home that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        settings = embedded(Path(folder))
        settings = settings.model_copy(update={"log": settings.log.model_copy(update={"durable": durable})})
        bodies = prepare(settings, use_case, seconds, report)
        with served(settings) as key:
            return measure(settings, use_case, key, bodies, seconds, report)


def main() -> None:
    """Print the table, or JSON; exit 1 when the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="the measurements as JSON")
    parser.add_argument("--use-case", default=DEFAULT, help="whose requests are sent")
    parser.add_argument("--seconds", type=float, default=15, help="how long each rate lasts")
    parser.add_argument("--not-durable", action="store_true", help="do not wait for the disk at each commit")
    asked = parser.parse_args()
    with progress() as report:
        found = run(asked.use_case, asked.seconds, not asked.not_durable, report)
    emit(found if asked.json else found["rates"], asked.json, f"gateway, {asked.use_case}")
    sys.exit(0 if found["passed"] else 1)


if __name__ == "__main__":
    main()
