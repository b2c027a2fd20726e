"""The gateway and MLflow as the command asks them: plain HTTP, errors in words."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cli.keys import client_key
from orrery.errors import OrreryError, TransientError
from orrery.settings import Settings

if TYPE_CHECKING:
    import httpx


class GatewayDown(TransientError):
    """Nothing answers where the gateway should be."""


class GatewayRefused(OrreryError):
    """The gateway answered, and said no."""


class CatalogueDown(TransientError):
    """MLflow does not answer."""


def check_gateway(configured: Settings) -> None:
    """Raises GatewayDown when nothing answers."""
    import httpx

    try:
        httpx.get(f"{configured.gateway_url}/healthz", timeout=5.0, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise GatewayDown(f"the gateway does not answer at {configured.gateway_url}; `orrery up` starts it") from error


def ask_gateway(configured: Settings, path: str) -> dict[str, Any]:
    """GET one JSON document. Raises GatewayDown, or GatewayRefused with the gateway's own words."""
    import httpx

    headers = {"authorization": f"Bearer {client_key(configured)}"}
    try:
        answer = httpx.get(f"{configured.gateway_url}{path}", headers=headers, timeout=10.0, trust_env=False)
    except httpx.HTTPError as error:
        raise GatewayDown(f"the gateway does not answer at {configured.gateway_url}; `orrery up` starts it") from error
    if answer.is_error:
        raise GatewayRefused(f"the gateway refused {path}: {_words(answer)}")
    return dict(answer.json())


def _words(answer: "httpx.Response") -> str:
    try:
        problem = answer.json()
        return str(problem.get("detail") or problem.get("title"))
    except ValueError:
        return f"{answer.status_code} {answer.reason_phrase}"


def ask_catalogue(configured: Settings, path: str, question: Mapping[str, str]) -> dict[str, Any] | None:
    """GET /api/2.0/mlflow/<path>; None when MLflow has no such thing. Raises CatalogueDown."""
    import httpx

    url = f"{configured.mlflow_url}/api/2.0/mlflow/{path}"
    try:
        answer = httpx.get(url, params=dict(question), timeout=configured.mlflow.timeout_seconds, trust_env=False)
        return None if _missing(answer) else dict(answer.raise_for_status().json())
    except (httpx.HTTPError, ValueError) as error:
        raise CatalogueDown(f"MLflow does not answer at {configured.mlflow_url}; `orrery status` shows why") from error


def _missing(answer: "httpx.Response") -> bool:
    """MLflow has different codes for a model and for an alias that is not there."""
    return answer.is_client_error and any(said in answer.text for said in ("DOES_NOT_EXIST", "alias"))


def alias(configured: Settings, use_case: str, name: str) -> dict[str, Any] | None:
    """The registered version behind an alias: version, run_id, tags by name. Raises CatalogueDown."""
    found = ask_catalogue(configured, "registered-models/alias", {"name": use_case, "alias": name})
    if found is None:
        return None
    version = found["model_version"]
    return {**version, "tags": {tag["key"]: tag["value"] for tag in version.get("tags", [])}}
