"""What a person sees: results on stdout, progress and problems on stderr, plain where nobody watches."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from orrery.usecase import Progress

PLAIN_WIDTH = 160
"""columns where output goes to a file or a pipe"""


@cache
def _console(stderr: bool) -> "Console":
    from rich.console import Console

    from orrery.settings import in_ci

    stream = sys.stderr if stderr else sys.stdout
    plain = in_ci() or not stream.isatty()
    return Console(
        stderr=stderr,
        highlight=False,
        soft_wrap=plain,
        width=PLAIN_WIDTH if plain else None,
        force_terminal=False if plain else None,
        no_color=plain or None,
    )


def screen() -> "Console":
    """The console for progress: stderr."""
    return _console(True)


def results() -> "Console":
    """The console for results: stdout."""
    return _console(False)


def say(line: str) -> None:
    """One line about what is going on, on stderr."""
    screen().print(line)


def problem(message: object) -> None:
    """One line about what went wrong, on stderr, as `orrery: <message>`."""
    screen().print(f"orrery: {message}", markup=False, style="red", soft_wrap=True)


@contextmanager
def progress() -> "Iterator[Progress]":
    """A `Progress` that draws a bar for each stage; plain lines at each quarter where nobody watches."""
    if not screen().is_terminal:
        yield _Lines()
        return
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn())
    with Bars(*columns, console=screen()) as bars:
        tasks: dict[str, Any] = {}

        def draw(stage: str, done: float, total: float, note: str = "") -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, note="")
            bars.update(tasks[stage], completed=done, total=total, note=note)

        yield draw


class _Lines:
    """Progress without a terminal: one line at a stage's start, each quarter, and its end."""

    def __init__(self) -> None:
        self._quarters: dict[str, int] = {}

    def __call__(self, stage: str, done: float, total: float, note: str = "") -> None:
        quarter = int(4 * done / total) if total else 0
        if quarter > self._quarters.get(stage, -1):
            self._quarters[stage] = quarter
            say(f"{stage}: {100 * done / total if total else 0:.0f} % {note}".rstrip())


def emit(result: Any, as_json: bool, title: str = "") -> None:
    """Print a result: JSON for machines, else a table of a mapping, of a list of mappings, or any rich renderable.

    JSON is made of anything pydantic serialises: dataclasses, models, datetimes, paths.
    """
    if as_json:
        from pydantic_core import to_json

        results().print(to_json(result, indent=1, inf_nan_mode="null").decode(), markup=False, soft_wrap=True)
        return
    results().print(table(result, title))


def table(result: Any, title: str = "") -> "RenderableType":
    """A mapping as two columns, a list of mappings as a row each; what is neither stays as it is."""
    from rich.table import Table

    drawn = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    if isinstance(result, Mapping):
        drawn.show_header = False
        drawn.add_column(style="bold")
        drawn.add_column(overflow="fold")
        for name, value in result.items():
            drawn.add_row(str(name), _text(value))
    elif isinstance(result, Sequence) and not isinstance(result, str):
        names = list(dict.fromkeys(name for row in result for name in row))
        for name in names:
            drawn.add_column(str(name), overflow="fold")
        for row in result:
            drawn.add_row(*(_text(row.get(name)) for name in names))
    else:
        return str(result) if not hasattr(result, "__rich_console__") else result
    return drawn


def _text(value: object) -> str:
    from rich.markup import escape

    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items())
    return escape(str(value))
