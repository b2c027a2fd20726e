"""`orrery monitor`: what the watch has found in served traffic, or finds now."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

import usecases
from cli.console import emit, say
from orrery.settings import Settings, settings
from orrery.usecase import Case
from orrery.watching import Watched

if TYPE_CHECKING:
    from sqlalchemy import Engine

DRIFTING = 3


def monitor(
    use_case: Annotated[str, typer.Argument(help="whose traffic")],
    windows: Annotated[int, typer.Option(min=1, max=400, help="how many, the newest last")] = 14,
    now: Annotated[bool, typer.Option("--now", help="look first, instead of waiting for the flow")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON, with every input")] = False,
) -> None:
    """Drift and quality of what was served, window by window of event time.

    The flow `watch` looks every few minutes; this shows what it found. The exit status is 3 while drift is sustained.

    Example: orrery monitor fraud --now
    """
    from orrery.monitoring import row

    configured = settings()
    usecases.serving(use_case)  # an unknown one is told
    engine = _opened(configured)
    found = _found(configured, use_case, engine, windows, now)
    if as_json:
        emit([vars(each) for each in found], as_json)
    elif found:
        emit([row(each) for each in found], as_json, title=f"Watch of {use_case}")
        _say_reports(configured, use_case, engine)
    else:
        say(f"nothing of {use_case} was watched yet; the flow `watch` does it every few minutes, or --now does")
    raise typer.Exit(DRIFTING if found and found[-1].sustained else 0)


def _opened(configured: Settings) -> "Engine":
    from orrery.adapters.database import check_reachable, open_database

    engine = open_database(configured.log_url, configured.log.durable)
    check_reachable(engine)
    return engine


def _say_reports(configured: Settings, use_case: str, engine: "Engine") -> None:
    """Where the newest report can be opened, if there is one."""
    from orrery.adapters.report_log import ReportLog
    from orrery.reporting import page

    newest = ReportLog(engine).newest(use_case)
    for name in newest[0].pages if newest else ():
        say(f"{name.removesuffix('.html')} of {newest[0].first:%Y-%m-%d %H:%M}: {page(newest[0], name, configured)}")


def _found(configured: Settings, use_case: str, engine: "Engine", windows: int, now: bool) -> list[Watched]:
    """The last windows, the oldest first. `now`: looked at before."""
    from orrery.adapters.watch_log import WatchLog

    if now:
        _look(configured, use_case, engine)
    return [each for _, each in WatchLog(engine).latest(use_case, windows)][::-1]


def _look(configured: Settings, use_case: str, engine: "Engine") -> None:
    from orrery.adapters.locks import exclusive
    from orrery.adapters.manifests import manifests
    from orrery.adapters.traffic_log import TrafficLog
    from orrery.adapters.watch_log import WatchLog
    from orrery.monitoring import watch

    with exclusive(configured, f"watch-{use_case}"):
        case = Case(use_case, usecases.training(use_case), usecases.serving(use_case))
        watch(case, TrafficLog(engine), WatchLog(engine), manifests(configured), datetime.now(UTC))
