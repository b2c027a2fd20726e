"""The folder that Evidently's own user interface reads: a project a use case, a run a report, named by its window."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orrery.settings import Settings

if TYPE_CHECKING:
    from evidently.core.report import Snapshot
    from evidently.ui.workspace import Workspace

FOLDER = "evidently"


class ReportWorkspace:
    """What reports found, beside each other. It is made of what can be made again: nothing reads it but people."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.home.absolute() / FOLDER

    def keep(self, use_case: str, window: str, made: Sequence["Snapshot"]) -> None:
        """Put the runs of a window in place of those that it had; each run's name is the window's and its report's."""
        self.forget(use_case, window)
        if not made:
            return
        workspace = self._open()
        found = workspace.search_project(use_case)
        project = found[0] if found else workspace.create_project(use_case, "what was served, window by window")
        for snapshot in made:
            workspace.add_run(project.id, snapshot)

    def forget(self, use_case: str, window: str) -> None:
        """Delete the runs of a window; one without is left as it is."""
        if not self._folder.is_dir():
            return
        workspace = self._open()
        for project in workspace.search_project(use_case):
            for run in workspace.list_runs(project.id):
                if _window(workspace.get_run(project.id, run)) == window:
                    workspace.delete_run(project.id, run)

    def _open(self) -> "Workspace":
        from evidently.ui.workspace import Workspace

        return Workspace.create(str(self._folder))


def _window(run: Any) -> str:
    return str(run.name).partition(" ")[0]
