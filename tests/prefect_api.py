"""A real Prefect's REST API as tests ask it: by its own client, which asks again while Prefect's SQLite is locked."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect.client.base import PrefectHttpxSyncClient


def prefect_client(url: str) -> "PrefectHttpxSyncClient":
    """An httpx client of the API at `url`; it raises on every error that stays."""
    from prefect.client.base import PrefectHttpxSyncClient

    return PrefectHttpxSyncClient(base_url=url)


def deploy(prefect: "PrefectHttpxSyncClient", flow: str, name: str = "toy", **others: Any) -> str:
    """The id of the deployment `flow/name`, as far as Prefect must know it."""
    flow_id = prefect.post("/flows/", json={"name": flow}).json()["id"]
    return prefect.post("/deployments/", json={"name": name, "flow_id": flow_id, **others}).json()["id"]


def runs_of(prefect: "PrefectHttpxSyncClient", flow: str) -> list[dict]:
    """The runs of `flow` there are."""
    return prefect.post("/flow_runs/filter", json={"flows": {"name": {"any_": [flow]}}}).json()
