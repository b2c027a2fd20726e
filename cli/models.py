"""`orrery models`, `promote`, `rollback`: which versions there are, and which one serves."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from orrery.releasing import Deployment

UseCase = Annotated[str, typer.Argument(help="Which use case.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def models(
    use_case: Annotated[str | None, typer.Argument(help="Which use case; all by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the registered versions, newest first.

    Example: orrery models fraud
    """
    import usecases
    from cli.console import emit, progress
    from orrery.adapters.registry import Registry
    from orrery.settings import settings

    chosen = [_known(use_case)] if use_case else usecases.names()
    registry = Registry(settings())
    with progress() as bars:
        bars("ask MLflow", 0, len(chosen))
        found = [version for name in chosen for version in registry.versions(name)]
        bars("ask MLflow", len(chosen), len(chosen))
    short = slice(None) if as_json else slice(12)
    rows = [
        {
            "use_case": version.use_case,
            "version": version.version,
            "aliases": list(version.aliases) if as_json else ", ".join(version.aliases),
            "gate": version.tags.get("gate"),
            "created_at": version.created_at.isoformat(timespec="seconds"),
            "data_version": version.tags.get("data_version", "")[short],
            "git_commit": version.tags.get("git_commit", "")[short],
            "digest": version.digest[short],
            "run_id": version.run_id[short],
        }
        for version in found
    ]
    emit(rows if rows or as_json else {"no versions yet": "train one with `orrery train USE_CASE`"}, as_json)


def promote(
    use_case: UseCase,
    version: Annotated[str, typer.Argument(help="A version that passed the gate.")],
    as_json: AsJson = False,
) -> None:
    """Make a version that passed the gate the champion, and see the gateway follow.

    Example: orrery promote fraud 3
    """
    import usecases
    from orrery import releasing
    from orrery.settings import settings

    _show(releasing.promote(use_case, version, settings(), usecases.serving(use_case)), as_json)


def rollback(use_case: UseCase, as_json: AsJson = False) -> None:
    """Make the previous champion the champion again.

    Example: orrery rollback fraud
    """
    import usecases
    from orrery import releasing
    from orrery.settings import settings

    _show(releasing.rollback(use_case, settings(), usecases.serving(use_case)), as_json)


def _known(use_case: str) -> str:
    """The name, if there is such a use case. Raises UnknownUseCase."""
    import usecases

    usecases.serving(use_case)
    return use_case


def _show(deployed: "Deployment", as_json: bool) -> None:
    from dataclasses import asdict

    from cli.console import emit

    shown = asdict(deployed.promotion)
    shown |= {"gateway": deployed.served, "seconds": round(deployed.seconds, 2), **shown.pop("facts")}
    emit(shown, as_json)
