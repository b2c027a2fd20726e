"""`orrery demo`: the README's story, told by the real parts."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import usecases
from cli.console import emit, results
from cli.story import Story, Told, announced
from orrery.settings import Settings, settings

if TYPE_CHECKING:
    from cli.services import Service

SUMMARY = Path("build/demo/summary.json")
PREDICTIONS = 3_000


def demo(
    use_case: Annotated[list[str] | None, typer.Argument(help="which ones; by default all")] = None,
    predictions: Annotated[int, typer.Option(min=1, help="how many to replay for each use case")] = PREDICTIONS,
    as_json: Annotated[bool, typer.Option("--json", help="the summary as JSON")] = False,
) -> None:
    """The whole loop of each use case: up, data, train, gate, promote, replay, lineage, parity.

    Leaves the platform up and writes build/demo/summary.json. A second run does only what is not done yet.

    Example: orrery demo recommendation
    """
    began, configured = time.monotonic(), settings()
    stories = [Story(configured, name, predictions) for name in use_case or usecases.names()]
    services = started(configured)
    told = {story.use_case: story.tell() for story in stories}
    summary = {
        "seconds": round(time.monotonic() - began, 1),
        "use_cases": {name: vars(each) for name, each in told.items()},
    }
    SUMMARY.parent.mkdir(parents=True, exist_ok=True)
    SUMMARY.write_text(json.dumps(summary, indent=1) + "\n")
    emit(summary if as_json else [_row(name, each) for name, each in told.items()], as_json, title="\nThe loop, once")
    if not as_json:
        results().print(f"\n{summary['seconds']} s; {SUMMARY}; the platform is up: `orrery status`, `orrery down`")
        emit({service.about: service.url for service in services if service.url}, as_json)


def started(configured: Settings) -> "tuple[Service, ...]":
    """The platform, up; in containers it is."""
    from cli.platform import start
    from cli.services import services

    if not configured.embedded:  # in containers: they are up, or this would not run
        return services(configured)
    with announced("up", configured, "supervisor"):
        return start(configured)


def _row(use_case: str, told: Told) -> dict[str, Any]:
    served = {name: told.served[name] for name in ("predictions", "errors", "p50_ms", "p99_ms")}
    parity = {f"parity {name}": value for name, value in told.parity.items()}
    tested = {name: round(told.test[name], 4) for name in usecases.training(use_case).gate.compare}
    about = {"use case": use_case, "data": told.data_version[:8], "model": told.model_version, "gate": told.gate}
    return about | served | parity | {"on the test rows": tested}
