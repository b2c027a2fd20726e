"""The `orrery` command: which verbs there are; a verb's module is imported when it is used."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cli.console import problem
from orrery.errors import OrreryError


@dataclass(frozen=True)
class Verb:
    """One command: the line `orrery --help` shows, and where its function or `typer.Typer` lies."""

    line: str
    module: str
    attribute: str
    panel: str


PLATFORM, LIFECYCLE, TRAFFIC = "The platform", "The life of a model", "Predictions"
VERBS = {
    "up": Verb("Start the platform on this machine.", "cli.platform", "up", PLATFORM),
    "down": Verb("Stop what `up` started.", "cli.platform", "down", PLATFORM),
    "status": Verb("Services, models, freshness.", "cli.status", "status", PLATFORM),
    "doctor": Verb("Find what is wrong with this machine, and how to mend it.", "cli.doctor", "doctor", PLATFORM),
    "bootstrap": Verb("What a new platform needs first.", "cli.bootstrap", "bootstrap", PLATFORM),
    "demo": Verb("The whole loop: data, train, gate, promote, replay, lineage.", "cli.demo", "demo", PLATFORM),
    "loop": Verb("A changed world, and a better champion without hands.", "cli.loop", "loop", PLATFORM),
    "keys": Verb("API keys of the gateway.", "cli.keys", "app", PLATFORM),
    "audit": Verb("The records of who did what, and whether they are whole.", "cli.audit", "app", PLATFORM),
    "bench": Verb("Measure, and print the tables of the README.", "cli.bench", "bench", PLATFORM),
    "data": Verb("Prepare raw data, and its versions.", "cli.data", "app", LIFECYCLE),
    "train": Verb("Train, judge, and release what passes the gate.", "cli.train", "train", LIFECYCLE),
    "retrain": Verb("Approve the release that an alert suggests.", "cli.retrain", "retrain", LIFECYCLE),
    "evaluate": Verb("Score a version on a window of time.", "cli.evaluate", "evaluate", LIFECYCLE),
    "models": Verb("The registered versions.", "cli.models", "models", LIFECYCLE),
    "promote": Verb("Make a version the champion.", "cli.models", "promote", LIFECYCLE),
    "rollback": Verb("Make the previous version the champion again.", "cli.models", "rollback", LIFECYCLE),
    "replay": Verb("Send past events to the gateway, labels when they arrive.", "cli.replay", "replay", TRAFFIC),
    "parity": Verb("Features as served against features offline.", "cli.parity", "parity", TRAFFIC),
    "monitor": Verb("Drift and quality of what was served.", "cli.monitor", "monitor", TRAFFIC),
    "experiment": Verb("Judge an A/B test, or a policy from another one's log.", "cli.experiment", "app", TRAFFIC),
    "lineage": Verb("Where a prediction came from.", "cli.lineage", "lineage", TRAFFIC),
}


class LazyGroup(TyperGroup):
    """Lists every verb from the table; imports the one that is asked for."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The real command in place of its stub; a misspelt one gets the nearest name."""
        name, _stub_of_it, rest = super().resolve_command(ctx, args)
        return name, name and _command(name, VERBS[name]), rest


def _command(name: str, verb: Verb) -> Any:
    target = getattr(import_module(verb.module), verb.attribute)
    if isinstance(target, typer.Typer):
        command = typer.main.get_command(target)
        command.name = name
        return command
    alone = _typer()
    alone.command(name)(target)
    return typer.main.get_command(alone)


def _typer(**options: Any) -> typer.Typer:
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich", **options)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"orrery {version('orrery')}")
        raise typer.Exit


def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """A working model of an ML platform: train, gate, register, deploy, watch, train again.

    Example: orrery demo
    """


def application() -> typer.Typer:
    """The command with a stub for every verb."""
    app = _typer(cls=LazyGroup, no_args_is_help=True)
    app.callback()(_root)
    for name, verb in VERBS.items():
        app.command(name, help=verb.line, rich_help_panel=verb.panel)(_stub)
    return app


def _stub() -> None:
    """Stands in for a verb in the list."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. Exit status 1: an error, one line on stderr; 2: wrong usage."""
    try:
        application()(arguments)
    except OrreryError as error:
        problem(error)
        sys.exit(1)
