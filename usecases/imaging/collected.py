"""Films that were asked about and read, as raw rows: what a release learns from what was served."""

import base64
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel

from orrery.usecase import KnownRows
from usecases.imaging.film_table import ACQUIRED, SERVED, table
from usecases.imaging.requests import ImagingFeedback, ImagingRequest

if TYPE_CHECKING:
    import pandas as pd

_SAID = {"film_id", "patient_id", "taken_at", "age", "sex", "view", *ACQUIRED}
_NOTHING: dict[str, Any] = {"mask": b"", "finding": "", "origin": SERVED}
"""what is known of a film that nobody has prepared"""


def collected(requests: Iterable[BaseModel], feedback: Iterable[BaseModel], known: KnownRows) -> "pd.DataFrame":
    """One row a film that a reader has told of, with what was told last; what else is known of it stays.

    Left out are films without a patient, and copies: a picture that is there under another name is nothing new, and a
    model that learned from one must not be judged by the other. A patient stays in the part of an official split.
    """
    findings = {told.film_id: told.finding for told in cast("Iterable[ImagingFeedback]", feedback)}
    before = known(["film_id", "patient_id", "picture", "mask", "finding", "origin", "part"])
    films: dict[Any, dict[Any, Any]] = before.set_index("film_id")[list(_NOTHING)].to_dict("index")
    parts = dict(zip(before["patient_id"], before["part"], strict=True))
    names: dict[bytes, str] = dict(zip(before["picture"], before["film_id"], strict=True))
    rows = []
    for asked in cast("Iterable[ImagingRequest]", requests):
        if asked.film_id not in findings or asked.patient_id is None:
            continue
        picture = base64.b64decode(asked.picture)
        if names.setdefault(picture, asked.film_id) != asked.film_id:
            continue
        film = {
            "study_id": asked.study_id or asked.film_id,
            "picture": picture,
            "label": int(findings[asked.film_id]),
            "part": parts.get(asked.patient_id, ""),
        }
        rows.append({**asked.model_dump(include=_SAID), **film, **films.get(asked.film_id, _NOTHING)})
    return table(rows).reset_index(drop=True)
