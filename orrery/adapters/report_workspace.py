"""The folder that Evidently's own user interface reads: a project a use case, a run a report, named by its window.

Evidently opens no workspace in which one run is half written, so runs are made elsewhere and moved into their place.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orrery.settings import Settings

if TYPE_CHECKING:
    from evidently.core.report import Snapshot

FOLDER = "evidently"
_ABOUT, _RUNS = "metadata.json", "snapshots"


class ReportWorkspace:
    """The runs of one use case. Nothing reads them but people, and one writer at a time is expected."""

    def __init__(self, settings: Settings, use_case: str) -> None:
        self._folder, self._use_case = settings.home.absolute() / FOLDER, use_case

    def keep(self, window: str, made: Sequence["Snapshot"]) -> None:
        """Put the runs of a window in place of those that it had; each run's name is the window's and its report's."""
        self.forget(window)
        if not made:
            return
        from evidently.ui.workspace import Workspace

        # on the same disk, with nothing in it that makes it a project
        making = self._folder / f".making-{self._use_case}"
        shutil.rmtree(making, ignore_errors=True)
        workspace = Workspace.create(str(making))
        project = workspace.create_project(self._use_case, "what was served, window by window")
        for snapshot in made:
            workspace.add_run(project.id, snapshot)
        place = next(self._projects(), None)
        if place is None:
            (making / str(project.id)).rename(self._folder / str(project.id))
        else:
            for run in (making / str(project.id) / _RUNS).iterdir():
                run.rename(place / _RUNS / run.name)
        shutil.rmtree(making)

    def forget(self, window: str) -> None:
        """Delete the runs of a window; one without is left as it is."""
        for project in self._projects():
            for run in (project / _RUNS).glob("*.json"):
                if json.loads(run.read_text())["name"].partition(" ")[0] == window:
                    run.unlink()

    def _projects(self) -> Iterator[Path]:
        for about in self._folder.glob(f"[!.]*/{_ABOUT}"):
            if json.loads(about.read_text())["name"] == self._use_case:
                yield about.parent
