"""Films of the user's own: a folder of DICOM files and a table that says what was found on each."""

import csv
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from orrery.usecase import Progress, SourceRequest
from usecases.imaging.film_table import DataRefused, mask_of, table
from usecases.imaging.picture import encode

if TYPE_CHECKING:
    from usecases.imaging.intake import Film, Intake

OPTIONS = ("labels", "key", "file", "label", "finding")
"""what --column may name: the table, a file with the key of pseudonyms, and what the table calls its columns"""
KEY_BYTES = 32
_UNDATED = datetime(2000, 1, 1, tzinfo=UTC)
"""of the first film where none has a date; each next one is a second later"""
_LEAST_LUNG, _MOST_LUNG = 0.02, 0.9
_AT_ONCE = 2


@dataclass(frozen=True)
class Listed:
    """One row of the table."""

    row: int
    """the header is 1"""
    path: Path
    mask: Path
    label: int
    finding: str


@dataclass(frozen=True)
class Found:
    """What became of a listed file."""

    listed: Listed
    code: str
    """why it was left out; empty if it was not"""
    digest: str
    film: Mapping[str, Any]


def from_folder(request: SourceRequest, progress: Progress) -> pd.DataFrame:
    """The films of the folder `request.path` that its labels.csv lists, de-identified; the index numbers its rows.

    The table has the columns file, label (0 or 1) and, if known, finding. `masks/` may hold the lungs of a file, as a
    PNG of its size and name. What the intake refuses or quarantines is left out and counted. Pseudonyms and shifted
    dates are the same for a patient throughout, and others each time, unless a key is given. Raises DataRefused.
    """
    from usecases.imaging.intake import Intake

    if request.path is None or not request.path.is_dir():
        raise DataRefused("which folder? add --path FOLDER with DICOM files and a labels.csv")
    if request.sample:
        raise DataRefused("--sample is for phantoms; leave it out, or list fewer files")
    if unknown := set(request.columns) - set(OPTIONS):
        raise DataRefused(f"there is no option {min(unknown)}; there are: {', '.join(OPTIONS)}")
    listed = list(_listed(request.path, request.columns))
    intake = Intake(_key(request))
    found: list[Found] = []
    left_out: Counter[str] = Counter()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for one in pool.map(partial(_received, intake), listed):
            if one.code:
                left_out[one.code] += 1
            else:
                found.append(one)
            progress("read", len(found) + left_out.total(), len(listed), _summary(left_out))
    kept = _distinct(found)
    if not kept:
        why = _summary(left_out) or "nothing is listed"
        raise DataRefused(f"no film of {request.path} can be used: {why}; is this a folder of chest films?")
    return table((one.film for one in _dated(kept)), (one.listed.row for one in kept))


def _key(request: SourceRequest) -> bytes:
    if "key" not in request.columns:
        return secrets.token_bytes(KEY_BYTES)  # nobody keeps it: what names a patient cannot be found out later
    path = Path(request.columns["key"])
    data = path.read_bytes() if path.is_file() and path.stat().st_size == KEY_BYTES else b""
    if not data:
        raise DataRefused(f"the key of pseudonyms must be a file of {KEY_BYTES} secret bytes; check --column key=FILE")
    return data


def _listed(folder: Path, names: Mapping[str, str]) -> Iterator[Listed]:
    path = folder / names.get("labels", "labels.csv")
    if not path.is_file():
        raise DataRefused(f"there is no table {path.name} in {folder}; write it, or name it by --column labels=FILE")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except (csv.Error, UnicodeError) as error:
        raise DataRefused(f"{path.name} is no CSV file in UTF-8; write it again") from error
    header = rows[0] if rows else []
    for column in ("file", "label", *(["finding"] if "finding" in names else [])):
        if header.count(names.get(column, column)) != 1:
            raise DataRefused(
                f"{path.name} must have one column {names.get(column, column)}; name it by --column {column}=THEIRS"
            )
    for number, row in enumerate(rows[1:], start=2):
        if row:
            if len(row) != len(header):
                raise DataRefused(
                    f"row {number} of {path.name} has {len(row)} values, its header {len(header)}; mend it"
                )
            said = dict(zip(header, row, strict=True))
            yield _checked(folder, number, {ours: said.get(names.get(ours, ours), "").strip() for ours in OPTIONS})


