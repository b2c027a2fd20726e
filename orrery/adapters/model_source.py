"""Where the gateway gets bundles: MLflow over plain REST, verified, and a last-good copy on disk."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from orrery.bundle import MANIFEST, Bundle, BundleRefused
from orrery.errors import TransientError
from orrery.settings import Settings

_CURRENT = "current.json"


class CatalogueUnavailable(TransientError):
    """MLflow did not answer, or not as MLflow does."""


@dataclass(frozen=True)
class Registered:
    """The version behind an alias."""

    use_case: str
    version: str
    run_id: str
    digest: str
    source: str
    """artifact address of its bundle"""
    passed: bool = False
    """whether the gate let it through, as the version's own tag says"""

    @classmethod
    def parse(cls, use_case: str, found: Mapping[str, Any]) -> Self:
        tags = {tag["key"]: tag["value"] for tag in found.get("tags", [])}
        return cls(
            use_case=use_case,
            version=str(found["version"]),
            run_id=found.get("run_id", ""),
            digest=tags.get("digest", ""),
            source=found.get("source", ""),
            passed=tags.get("gate") == "passed",
        )


class ModelCatalogue:
    """MLflow, as far as a gateway needs it. Every call ends within `mlflow.timeout_seconds`."""

    def __init__(self, settings: Settings) -> None:
        self._client = httpx.AsyncClient(
            base_url=settings.mlflow_url, timeout=settings.mlflow.timeout_seconds, trust_env=False
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def version(self, use_case: str, alias: str) -> Registered | None:
        """The version behind an alias, or None. Raises CatalogueUnavailable."""
        path = "/api/2.0/mlflow/registered-models/alias"
        response = await self._get(path, {"name": use_case, "alias": alias})
        if _says_missing(response):
            return None
        try:
            return Registered.parse(use_case, _checked(response).json()["model_version"])
        except (ValueError, KeyError, TypeError) as error:
            raise CatalogueUnavailable(f"MLflow's answer is not a model version: {error!r}") from error

    async def download(self, registered: Registered, folder: Path) -> Bundle:
        """Fetch a bundle into the empty `folder`. Raises CatalogueUnavailable, or BundleRefused when it is another."""
        root = _proxied(registered.source)
        if root is None:
            raise BundleRefused(f"{registered.source} is not behind MLflow's artifact proxy; register it there")
        manifest = await self._get(f"{root}/{MANIFEST}")
        (folder / MANIFEST).write_bytes(_checked(manifest).content)
        for name in _files(manifest.content):
            response = await self._get(f"{root}/{quote(name)}")
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_checked(response).content)
        bundle = Bundle.open(folder)
        if bundle.digest != registered.digest:
            raise BundleRefused(f"version {registered.version} is registered as {registered.digest[:12]}, "
                                f"but its bundle is {bundle.digest[:12]}")  # fmt: skip
        return bundle

    async def page(self, folder: str, name: str) -> bytes | None:
        """A file in a folder of artifacts, or None: it was deleted. Raises CatalogueUnavailable."""
        root = _proxied(folder)
        if root is None:
            raise CatalogueUnavailable(f"{folder} is not behind MLflow's artifact proxy; keep artifacts there")
        response = await self._get(f"{root}/{quote(name)}")
        return None if response.status_code == httpx.codes.NOT_FOUND else _checked(response).content

    async def _get(self, path: str, query: Mapping[str, str] | None = None) -> httpx.Response:
        try:
            return await self._client.get(path, params=query)
        except httpx.HTTPError as error:
            raise CatalogueUnavailable(f"MLflow does not answer: {error!r}") from error


def _proxied(address: str) -> str | None:
    """The path of artifacts behind MLflow's proxy; None: they lie elsewhere."""
    parts = urlsplit(address)
    return f"/api/2.0/mlflow-artifacts/artifacts{parts.path}" if parts.scheme == "mlflow-artifacts" else None


def _checked(response: httpx.Response) -> httpx.Response:
    if response.status_code != httpx.codes.OK:
        raise CatalogueUnavailable(f"MLflow answered {response.status_code} to {response.url.path}")
    return response


def _says_missing(response: httpx.Response) -> bool:
    """MLflow says in the body, and with different codes, that a model or an alias is not there."""
    try:
        code = response.json().get("error_code", "") if response.is_client_error else ""
    except ValueError:
        return False
    return code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "alias" in response.text)


def _files(manifest: bytes) -> list[str]:
    """The names a manifest lists, refused when one would lie outside the bundle."""
    try:
        names = [str(name) for name in json.loads(manifest)["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleRefused(f"the registered {MANIFEST} is not a manifest: {error!r}") from error
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise BundleRefused(f"the registered {MANIFEST} lists {name!r}, which lies outside the bundle")
    return names


class LastGood:
    """The bundles that one use case served last, on disk; a gateway starts from them when MLflow is away."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def empty_folder(self) -> Path:
        """A folder to download into; what an earlier, cut-off download left is removed."""
        incoming = self._folder / "incoming"
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir(parents=True)
        return incoming

    def adopt(self, downloaded: Bundle) -> Path:
        """Give a verified download its place; returns where it lies now."""
        place = self._folder / downloaded.digest
        if place.exists():
            shutil.rmtree(place)
        downloaded.folder.rename(place)
        return place

    def keep(self, registered: Registered) -> None:
        """This one is good: start from it next time. Older ones but the last go."""
        before = self.current()
        note = self._folder / (_CURRENT + ".new")
        note.write_text(json.dumps(vars(registered)))
        note.replace(self._folder / _CURRENT)
        kept = {registered.digest} | ({before[0].digest} if before else set())
        for folder in self._folder.iterdir():
            if folder.is_dir() and folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def current(self) -> tuple[Registered, Path] | None:
        """What was served last and where it lies, or None. A note that cannot be read counts as none."""
        try:
            registered = Registered(**json.loads((self._folder / _CURRENT).read_text()))
        except (OSError, ValueError, TypeError):
            return None
        folder = self._folder / registered.digest
        return (registered, folder) if folder.is_dir() else None
