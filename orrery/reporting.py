"""Reports on what was served, window by window: which one is due, how it is made, and how many are kept."""

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import Engine

from orrery.adapters.locks import exclusive
from orrery.adapters.orchestrator import BUSY_WAITS, FlowRun, Orchestrator
from orrery.adapters.report_log import Kept, ReportLog, named
from orrery.adapters.report_workspace import ReportWorkspace
from orrery.adapters.run_files import RunFiles
from orrery.adapters.traffic_log import TrafficLog
from orrery.adapters.watch_log import WatchLog
from orrery.errors import OrreryError
from orrery.settings import Settings
from orrery.usecase import Case, Progress, silent
from orrery.watching import MATURE, Watched

if TYPE_CHECKING:
    from orrery.adapters.evidently_ranking import Lists

FOLDER = "reports"
"""of a run's artifacts: a folder a window"""
_LOOKED_BACK = 400
"""windows"""
_WAIT_SECONDS = 600.0


class NothingServed(OrreryError):
    """No model answered in that window."""


def due(use_case: str, engine: Engine, most: int) -> Watched | None:
    """The newest of the last `most` judged windows that has no report, or has one from before its labels arrived.

    A window with too few rows to be judged has none: its pages would show them.
    """
    known = {each.first: each for each in ReportLog(engine).newest(use_case)}
    judged = [each for _, each in WatchLog(engine).latest(use_case, _LOOKED_BACK) if each.judged]
    return next((each for each in judged[:most] if _wants(each, known.get(each.first))), None)


def _wants(window: Watched, kept: Kept | None) -> bool:
    return kept is None or (_labelled(window) and not kept.labelled)


def _labelled(window: Watched) -> bool:
    return window.quality is not None and window.quality.mature


def ask(use_case: str, engine: Engine, settings: Settings, now: datetime) -> FlowRun | None:
    """Have the report that is due made, by one run at a time; None: nothing is to be asked.

    Which reports there are says what is due, so a run that was killed is asked for again, an hour later at the most.
    """
    window = due(use_case, engine, settings.watch.reports)
    if window is None:
        return None
    deployment = f"report/{use_case}"
    with Orchestrator(settings, BUSY_WAITS) as orchestrator:
        if orchestrator.going_on(deployment):
            return None
        state = "labelled" if _labelled(window) else "judged"
        key = f"report {use_case} {named(window.first)} {state} {now:%Y-%m-%d %H}"
        return orchestrator.start(deployment, {"use_case": use_case}, key)


def make(case: Case, engine: Engine, settings: Settings, now: datetime, progress: Progress = silent) -> Kept | None:
    """Make the report that is due and delete those beyond what is kept; None: none is due.

    Killed at any point and run again, it does what is left. Raises LogUnavailable, and what the catalogue raises.
    """
    with exclusive(settings, f"report-{case.name}", _WAIT_SECONDS):
        window = due(case.name, engine, settings.watch.reports)
        made = _made(case, window, engine, settings, now, progress) if window else None
        prune(case.name, engine, settings)
    return made


def _made(case: Case, window: Watched, engine: Engine, settings: Settings, now: datetime, progress: Progress) -> Kept:
    from orrery.adapters.evidently_reports import Asked, write_reports
    from orrery.reference import Rows

    files, names = RunFiles(settings), case.serving.feature_names
    seen = TrafficLog(engine).between(case.name, window.first, window.last, names, case.training.watching)
    if seen.run_id is None or seen.digest is None or seen.version is None:
        raise NothingServed(f"no model answered {case.name} from {window.first:%Y-%m-%d %H:%M}; was the log emptied?")
    work = settings.home.absolute() / "work" / FOLDER
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        progress("report", 0, 3, "reference")
        bundle = files.download(seen.run_id, seen.digest, Path(folder))
        reference = Rows.kept(bundle.folder)
        pages = Path(folder) / FOLDER
        pages.mkdir()
        progress("report", 1, 3, f"{len(seen.scores):,} rows")
        output, task = case.serving.monitored_output, case.training.watching.task
        rows = Rows(seen.inputs, seen.scores, seen.labels)
        asked = Asked(names, output, task, rows, reference, window.first, _lists(case, window, engine, bundle.folder))
        written = write_reports(asked, pages, round(settings.watch.report_mb * 1_000_000))
        progress("report", 2, 3, "keep")
        address = files.add(seen.run_id, pages, f"{FOLDER}/{named(window.first)}")
        ReportWorkspace(settings, case.name).keep(named(window.first), written.found)
    kept = Kept(
        use_case=case.name,
        first=window.first,
        last=window.last,
        version=seen.version,
        run_id=seen.run_id,
        address=address,
        pages=tuple(page.name for page in written.pages),
        rows=len(seen.scores),
        labelled=_labelled(window) or bool(np.isfinite(seen.labels).mean() >= MATURE),
        made_at=now.astimezone(UTC),
    )
    ReportLog(engine).write(kept)
    progress("report", 3, 3, kept.window)
    return kept


def _lists(case: Case, window: Watched, engine: Engine, bundle: Path) -> "Lists | None":
    """What was shown in the window, where answers are lists, and how popular the items are that its model knows."""
    from orrery.adapters.evidently_ranking import Lists

    watching = case.training.watching
    if watching.impressions is None:
        return None
    answers, feedback = TrafficLog(engine).said(case.name, window.first, window.last, case.serving.feedback)
    popularity = watching.popularity(bundle) if watching.popularity is not None else None
    return Lists(watching.impressions(answers, feedback), popularity)


def prune(use_case: str, engine: Engine, settings: Settings) -> list[Kept]:
    """Delete the pages of all but the newest reports, as many as are kept; returns what went."""
    log, files = ReportLog(engine), RunFiles(settings)
    gone: Sequence[Kept] = log.newest(use_case)[settings.watch.reports :]
    for kept in gone:
        # the pages first: a list without them would forget what is left to delete
        files.remove(kept.run_id, f"{FOLDER}/{kept.window}")
        ReportWorkspace(settings, use_case).forget(kept.window)
        log.forget(kept)
    return list(gone)


def page(kept: Kept, name: str, settings: Settings) -> str:
    """Where a person opens a page."""
    return f"{settings.opened_at('gateway')}/reports/{kept.use_case}/{kept.window}/{name}"
