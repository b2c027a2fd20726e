"""Imaging, offline: how a candidate is trained, measured and judged."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel

from orrery.deferred import deferred
from orrery.quality import classified
from orrery.usecase import Budget, Gate, Training
from orrery.watching import Watching
from usecases.imaging.collected import collected
from usecases.imaging.drifts import DRIFTS
from usecases.imaging.film_table import COLUMNS
from usecases.imaging.metrics import measure
from usecases.imaging.protocol import LABEL_DELAY, split
from usecases.imaging.requests import ImagingFeedback, ImagingRequest
from usecases.imaging.source import SOURCES, describe, validate
from usecases.imaging.tables import features, history, inputs
from usecases.imaging.watched import SAMPLED, measures

if TYPE_CHECKING:
    import pandas as pd

Event = tuple[datetime, Literal["predict", "feedback"], BaseModel]


def requests(rows: "pd.DataFrame") -> Sequence[Event]:
    """What a client would send: each film when it was taken, and what its reader found when that was known."""
    events: list[Event] = []
    for row in rows.reindex(columns=list(COLUMNS)).to_dict("records"):
        request = ImagingRequest(
            film_id=row["film_id"],
            study_id=row["study_id"],
            patient_id=row["patient_id"],
            taken_at=row["taken_at"].to_pydatetime(),
            age=None if np.isnan(row["age"]) else row["age"],
            sex=row["sex"],
            view=row["view"],
            rows=_whole(row["rows"]),
            columns=_whole(row["columns"]),
            device_number=_whole(row["device_number"]),
            picture=base64.b64encode(row["picture"]).decode(),
        )
        read_at = request.taken_at + LABEL_DELAY
        label = ImagingFeedback(film_id=request.film_id, finding=bool(row["label"]), arrived_at=read_at)
        events += [(request.taken_at, "predict", request), (read_at, "feedback", label)]
    return sorted(events, key=lambda event: (event[0], event[1]))


def _whole(value: float) -> int | None:
    return None if np.isnan(value) else int(value)


training = Training(
    sources=SOURCES,
    validate=validate,
    describe=describe,
    identity="film_id",
    moment="taken_at",
    target="label",
    label_delay=LABEL_DELAY,
    unit="patient_id",
    features=features,
    history=history,
    split=split,
    fit=deferred("usecases.imaging.model:fit"),
    measure=measure,
    plots=deferred("usecases.imaging.plots:plots"),
    requests=requests,
    gate=Gate(
        floors={"auc": 0.9, "sensitivity": 0.75},
        ceilings={"ece": 0.12, "brier": 0.15},
        compare=("auc", "brier"),
        latency_ms=250,
    ),
    replay_from=datetime(2025, 10, 1, tzinfo=UTC),
    train_days=730,
    schedule="0 5 * * 0",
    budget=Budget(trials=2, seconds=600),
    inputs=inputs,
    watching=Watching(
        window=timedelta(days=30),
        rows=30,
        quality=classified,
        probability=True,
        measures=measures,
        sampled=SAMPLED,
        labels=200,
    ),
    collected=collected,
    drifts=DRIFTS,
    replay_rate=20.0,
)
