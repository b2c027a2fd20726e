"""Where a model comes from: commit, lock, code, and the one key that names a training."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from orrery.bundle import digest_file
from orrery.settings import Settings
from orrery.usecase import Budget, Window

ROOT = Path(__file__).parent.parent
UNKNOWN = "unknown"


def git_commit(settings: Settings, root: Path = ROOT) -> str:
    """The commit of the code, `-dirty` when files differ from it; without git what the build noted, or `unknown`."""
    git, note = shutil.which("git"), root / "COMMIT"
    if git is None or not (root / ".git").exists():
        return settings.build or (note.read_text().strip() if note.is_file() else UNKNOWN)
    command = [git, "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return found.stdout.strip() or settings.build or UNKNOWN


def lock_hash(root: Path = ROOT) -> str:
    """The sha256 of the lock that this trainer was installed from: the CPU or the GPU one; `unknown` without it."""
    try:
        kind = "cpu" if version("torch").endswith("+cpu") else "gpu"
    except PackageNotFoundError:
        kind = "cpu"
    path = root / "requirements" / f"trainer-{kind}.txt"
    return digest_file(path) if path.is_file() else UNKNOWN


def code_hash(use_case: str, root: Path = ROOT) -> str:
    """The sha256 of all code that can change a model: the shared part and this use case's folder."""
    found: Iterable[Path] = [*(root / "orrery").rglob("*.py"), *(root / "usecases" / use_case).rglob("*.py")]
    total = hashlib.sha256()
    for path in sorted(path for path in found if not path.name.startswith("test_")):
        total.update(f"{path.relative_to(root)}\0{digest_file(path)}\n".encode())
    return total.hexdigest()


def training_key(use_case: str, data_version: str, window: Window, budget: Budget, root: Path = ROOT) -> str:
    """Same data, code, lock, window and budget -> same key, and so the same model."""
    parts = {
        "use_case": use_case,
        "data_version": data_version,
        "code": code_hash(use_case, root),
        "lock": lock_hash(root),
        "window": asdict(window),
        "budget": {"trials": budget.trials, "seconds": budget.seconds, "seed": budget.seed},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
