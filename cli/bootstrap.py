"""`orrery bootstrap`: what a new platform needs before its first prediction; again, only what is missing."""

from typing import Annotated

import typer

import usecases
from cli.console import emit, say
from cli.gateway import alias
from cli.keys import ensure_client_key
from cli.platform import deploy_flows
from cli.story import Story, announced
from orrery.settings import Settings, settings


def bootstrap(as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False) -> None:
    """The first key, feature views, deployments, and a release of each use case that has no champion.

    ORRERY_TRAINING__FIRST names those that get one, where it is not all.

    Releases are Prefect flow runs, to be seen there. Safe to repeat: what is done is left alone.

    Example: docker compose run --rm bootstrap
    """
    configured = settings()
    if ensure_client_key(configured):
        say("made the first API key: `orrery keys show`")
    with announced("feature views", configured, "bootstrap"):
        _declare(configured)
    with announced("deployments", configured, "deployments"):
        deploy_flows(configured)
    emit([_ready(configured, name) for name in _first(configured)], as_json)


def _first(configured: Settings) -> list[str]:
    """The use cases that are wanted from the start. Raises UnknownUseCase."""
    wanted = [name.strip() for name in configured.training.first.split(",") if name.strip()]
    for name in wanted:
        usecases.serving(name)
    return wanted or usecases.names()


def _declare(configured: Settings) -> None:
    from orrery.adapters.feature_store import FeatureStore

    store = FeatureStore(configured)
    for name in usecases.names():
        store.apply(usecases.feature_views(name))


def _promote_again(configured: Settings, use_case: str) -> None:
    """Nothing changes but what was lost: a model server that does not have the champion gets it."""
    from orrery import releasing

    releasing.promote(use_case, "champion", configured, usecases.serving(use_case))


def _ready(configured: Settings, use_case: str) -> dict[str, str]:
    """Champion and online store of one use case. Raises DemoFailed when the gate refuses the first model."""
    story = Story(configured, use_case, predictions=0)
    champion = alias(configured, use_case, "champion")
    if champion is None:
        with announced(f"{use_case}: the first release", configured, "bootstrap"):
            story.release()
        champion = alias(configured, use_case, "champion")
    else:
        with announced(f"{use_case}: the champion again", configured, "bootstrap"):
            _promote_again(configured, use_case)
    with announced(f"{use_case}: online store", configured, "bootstrap"):
        story.materialize()
    return {"use case": use_case, "champion": str(champion and champion["version"])}
