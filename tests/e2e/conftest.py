"""The platform that `make demo` left running."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from clients import Platform

from cli.supervisor import Supervisor
from orrery.settings import load


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    settings = load()
    key = settings.secrets_folder / "client.key"
    if not key.is_file():
        pytest.skip("no platform has been started here: make demo")
    headers = {"Authorization": f"Bearer {key.read_text().strip()}"}
    with httpx.Client(base_url=settings.gateway_url, headers=headers, timeout=10) as client:
        try:
            client.get("/healthz").raise_for_status()
        except httpx.HTTPError:
            pytest.skip("the platform is not running: make demo")
        yield Platform(settings, client, Supervisor(settings.home), headers)


@pytest.fixture
def verdict() -> Any:
    """What a `--json` command printed."""
    return lambda done: json.loads(done.stdout)
