"""`orrery data`: prepare raw data, see its versions, go back to one."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orrery.errors import OrreryError

if TYPE_CHECKING:
    from orrery.adapters.data_versions import DataVersion, DataVersions

UseCase = Annotated[str, typer.Argument(help="Which use case.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

app = typer.Typer(help="Prepare raw data, and its versions.", no_args_is_help=True)


class ColumnRefused(OrreryError):
    """A --column is not OURS=THEIRS."""


@app.command()
def prepare(
    use_case: UseCase,
    source: Annotated[str, typer.Option(help="Which of the use case's sources; by default its first.")] = "",
    path: Annotated[Path | None, typer.Option(help="A CSV or Parquet file of your own, for --source file.")] = None,
    column: Annotated[
        list[str] | None, typer.Option(metavar="OURS=THEIRS", help="What your file calls one of our columns; repeat.")
    ] = None,
    sample: Annotated[bool, typer.Option("--sample", help="A small set of the same shape.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Make it again even if it is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read raw data, validate them, keep them as a version, and make it the one that training reads.

    Example: orrery data prepare fraud --source file --path mine.csv --column TX_AMOUNT=amount
    """
    import usecases
    from cli.console import emit, progress
    from orrery import preparation
    from orrery.settings import settings
    from orrery.usecase import SourceRequest

    training = usecases.training(use_case)
    named = source or next(iter(training.sources))
    request = SourceRequest(named, path and path.absolute(), _columns(column or []), sample)
    with progress() as bars:
        made = preparation.prepare(use_case, training, request, settings(), bars, fresh=fresh)
    emit({"version": made.data_version, **made.counts}, as_json)


@app.command()
def versions(use_case: UseCase, as_json: AsJson = False) -> None:
    """List the versions, the newest first.

    Example: orrery data versions fraud
    """
    import usecases
    from cli.console import emit

    usecases.serving(use_case)
    kept = _versions()
    current = kept.current(use_case)
    rows = [_shown(one, as_json) | {"current": one == current} for one in reversed(kept.versions(use_case))]
    if as_json or rows:
        emit(rows, as_json)
    else:
        emit({"no versions yet": f"make one with `orrery data prepare {use_case}`"}, as_json)


@app.command()
def checkout(
    use_case: UseCase,
    version: Annotated[str, typer.Argument(help="A version, or the start of its name.")],
    as_json: AsJson = False,
) -> None:
    """Make an earlier version the one that training reads.

    Example: orrery data checkout fraud eb5141f4
    """
    import usecases
    from cli.console import emit, progress

    usecases.serving(use_case)
    with progress() as bars:
        bars("checkout", 0, 1)
        found = _versions().checkout(use_case, version)
        bars("checkout", 1, 1)
    emit(_shown(found, as_json), as_json)


def _columns(pairs: list[str]) -> Mapping[str, str]:
    """Raises ColumnRefused."""
    for pair in pairs:
        ours, equals, theirs = pair.partition("=")
        if not (ours and equals and theirs):
            raise ColumnRefused(f"--column {pair}: write OURS=THEIRS, as --column TX_AMOUNT=amount")
    return dict(pair.split("=", 1) for pair in pairs)


def _versions() -> "DataVersions":
    from orrery.preparation import data_versions
    from orrery.settings import settings

    return data_versions(settings())


def _shown(version: "DataVersion", as_json: bool) -> dict[str, object]:
    return {
        "version": version.version if as_json else version.short,
        **version.counts,
        "source": version.source.source + " (sample)" * version.source.sample,
        "path": version.source.path,
        "created_at": version.created_at.isoformat(timespec="seconds"),
    }