def _checked(folder: Path, row: int, said: Mapping[str, str]) -> Listed:
    if said["label"] not in {"0", "1"}:
        raise DataRefused(f"row {row}, column label: it is not 0 or 1; mend or remove that row")
    root = folder.resolve()
    path = (root / said["file"].replace("\0", "")).resolve()
    if not path.is_relative_to(root) or not path.is_file():  # a name may be a patient's: it is not repeated
        raise DataRefused(f"row {row}, column file: there is no such file in the folder; mend or remove that row")
    mask = root / "masks" / path.relative_to(root).with_suffix(".png")
    return Listed(row, path, mask, int(said["label"]), said["finding"])


def _received(intake: "Intake", listed: Listed) -> Found:
    from usecases.imaging.structure import LARGEST

    with listed.path.open("rb") as file:
        received = intake.receive(file.read(LARGEST + 1))
    if received.film is None or received.state != "accepted":
        return Found(listed, received.code, "", {})
    return Found(listed, "", received.film.digest, _film(received.film, listed))


def _film(film: "Film", listed: Listed) -> dict[str, Any]:
    return {
        "film_id": film.film_id,
        "study_id": film.study_id,
        "patient_id": film.patient_id,
        "taken_at": film.taken_at,
        "age": np.nan if film.age is None else film.age,
        "sex": film.sex,
        "view": film.view,
        "rows": film.pixels.shape[0],
        "columns": film.pixels.shape[1],
        "device_number": film.device_number,
        "picture": encode(film.picture),
        "mask": _mask(listed, film.pixels.shape) if listed.mask.is_file() else b"",
        "label": listed.label,
        "finding": listed.finding or ("none" if listed.label == 0 else ""),
        "origin": "dicom",
        "part": "",
    }


def _mask(listed: Listed, shape: tuple[int, ...]) -> bytes:
    try:
        with Image.open(listed.mask, formats=("PNG",)) as image:
            lungs = np.asarray(image.convert("L")) > 0 if image.size == shape[::-1] else None
    except (OSError, SyntaxError, ValueError) as error:
        raise DataRefused(f"row {listed.row}: its mask is no PNG that can be read; write it again") from error
    if lungs is None or not _LEAST_LUNG <= lungs.mean() <= _MOST_LUNG:
        raise DataRefused(
            f"row {listed.row}: its mask must be as large as the film, and 0 all around the lungs; mend or remove it"
        )
    return mask_of(lungs)


def _distinct(found: list[Found]) -> list[Found]:
    """Without films that are there already; refused where two rows contradict each other."""
    by_digest: dict[str, Found] = {}
    by_name: dict[str, Found] = {}
    for one in found:
        row = one.listed.row
        first = by_digest.setdefault(one.digest, one)
        if first.listed.label != one.listed.label:
            raise DataRefused(f"row {row}: the film of row {first.listed.row} again, with another label; keep one")
        named = by_name.setdefault(one.film["film_id"], one)
        if named.digest != one.digest:
            raise DataRefused(f"row {row}: the SOP Instance UID of row {named.listed.row} with other pixels; keep one")
    return list(by_digest.values())


def _dated(kept: list[Found]) -> list[Found]:
    undated = [one for one in kept if one.film["taken_at"] is None]
    if undated and len(undated) < len(kept):
        raise DataRefused(f"row {undated[0].listed.row}: its film has no date, others have; remove or date it")
    later = timedelta(seconds=1)
    return [
        replace(one, film={**one.film, "taken_at": one.film["taken_at"] or _UNDATED + place * later})
        for place, one in enumerate(kept)
    ]


def _summary(left_out: Counter[str]) -> str:
    return "left out: " + ", ".join(f"{code} {count}" for code, count in sorted(left_out.items())) if left_out else ""
