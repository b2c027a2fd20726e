"""What measuring costs the gateway: the metrics' share of a request, and the size and time of a scrape."""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.gateway import DEFAULT, embedded, prepare, send, served
from cli.console import emit, progress
from orrery.settings import Settings
from orrery.telemetry import GatewayMetrics
from orrery.usecase import Progress

RATE, SECONDS, WARM_UP = 100, 20, 300
MOST_SHARE = 0.03
"""of a request's processor time: the throughput that measuring may cost"""
_CALLS = 50_000
_SCRAPES = 50


def run(report: Progress) -> dict[str, Any]:
    """Processor seconds of a request, as the gateway's own metrics tell them, and of the metrics in it."""
    with tempfile.TemporaryDirectory() as folder:
        settings = embedded(Path(folder))
        bodies = prepare(settings, DEFAULT, SECONDS, report)
        with served(settings) as key:
            asyncio.run(send(settings, DEFAULT, key, bodies[:WARM_UP], RATE))
            report("requests", 0, 1, f"{RATE} requests/s")
            before = _processor_seconds(settings)
            sent = asyncio.run(send(settings, DEFAULT, key, bodies[WARM_UP : WARM_UP + RATE * SECONDS], RATE))
            request = (_processor_seconds(settings) - before) / len(sent)
            report("requests", 1, 1)
            scrape = _scrape(settings)
    metrics = _metrics_seconds()
    return {
        "request_cpu_us": round(1e6 * request, 1),
        "metrics_us": round(1e6 * metrics, 2),
        "share": round(metrics / request, 4),
        "at_most": MOST_SHARE,
        **scrape,
        "passed": metrics / request <= MOST_SHARE,
    }


def _processor_seconds(settings: Settings) -> float:
    text = httpx.get(f"{settings.gateway_url}/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return float(families["process_cpu_seconds"].samples[0].value)


def _scrape(settings: Settings) -> dict[str, Any]:
    with httpx.Client() as client:
        text = client.get(f"{settings.gateway_url}/metrics").text
        began = time.perf_counter()
        for _ in range(_SCRAPES):
            client.get(f"{settings.gateway_url}/metrics")
        milliseconds = 1e3 * (time.perf_counter() - began) / _SCRAPES
    series = sum(len(family.samples) for family in text_string_to_metric_families(text))
    return {"scrape_kib": round(len(text) / 1_024, 1), "scrape_series": series, "scrape_ms": round(milliseconds, 2)}


def _metrics_seconds() -> float:
    """Of all that one answered request counts, as `orrery.prediction` and the gateway's routes do."""
    every = GatewayMetrics()
    of, statuses = every.of("bench"), {"one_view": "present", "another_view": "present"}
    began = time.perf_counter()
    for _ in range(_CALLS):
        every.inflight.inc()
        every.queue_wait.observe(0.0001)
        for stage in ("auth", "features", "inference", "post", "log"):
            of.stage(stage, 0.001)
        of.found(statuses)
        of.decided("approve")
        of.scored(0.2)
        of.ended("ok", 0.005, "1", "champion")
        every.inflight.dec()
    return (time.perf_counter() - began) / _CALLS


def main() -> None:
    """Print the figures; exit 1 when measuring costs more than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="figures for machines")
    as_json = parser.parse_args().json
    with progress() as report:
        found = run(report)
    emit(found, as_json, "What measuring costs")
    sys.exit(0 if found["passed"] else 1)


if __name__ == "__main__":
    main()
