"""The model bundle: a folder that says what it is, with a digest for every file and no code in it."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from orrery.errors import OrreryError

MANIFEST = "bundle.json"
_SUFFIXES = frozenset({".onnx", ".txt", ".json", ".md", ".png", ".npy", ".usearch", ".safetensors"})


class BundleRefused(OrreryError):
    """The folder is not the bundle that its manifest describes."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Feature(_Frozen):
    """One model input."""

    name: str
    dtype: str = "float32"


class Histogram(_Frozen):
    """Training distribution of one input or output, in frozen bins; `edges` has one more entry than `counts`."""

    edges: list[float]
    counts: list[int]
    missing: int = 0
    values: list[float] = []
    """all that were seen, where they are few"""


class Golden(_Frozen):
    """Rows of inputs and the outputs that the trainer saw for them."""

    inputs: list[list[float]]
    outputs: dict[str, list[float]]


class Manifest(_Frozen):
    """What `bundle.json` says."""

    format: int = 1
    use_case: str
    created_at: datetime
    trained_from: datetime
    trained_to: datetime
    as_of: datetime
    rows: int
    data_version: str
    git_commit: str
    lock_hash: str
    features: list[Feature]
    learned: dict[str, Any]
    reference: dict[str, Histogram]
    importance: dict[str, float] = {}
    """feature -> share of the watched output that hangs on it; all together 1"""
    samples: dict[str, list[Any]] = {}
    """rows of what the model was judged on, by feature or output, which the watch compares traffic with"""
    golden: Golden
    files: dict[str, str]
    """relative path -> sha256"""


def digest_file(path: Path) -> str:
    """The sha256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path) -> set[str]:
    """The files of a bundle but the manifest. Raises BundleRefused on a link, which could lead out of the folder."""
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise BundleRefused(f"{path} is a link; a bundle holds plain files")
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {MANIFEST}


class Bundle(_Frozen):
    """A bundle folder whose files match its manifest."""

    folder: Path
    manifest: Manifest
    digest: str
    """sha256 of bundle.json: names the whole bundle"""

    @classmethod
    def write(cls, folder: Path, about: Mapping[str, Any]) -> Self:
        """Digest the files in `folder` and write the manifest beside them; `about` is all of `Manifest` but `files`."""
        names = sorted(_files(folder))
        manifest = Manifest(files={name: digest_file(folder / name) for name in names}, **about)
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1))
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read and verify. Raises BundleRefused when a byte, a file or a format is not as declared."""
        path = folder / MANIFEST
        if not path.is_file():
            raise BundleRefused(f"{folder} has no {MANIFEST}; it is not a model bundle")
        try:
            manifest = Manifest.model_validate(json.loads(path.read_bytes()))
        except ValueError as error:
            raise BundleRefused(f"{path} is not a manifest this version reads: {error}") from error
        found = _files(folder)
        if found != set(manifest.files):
            raise BundleRefused(f"{folder}: files differ from the manifest: {sorted(found ^ set(manifest.files))}")
        for name, expected in manifest.files.items():
            if Path(name).suffix not in _SUFFIXES:
                raise BundleRefused(f"{name}: only {', '.join(sorted(_SUFFIXES))} may be in a bundle")
            if digest_file(folder / name) != expected:
                raise BundleRefused(f"{folder / name} is not the file that was registered (digest differs)")
        return cls(folder=folder, manifest=manifest, digest=digest_file(path))
