"""How spots are found: the larger the sum, the likelier; each bright pixel is one of the spot's."""

from datetime import UTC, datetime

import numpy as np
from pydantic import BaseModel

from orrery.usecase import Answer, Serving

SIDE = 4


class Picture(BaseModel):
    id: int = 0


def score(model, inputs):
    likely, pixels = model.run("spots.onnx", inputs)
    return {
        "score": likely[:, 0].astype(np.float64),
        "mask": (pixels > 0.5).reshape(-1, SIDE, SIDE).astype(np.uint8),
        "together": np.full(len(inputs), len(inputs), np.int32),
    }


serving = Serving(
    request=Picture,
    response=Answer,
    feedback=Picture,
    identity=lambda value: str(value.id),
    moment=lambda value: datetime(2024, 1, 1, tzinfo=UTC),
    keys=lambda value: [],
    features=lambda stored, value: np.zeros(SIDE * SIDE, np.float32),
    feature_names=("sum",),
    score=score,
    respond=lambda scored: Answer(),
    fallback=lambda asked, model: Answer(degraded=True),
    learn=lambda value, stored: [],
    learn_label=lambda value, request, stored: [],
    label=lambda value: 0.0,
    label_arrival=lambda value: datetime(2024, 1, 1, tzinfo=UTC),
    rules=lambda value, rules: (),
    default_rules={"version": "1"},
    example=Picture(),
    example_feedback=Picture(),
    deadline_ms=1_000,
    runtime="model_server",
    tolerance=1e-4,
)
