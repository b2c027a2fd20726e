"""What Prometheus has for each panel of the dashboards, asked as Grafana asks, for all use cases."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
from infra.test_grafana import DASHBOARDS, panels, substituted

SPAN, STEP = 1_800, 15
"""seconds of the range that is looked at, and between two points of it"""


def shown() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each panel that shows something, and the name of its dashboard."""
    return ((path.stem, panel) for path in DASHBOARDS for panel in panels(json.loads(path.read_text())))


def empty(prometheus: str) -> set[str]:
    """`dashboard: panel` for each that has nothing to show. A query that Prometheus refuses is an error."""
    with httpx.Client(base_url=f"{prometheus}/api/v1", timeout=30) as client:
        return {
            f"{board}: {panel['title']}"
            for board, panel in shown()
            if not any(_asked(client, target) for target in panel["targets"])
        }


def _asked(client: httpx.Client, target: dict[str, Any]) -> list[Any]:
    now = time.time()
    span = {} if target.get("instant", False) else {"start": now - SPAN, "end": now, "step": STEP}
    answer = client.get("query_range" if span else "query", params={"query": substituted(target["expr"]), **span})
    found: list[Any] = answer.raise_for_status().json()["data"]["result"]
    return found
