"""Writes the model card of a candidate: what it learned from, how it did, where its limits lie."""

from collections.abc import Iterable, Mapping, Sequence

from orrery.bundle import Manifest
from orrery.lifecycle import Check, Metric, Report
from orrery.usecase import Training


def model_card(training: Training, manifest: Manifest, report: Report, checks: Sequence[Check] = ()) -> str:
    """Markdown, made from the bundle's manifest, its report and the gate's answers only."""
    sections = {
        "Data": _list(_data(training, manifest, report)),
        "Metrics": _metrics(report),
        "Thresholds and other learned values": _list(_learned(manifest.learned)),
        "Gate": _gate(checks),
        "Limits": _list(_limits(training, manifest, report)),
        "Lineage": _list(_lineage(manifest)),
        "Inputs": _list({feature.name: feature.dtype for feature in manifest.features}),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items() if text)
    return f"# {manifest.use_case}: model card\n\nMade {manifest.created_at:%Y-%m-%d %H:%M} UTC.\n\n{body}\n"


def _data(training: Training, manifest: Manifest, report: Report) -> Mapping[str, str]:
    return {
        "target": f"{training.target}, known {training.label_delay.days} days after {training.moment}",
        "trained on": f"{manifest.rows:,} rows, {_span(manifest.trained_from, manifest.trained_to)}",
        "known as of": f"{manifest.as_of:%Y-%m-%d %H:%M} UTC",
        "tested on": f"{report.rows:,} later rows, {_span(report.first, report.last)}",
    }


def _metrics(report: Report) -> str:
    champion = f"champion (version {report.champion_version})" if report.champion_version else "champion"
    header = ["metric", "candidate", *([champion, "difference, paired"] if report.champion else [])]
    rows = []
    for name, metric in report.candidate.items():
        beside = [_interval(report.champion[name]), _interval(report.differences[name])] if report.champion else []
        rows.append([name, _interval(metric), *beside])
    note = f"In brackets 95 % bootstrap intervals. One row takes {report.latency_ms:.3f} ms (median)."
    return f"{_table(header, rows)}\n\n{note}"


def _learned(learned: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Every number, under its path; long lists by their length."""
    found: dict[str, str] = {}
    for name, value in learned.items():
        if isinstance(value, Mapping):
            found |= _learned(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            found[f"{prefix}{name}"] = f"{len(value)} values"
        else:
            found[f"{prefix}{name}"] = f"{value:.6g}" if isinstance(value, float) else str(value)
    return found


def _gate(checks: Sequence[Check]) -> str:
    return _table(
        ["question", "answer", "detail"],
        [[check.name, "yes" if check.passed else "**no**", check.detail] for check in checks],
    )


def _limits(training: Training, manifest: Manifest, report: Report) -> Mapping[str, str]:
    blind = report.first - manifest.trained_to
    return {
        "age": f"the test rows begin {blind.days} days after the last training row; nothing is measured beyond "
        f"{report.last:%Y-%m-%d}",
        "labels": f"the newest {training.label_delay.days} days have none, so a new pattern is learned that late",
        "intervals": f"they come from drawing {training.unit} again within one test window and do not cover drift",
        "use": f"usecases/{manifest.use_case}/README.md says what the model is for and what it is not for",
    }


def _lineage(manifest: Manifest) -> Mapping[str, str]:
    named = {"data version": manifest.data_version, "git commit": manifest.git_commit, "lock hash": manifest.lock_hash}
    return {name: f"`{value}`" for name, value in named.items()} | {
        name: f"sha256 `{digest}`" for name, digest in manifest.files.items()
    }


def _span(first: object, last: object) -> str:
    return f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"


def _interval(metric: Metric) -> str:
    return f"{metric.value:.4f} [{metric.low:.4f}, {metric.high:.4f}]"


def _list(values: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in values.items())


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if len(lines) > 2 else ""
