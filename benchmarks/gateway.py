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
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load.open_loop import OpenLoop, Sent
from cli.console import emit, progress
from orrery.settings import GatewaySettings, MlflowSettings, Settings, child_environment
from orrery.usecase import Progress

ROOT = Path(__file__).parents[1]
USE_CASE = "fraud"
RATES = (50, 100, 200, 400)
TARGET = {"rate": 100, "p99_ms": 20.0}
_WARM_UP = 300
_STAGES = ("features", "inference", "post", "log")
_CUSTOMERS, _TERMINALS, _DAYS, _HISTORY_DAYS = 1_000, 2_000, 75, 45


def prepare(settings: Settings, seconds: float, report: Progress) -> list[bytes]:
    """A feature store with real histories, a last-good bundle, and the requests that follow in event time."""
    import usecases
    from benchmarks.load.small_bundle import small_bundle
    from orrery.adapters.feature_store import FeatureStore
    from orrery.adapters.model_source import LastGood, Registered
    from usecases.fraud.simulator import simulate

    report("gateway", 0, 4, "transactions")
    raw = simulate(customers=_CUSTOMERS, terminals=_TERMINALS, days=_DAYS)
    training = usecases.training(USE_CASE)
    moment = raw["TX_DATETIME"].min().to_pydatetime() + timedelta(days=_HISTORY_DAYS)
    report("gateway", 1, 4, "feature store")
    store = FeatureStore(settings)
    store.apply(usecases.feature_views(USE_CASE))
    tables = training.history(raw, moment)
    store.write_offline(tables)
    store.materialize(list(tables), moment)
    report("gateway", 2, 4, "model")
    last_good = LastGood(settings.models_folder / USE_CASE)
    bundle = small_bundle(last_good.empty_folder(), rounds=300)
    last_good.adopt(bundle)
    last_good.keep(Registered(USE_CASE, "1", "bench", bundle.digest, ""))
    report("gateway", 3, 4, "requests")
    later = raw[raw["TX_DATETIME"] >= moment].head(_WARM_UP + round(sum(RATES) * seconds))
    return [event.model_dump_json().encode() for _, kind, event in training.requests(later) if kind == "predict"]


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


def measure(settings: Settings, key: str, bodies: Sequence[bytes], seconds: float, report: Progress) -> dict[str, Any]:
    """Every rate in turn, after a warm-up."""
    rest = iter(bodies)
    rows = []
    for step, rate in enumerate((0, *RATES)):
        report("gateway", step, len(RATES) + 1, f"{rate or 'warm-up'} requests/s")
        wanted = _WARM_UP if rate == 0 else round(rate * seconds)
        batch = [next(rest) for _ in range(wanted)]
        before = _stages(settings)
        started = time.perf_counter()
        sent = asyncio.run(_send(settings, key, batch, rate or 50))
        took = time.perf_counter() - started
        if rate:
            rows.append(_row(rate, sent, took, before, _stages(settings)))
    report("gateway", len(RATES) + 1, len(RATES) + 1)
    at_target = next(row for row in rows if row["rate"] == TARGET["rate"])
    passed = at_target["p99_ms"] <= TARGET["p99_ms"] and at_target["errors"] == 0
    return {"rates": rows, "target": TARGET, "passed": passed, "durable": settings.log.durable}


async def _send(settings: Settings, key: str, bodies: Sequence[bytes], rate: float) -> list[Sent]:
    client = OpenLoop(settings.gateway.host, settings.gateway.port, f"/v1/{USE_CASE}/predict", key)
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


def embedded(home: Path) -> Settings:
    """A gateway of its own home and port, with no catalogue."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    gateway, mlflow = GatewaySettings(port=port, poll_seconds=60), MlflowSettings(url="http://127.0.0.1:9")
    return Settings(home=home, gateway=gateway, mlflow=mlflow)


def run(seconds: float, durable: bool, report: Progress) -> dict[str, Any]:
    """All of it, in a home that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        settings = embedded(Path(folder))
        settings = settings.model_copy(update={"log": settings.log.model_copy(update={"durable": durable})})
        bodies = prepare(settings, seconds, report)
        with served(settings) as key:
            return measure(settings, key, bodies, seconds, report)


def main() -> None:
    """Print the table, or JSON; exit 1 when the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="the measurements as JSON")
    parser.add_argument("--seconds", type=float, default=15, help="how long each rate lasts")
    parser.add_argument("--not-durable", action="store_true", help="do not wait for the disk at each commit")
    asked = parser.parse_args()
    with progress() as report:
        found = run(asked.seconds, not asked.not_durable, report)
    emit(found if asked.json else found["rates"], asked.json, "gateway")
    sys.exit(0 if found["passed"] else 1)


if __name__ == "__main__":
    main()
