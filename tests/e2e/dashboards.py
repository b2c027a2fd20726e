"""What Prometheus has for each panel of the dashboards, asked as Grafana asks, for all use cases."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

BOARDS = sorted((Path(__file__).parents[2] / "infra" / "grafana" / "dashboards").glob("*.json"))
SPAN, STEP = 1_800, 15
"""seconds of the range that is looked at, and between two points of it"""
_VARIABLES = {"$__rate_interval": "1m", "$__range": f"{SPAN}s", "$use_case": ".*"}


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each panel that shows something, and the name of its dashboard."""
    for path in BOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            if panel["type"] != "row":
                yield path.stem, panel


def empty(prometheus: str) -> set[str]:
    """`dashboard: panel` for each that has nothing to show. A query that Prometheus refuses is an error."""
    with httpx.Client(base_url=f"{prometheus}/api/v1", timeout=30) as client:
        return {
            f"{board}: {panel['title']}"
            for board, panel in panels()
            if not any(_asked(client, target) for target in panel["targets"])
        }


def _asked(client: httpx.Client, target: dict[str, Any]) -> list[Any]:
    query = target["expr"]
    for name, value in _VARIABLES.items():
        query = query.replace(name, value)
    assert not re.search(r"\$\w", query), f"no value for the variable in {query}"
    now = time.time()
    span = {"start": now - SPAN, "end": now, "step": STEP}
    instant = target.get("instant", False)
    answer = client.get("query" if instant else "query_range", params={"query": query} | ({} if instant else span))
    found: list[Any] = answer.raise_for_status().json()["data"]["result"]
    return found
