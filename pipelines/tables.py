"""What a release leaves in Prefect: tables of metrics, checks and facts, read by people and by the command."""

from math import isfinite
from typing import Any

from prefect.artifacts import create_link_artifact, create_table_artifact

from orrery.lifecycle import Candidate, Metric, Report, Verdict
from orrery.settings import Settings

METRICS, CHECKS, FACTS = "metrics", "checks", "facts"


def key(kind: str, use_case: str) -> str:
    """Artifact keys may hold lower-case letters, digits and dashes only."""
    return f"{use_case.replace('_', '-')}-{kind}"


def _numbers(prefix: str, metric: Metric | None) -> dict[str, float | None]:
    """A metric's value and interval as columns; what JSON cannot say is empty."""
    parts = {"": metric.value, "_low": metric.low, "_high": metric.high} if metric else {}
    return {f"{prefix}{part}": round(value, 6) if isfinite(value) else None for part, value in parts.items()}


def publish_judgement(use_case: str, report: Report, verdict: Verdict) -> None:
    """The metrics of candidate and champion, and every question of the gate."""
    metrics = [
        {
            "metric": name,
            **_numbers("candidate", metric),
            **_numbers("champion", report.champion.get(name)),
            **_numbers("difference", report.differences.get(name)),
        }
        for name, metric in report.candidate.items()
    ]
    checks = [{"check": c.name, "passed": "yes" if c.passed else "NO", "detail": c.detail} for c in verdict.checks]
    create_table_artifact(metrics, key=key(METRICS, use_case), description=f"{report.rows:,} rows, 95 % intervals")
    create_table_artifact(checks, key=key(CHECKS, use_case), description="what the gate asked")


def facts(candidate: Candidate, report: Report, configured: Settings) -> dict[str, Any]:
    """Where the candidate comes from, and where to look."""
    manifest = candidate.bundle.manifest
    return {
        "use_case": candidate.use_case,
        "run_id": candidate.run_id,
        "digest": candidate.bundle.digest,
        "data_version": manifest.data_version,
        "git_commit": manifest.git_commit,
        "as_of": candidate.window.as_of.isoformat(),
        "days": candidate.window.days,
        "test_rows": report.rows,
        "test_first": report.first.isoformat(),
        "test_last": report.last.isoformat(),
        "latency_ms": round(report.latency_ms, 3),
        "champion_before": report.champion_version or "",
        "run_url": f"{configured.opened_at('mlflow')}/#/runs/{candidate.run_id}",
    }


def publish_facts(use_case: str, found: dict[str, Any]) -> None:
    """The facts, and a link to the run."""
    create_table_artifact([found], key=key(FACTS, use_case), description="the release")
    create_link_artifact(found["run_url"], link_text=f"MLflow run of {use_case}", key=key("run", use_case))
