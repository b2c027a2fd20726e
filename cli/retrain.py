"""`orrery retrain`: the release that an alert asks for and a person approves."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from orrery.responding import Suggestion

NOTHING_TO_APPROVE = 3


def retrain(
    use_case: Annotated[str, typer.Argument(help="Which use case.")],
    approve: Annotated[bool, typer.Option("--approve", help="Start what is suggested.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the release that an alert suggests, and start it with --approve; without one, what the policy says now.

    Exit status 0: shown or started; 3: there is nothing to approve; 1: failed.

    Example: orrery retrain fraud --approve
    """
    import usecases
    from cli.console import emit, problem
    from orrery import responding
    from orrery.settings import settings

    usecases.serving(use_case)  # raises UnknownUseCase
    configured = settings()
    with responding.one_at_a_time(use_case, configured):
        found = responding.suggestion(use_case, configured)
        if found is not None:
            shown = _suggested(found)
            if approve:
                shown |= _approved(use_case, found)
            emit(shown if as_json else _flat(shown), as_json)
            return
    if approve:
        problem(f"no alert suggests a release of {use_case}; `orrery train {use_case}` starts one")
        raise typer.Exit(NOTHING_TO_APPROVE)
    decision = responding.would_say(use_case, usecases.training(use_case), configured)
    shown = {"suggestion": None, "policy": configured.retrain.policy, "would": decision.verdict}
    shown["reasons"] = list(decision.reasons)
    emit(shown if as_json else _flat(shown), as_json)


def _suggested(found: "Suggestion") -> dict[str, Any]:
    return {
        "suggestion": found.response.cause,
        "at": found.at.isoformat(timespec="seconds"),
        "alert": dict(found.alert),
        "reasons": list(found.response.reasons),
        "parameters": dict(found.response.parameters),
        "approved_by": found.approved_by,
    }


def _approved(use_case: str, found: "Suggestion") -> dict[str, Any]:
    from cli.flow_runs import FlowRuns
    from orrery import responding
    from orrery.settings import settings

    approved = responding.approve(use_case, found, settings())
    with FlowRuns(settings()) as runs:
        url = runs.url(approved.run.run_id)
    return {"approved_by": approved.by, "flow_run": url, "state": approved.run.name, "new": approved.run.fresh}


def _flat(shown: dict[str, Any]) -> dict[str, Any]:
    """For a person: one line each."""
    words = {name: "; ".join(value) if isinstance(value, list) else value for name, value in shown.items()}
    return {name.replace("_", " "): "none" if value is None else value for name, value in words.items()}
