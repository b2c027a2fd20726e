"""Two made-up years of chest films, written as DICOM and taken in as the gateway takes them in."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from orrery.usecase import Progress, SourceRequest
from usecases.imaging.film_table import DataRefused, mask_of, table
from usecases.imaging.picture import encode

if TYPE_CHECKING:
    from usecases.imaging.intake import Intake

FILMS, SAMPLE = 2_400, 260
FIRST, END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
_SEED = 500_000
"""films of other seeds are new to a model that learned from these"""
_RETURNS, _SOON, _MOST = 0.25, 30, 3
"""share of films whose patient was here before, within how many films, and how often at most"""
_AT_ONCE = 2


@dataclass(frozen=True)
class Visit:
    """One film to take."""

    number: int
    patient: int
    moment: datetime


def phantoms(request: SourceRequest, progress: Progress) -> pd.DataFrame:
    """2,400 films of 2024 and 2025, or with `request.sample` 260 of the same years. Raises DataRefused for options."""
    if request.path or request.columns:
        raise DataRefused("phantoms need no file; add --source dicom, or leave out --path and --column")
    from usecases.imaging.intake import Intake

    count = SAMPLE if request.sample else FILMS
    intake = Intake(bytes(32), read_text=False)  # nobody's pseudonyms, and no text is written on these films
    films = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for film in pool.map(partial(_taken, intake=intake), visits(count)):
            films.append(film)
            progress("draw", len(films), count, "films")
    return table(films)


def visits(count: int) -> Iterator[Visit]:
    """Who comes when: evenly spread moments; some patients come back soon, once or twice."""
    rng = np.random.default_rng([_SEED, count])
    seen: list[int] = []
    for number in range(count):
        known = [patient for patient in seen[-_SOON:] if seen.count(patient) < _MOST]
        patient = known[rng.integers(len(known))] if known and rng.random() < _RETURNS else number
        seen.append(patient)
        yield Visit(number, patient, (FIRST + (END - FIRST) / count * number).replace(microsecond=0))


def _taken(visit: Visit, intake: "Intake") -> dict[str, Any]:
    from usecases.imaging.phantom import draw
    from usecases.imaging.phantom_dicom import written

    seed, person = _SEED + visit.number, _SEED + visit.patient
    phantom = draw(seed, person=person)
    received = intake.receive(written(phantom, seed, moment=visit.moment, who=person))
    film = received.film
    if film is None:
        raise DataRefused(f"the intake does not take phantom {visit.number}: {received.code}, {received.reason}")
    return {
        "film_id": f"phantom-{visit.number:05d}",
        "study_id": f"study-{visit.number:05d}",
        "patient_id": f"patient-{visit.patient:05d}",
        "taken_at": visit.moment,
        "age": np.nan if film.age is None else film.age,
        "sex": film.sex,
        "view": film.view,
        "rows": film.pixels.shape[0],
        "columns": film.pixels.shape[1],
        "device_number": film.device_number,
        "picture": encode(film.picture),
        "mask": mask_of(phantom.lungs),
        "label": phantom.label,
        "finding": phantom.finding,
        "origin": "phantoms",
        "part": "",
    }
