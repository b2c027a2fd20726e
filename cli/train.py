"""`orrery train`: one release by Prefect, followed to its verdict."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from cli.flow_runs import Outcome

PROMOTED, FAILED, REFUSED = 0, 1, 3
_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]


def train(
    use_case: Annotated[str, typer.Argument(help="Which use case.")],
    as_of: Annotated[
        datetime | None,
        typer.Option(help="Train on what was known then (UTC); by default at the data's last event.", formats=_FORMATS),
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Days of training rows.")] = None,
    trials: Annotated[int, typer.Option(min=0, help="Trials of the search; 0: as set.")] = 0,
    seconds: Annotated[float, typer.Option(min=0, help="Seconds of the search; 0: as set.")] = 0,
    source: Annotated[str, typer.Option(help="Data source; by default the use case's first.")] = "",
    path: Annotated[Path | None, typer.Option(help="File of the source `file`.")] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="OURS=THEIRS, where a file's column has another name.")
    ] = None,
    sample: Annotated[bool, typer.Option(help="Use a small set of the same shape.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    follow: Annotated[bool, typer.Option(help="Wait for the verdict.")] = True,
) -> None:
    """Train, judge, and release what passes the gate.

    Exit status 0: promoted; 3: refused by the gate, with reasons; 1: failed.

    Example: orrery train fraud --as-of 2018-09-12 --days 77
    """
    if path and not source:
        raise typer.BadParameter("name the source that reads it, such as --source file", param_hint="--path")
    parameters = {
        "use_case": use_case,
        "as_of": as_of.replace(tzinfo=as_of.tzinfo or UTC).isoformat() if as_of else None,
        "days": days,
        "trials": trials,
        "seconds": seconds,
        "source": source,
        "path": str(path.absolute()) if path else "",
        "columns": dict(_pair(each) for each in column or []),
        "sample": sample,
    }
    _release(f"release/{use_case}", parameters, follow, as_json)


def _release(deployment: str, parameters: dict[str, Any], follow: bool, as_json: bool) -> None:
    from cli.console import emit, progress, say
    from cli.flow_runs import FlowRuns
    from orrery.settings import settings

    with FlowRuns(settings()) as runs:
        run_id = runs.trigger(deployment, parameters)
        say(f"run {runs.url(run_id)}")
        if not follow:
            emit({"run_id": run_id, "url": runs.url(run_id)}, as_json)
            return
        with progress() as bars:
            outcome = runs.follow(run_id, bars, say)
    show(outcome, as_json)
    raise typer.Exit(code_of(outcome))


def code_of(outcome: "Outcome") -> int:
    """The exit status that tells the three ends apart."""
    if not outcome.completed:
        return FAILED
    return REFUSED if outcome.name == "Refused" else PROMOTED


def show(outcome: "Outcome", as_json: bool) -> None:
    """The verdict: checks, metrics and where to look; or why there is none."""
    from cli.console import emit, problem

    checks, metrics, facts = (list(outcome.tables.get(name, [])) for name in ("checks", "metrics", "facts"))
    verdict = outcome.name.lower() if outcome.completed else "failed"
    summary = {**(facts[0] if facts else {}), "verdict": verdict, "flow_run": outcome.url}
    if as_json:
        emit({**summary, "message": outcome.message, "checks": checks, "metrics": metrics}, as_json=True)
        return
    if checks:
        emit(checks, as_json=False, title="The gate")
        emit([_interval(row) for row in metrics], as_json=False, title="On the test rows, 95 % intervals")
    emit(summary, as_json=False)
    if not outcome.completed:
        problem(f"the run ended as {outcome.name}: {outcome.message}; see {outcome.url}")


def _interval(row: Any) -> dict[str, str]:
    """A metric's numbers as value and interval."""

    def text(name: str) -> str:
        value, low, high = (row.get(f"{name}{part}") for part in ("", "_low", "_high"))
        return "-" if value is None else f"{value:.4f} [{low:.4f}, {high:.4f}]"

    return {"metric": row["metric"], **{name: text(name) for name in ("candidate", "champion", "difference")}}


def _pair(text: str) -> tuple[str, str]:
    ours, separator, theirs = text.partition("=")
    if not (ours and separator and theirs):
        raise typer.BadParameter(f"{text!r} is not OURS=THEIRS", param_hint="--column")
    return ours, theirs
