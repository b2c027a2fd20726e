"""The card says what the numbers say."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from orrery.bundle import Feature, Golden, Manifest
from orrery.lifecycle import Check, Metric, Report
from orrery.model_card import model_card

DAY = datetime(2024, 3, 1, tzinfo=UTC)
CASE = SimpleNamespace(target="late", label_delay=timedelta(days=7), moment="at", unit="customer")
MANIFEST = Manifest(
    use_case="toy", created_at=DAY, trained_from=DAY - timedelta(days=40), trained_to=DAY - timedelta(days=20),
    as_of=DAY, rows=12_345, data_version="v1", git_commit="abc", lock_hash="def", features=[Feature(name="x")],
    learned={"calibration": {"slope": 1.25}, "scale": [1, 2, 3]}, reference={}, golden=Golden(inputs=[], outputs={}),
    files={"m.onnx": "00ff"},
)  # fmt: skip
REPORT = Report(99, DAY - timedelta(days=12), DAY - timedelta(days=7), {"ap": Metric(0.7, 0.6, 0.8)}, latency_ms=0.5)


def test_a_first_card():
    card = model_card(CASE, MANIFEST, REPORT)
    for said in (
        "# toy: model card", "12,345 rows, 2024-01-21 to 2024-02-10", "known 7 days after at",
        "| ap | 0.7000 [0.6000, 0.8000] |", "calibration.slope: 1.25", "scale: 3 values", "git commit: `abc`",
        "m.onnx: sha256 `00ff`", "begin 8 days after", "- x: float32",
    ):  # fmt: skip
        assert said in card
    assert "champion" not in card
    assert "## Gate" not in card


def test_a_card_beside_a_champion_shows_the_verdict():
    report = Report(
        99, DAY, DAY, REPORT.candidate, {"ap": Metric(0.71, 0.6, 0.8)}, "4", {"ap": Metric(-0.01, -0.02, 0.01)}, 0.5
    )
    card = model_card(CASE, MANIFEST, report, [Check("latency", False, "too slow")])
    assert "champion (version 4)" in card
    assert "| -0.0100 [-0.0200, 0.0100] |" in card
    assert "| latency | **no** | too slow |" in card
