"""What `orrery loop` must have told when the loop closed."""

from pathlib import Path
from typing import Any

TIMELINE = Path(__file__).parents[2] / "build" / "loop" / "timeline.json"
CHANGED = ("fraud", "--change", "amount=1.6", "--quiet-days", "3", "--days-after", "1")
"""the loop with fewer days than by default; it shows the same"""


def moments(told: dict[str, Any], what: str) -> list[dict[str, Any]]:
    return [each for each in told["timeline"] if each["what"] == what]


def assert_closed(told: dict[str, Any]) -> None:
    """Quiet, changed, alerted, retrained, promoted, and better on live labels, within fifteen minutes."""
    in_order = [each["what"] for each in told["timeline"] if not each["what"].startswith("retrain declined")]
    assert in_order[:5] == [
        "first champion", "stationary traffic, no alarm", "the world changes", "retrain started", "promote"
    ]  # fmt: skip
    assert told["seconds"] <= 900
    started, first, promoted = (moments(told, what)[0] for what in ("retrain started", "first champion", "promote"))
    assert started["alert"] in {"DriftSustained", "QualityParted"}
    assert promoted["version"] != first["version"]
    assert told["live"]["changed, new champion"]["ap"] > told["live"]["changed, old champion"]["ap"]
