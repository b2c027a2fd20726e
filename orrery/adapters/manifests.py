"""What registered bundles say of themselves, fetched once and kept by digest."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from orrery.adapters.registry import Registry
from orrery.bundle import MANIFEST, Manifest, digest_file
from orrery.settings import Settings


def manifests(settings: Settings) -> Callable[[str, str], Manifest]:
    """A function: run, digest -> manifest. It raises BundleRefused, and what the catalogue raises when it is away."""
    kept = settings.home.absolute() / "work" / "manifests"

    def manifest(run_id: str, digest: str) -> Manifest:
        path = kept / f"{digest}.json"
        if not path.is_file() or digest_file(path) != digest:
            kept.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=kept) as folder:
                bundle = Registry(settings).download(run_id, digest, Path(folder))
                (bundle.folder / MANIFEST).replace(path)
        return Manifest.model_validate_json(path.read_bytes())

    return manifest
