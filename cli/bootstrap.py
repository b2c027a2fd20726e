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
    emit([_ready(configured, name) for name in usecases.names()], as_json)


def _declare(configured: Settings) -> None:
    from orrery.adapters.feature_store import FeatureStore

    store = FeatureStore(configured)
    for name in usecases.names():
        store.apply(usecases.feature_views(name))


def _ready(configured: Settings, use_case: str) -> dict[str, str]:
    """Champion and online store of one use case. Raises DemoFailed when the gate refuses the first model."""
    story = Story(configured, use_case, predictions=0)
    champion = alias(configured, use_case, "champion")
    if champion is None:
        with announced(f"{use_case}: the first release", configured, "bootstrap"):
            story.release()
        champion = alias(configured, use_case, "champion")
    with announced(f"{use_case}: online store", configured, "bootstrap"):
        story.materialize()
    return {"use case": use_case, "champion": str(champion and champion["version"])}
