"""A bundle as TorchServe takes it: a .mar file, which is a zip with a manifest of its own and, here, no code at all."""

import json
import shutil
import zipfile
from pathlib import Path

from orrery.bundle import Bundle
from orrery.settings import Settings

FOLDER = "bundle"
"""where in an archive the bundle lies: nothing beside it is the bundle's"""
_HANDLER = "services.torchserve.handler:handle"
"""installed where TorchServe runs"""
_MOMENT = (1980, 1, 1, 0, 0, 0)
_ANSWER_SECONDS, _START_SECONDS = 30, 120


def served_as(version: str, digest: str) -> str:
    """TorchServe's name for a version: with the digest, so that no other bundle ever answers in its name."""
    return f"{version}-{digest[:12]}"


def archive_path(settings: Settings, use_case: str, name: str) -> Path:
    """Where the archive of a version lies."""
    return settings.archives_folder / f"{use_case}-{name}.mar"


def write_archive(bundle: Bundle, version: str, settings: Settings) -> Path:
    """Put a bundle's archive into the store, whole or not at all; the same bundle and settings give the same bytes."""
    use_case = bundle.manifest.use_case
    path = archive_path(settings, use_case, served_as(version, bundle.digest))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    with zipfile.ZipFile(unfinished, "w") as archive:
        _add(archive, "MAR-INF/MANIFEST.json", json.dumps(_manifest(bundle, version), indent=1))
        _add(archive, "model-config.yaml", json.dumps(_deployment(settings), indent=1))  # JSON is YAML
        for file in sorted(each for each in bundle.folder.rglob("*") if each.is_file()):
            entry = zipfile.ZipInfo(f"{FOLDER}/{file.relative_to(bundle.folder)}", _MOMENT)
            with file.open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target)
    unfinished.replace(path)
    return path


def _add(archive: zipfile.ZipFile, name: str, text: str) -> None:
    archive.writestr(zipfile.ZipInfo(name, _MOMENT), text)


def _manifest(bundle: Bundle, version: str) -> dict[str, object]:
    """What `torch-model-archiver` writes."""
    return {
        "createdOn": bundle.manifest.created_at.isoformat(),
        "runtime": "python",
        "archiverVersion": "0.12.0",
        "model": {
            "modelName": bundle.manifest.use_case,
            "modelVersion": served_as(version, bundle.digest),
            "handler": _HANDLER,
            "configFile": "model-config.yaml",
        },
    }


def _deployment(settings: Settings) -> dict[str, int]:
    """How a version is run, also when TorchServe finds it in its store at its start."""
    where = settings.torchserve
    return {
        "minWorkers": where.workers,
        "maxWorkers": where.workers,
        "batchSize": where.batch,
        "maxBatchDelay": where.batch_delay_ms,
        "responseTimeout": _ANSWER_SECONDS,
        "startupTimeout": _START_SECONDS,
        "maxRetryTimeoutInSec": _START_SECONDS,
    }
