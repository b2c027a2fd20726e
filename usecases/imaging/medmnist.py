"""PneumoniaMNIST: 5,856 real chest films of children, 28 x 28, by the official split (MedMNIST v2, CC BY 4.0)."""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from orrery.usecase import Array, Progress, SourceRequest
from usecases.imaging.film_table import DataRefused, table
from usecases.imaging.picture import encode, to_picture

URL = "https://zenodo.org/records/10519652/files/pneumoniamnist.npz"
MD5 = "28209eda62fecd6e6a2d98b1501bb15f"
SIZE = 4_170_669
"""bytes"""
PARTS: Mapping[str, tuple[str, int]] = {"train": ("train", 4_708), "validation": ("val", 524), "test": ("test", 624)}
"""our part -> its name in the file, and its films"""
FIRST, END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
"""the films have no dates: they are spread evenly between these, so that the official test set is the latest"""
_SAMPLE = 12
"""each so many-th film of a part"""
_SECONDS = 60.0


def pneumoniamnist(request: SourceRequest, progress: Progress) -> pd.DataFrame:
    """The films of the published file at `request.path`, without training films that are in validation too.

    J. Yang et al., MedMNIST v2, Scientific Data 10:41, 2023; films of D. Kermany et al., Cell 172:5, 2018.
    With the option download=yes among the columns a file that is not there is fetched first. Any other file than the
    published one is refused: raises DataRefused.
    """
    if set(request.columns.items()) - {("download", "yes")}:
        raise DataRefused("PneumoniaMNIST knows one option: --column download=yes; leave out the others")
    if request.path is None:
        raise DataRefused(f"which file? add --path pneumoniamnist.npz; {_where()}")
    if not request.path.is_file():
        if not request.columns:
            raise DataRefused(f"there is no file {request.path}; {_where()}")
        _download(URL, request.path, progress)
    progress("read", 0, 1, request.path.name)
    parts = _arrays(request.path)
    films = list(_films(parts, _SAMPLE if request.sample else 1))
    progress("read", 1, 1, f"{len(films):,} films")
    return table(film | {"taken_at": FIRST + (END - FIRST) / len(films) * place} for place, film in enumerate(films))


def _where() -> str:
    return f"it is published at {URL} (CC BY 4.0), and --column download=yes fetches it to --path"


def _download(url: str, path: Path, progress: Progress) -> None:
    """Fetch the file; nothing is left at `path` unless it is the published one."""
    import httpx

    part = path.with_name(f"{path.name}.part")
    digest = hashlib.md5(usedforsecurity=False)
    done = 0
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=_SECONDS) as answer, part.open("wb") as file:
            answer.raise_for_status()
            for chunk in answer.iter_bytes():
                done += len(chunk)
                if done > SIZE:
                    break
                digest.update(chunk)
                file.write(chunk)
                progress("download", done, SIZE, "bytes")
        if done != SIZE or digest.hexdigest() != MD5:
            raise DataRefused(
                f"{url} sent another file than was published; try again later, or bring the file yourself"
            )
        part.rename(path)
    except (httpx.HTTPError, OSError) as error:
        raise DataRefused(f"{url} cannot be fetched: {type(error).__name__}; bring the file yourself") from error
    finally:
        part.unlink(missing_ok=True)


def _arrays(path: Path) -> Mapping[str, tuple[Array, Array]]:
    """Part -> images (n, 28, 28) uint8 and labels (n,), after the file's own digest was checked."""
    data = path.read_bytes() if path.stat().st_size == SIZE else b""
    if hashlib.md5(data, usedforsecurity=False).hexdigest() != MD5:
        raise DataRefused(
            f"{path} is not the published pneumoniamnist.npz ({SIZE:,} bytes, MD5 {MD5}); cut and larger copies go by "
            f"the same name: fetch it again from {URL}"
        )
    with np.load(path, allow_pickle=False) as file:
        found = {part: (file[f"{name}_images"], file[f"{name}_labels"]) for part, (name, _) in PARTS.items()}
    for part, (_, count) in PARTS.items():
        images, labels = found[part]
        assert (images.shape, images.dtype, labels.shape) == ((count, 28, 28), np.uint8, (count, 1))
    return {part: (images, labels[:, 0]) for part, (images, labels) in found.items()}


def _films(parts: Mapping[str, tuple[Array, Array]], step: int) -> Iterator[dict[str, Any]]:
    held_out = {image.tobytes() for image in parts["validation"][0]}
    for part, (images, labels) in parts.items():
        for number in range(0, len(images), step):
            if part == "train" and images[number].tobytes() in held_out:
                continue
            name = f"pneumoniamnist-{part}-{number:04d}"
            yield {
                "film_id": name,
                "study_id": name,
                "patient_id": name,
                "age": np.nan,
                "sex": "U",
                "view": "U",
                "picture": encode(to_picture(images[number].astype(np.float32))),
                "mask": b"",
                "label": int(labels[number]),
                "finding": "",
                "origin": "pneumoniamnist",
                "part": part,
            }
