"""How a film is asked about and answered."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pydantic import BaseModel

from orrery.usecase import Array, Desk, RuleHit, Serving, StoredByKey
from usecases.imaging.answers import ImagingAnswer, fallback, respond
from usecases.imaging.features import FEATURES, TAGS, inputs, tags
from usecases.imaging.picture import SIDE, encode
from usecases.imaging.requests import ImagingFeedback, ImagingRequest, picture_of
from usecases.imaging.rules import DEFAULT_RULES, rules_of_film
from usecases.imaging.scoring import score

if TYPE_CHECKING:
    from fastapi import APIRouter


def _features(_: StoredByKey, event: BaseModel) -> Array:
    request = cast("ImagingRequest", event)
    return inputs(picture_of(request.picture), request.age, request.sex, request.view)


def _tagged(event: BaseModel) -> Array:
    request = cast("ImagingRequest", event)
    return tags(request.rows, request.columns, request.device_number)


def _rules(event: BaseModel, rules: Mapping[str, Any]) -> tuple[RuleHit, ...]:
    request = cast("ImagingRequest", event)
    return rules_of_film(request.age, request.view, request.flags, rules)


def _endpoints(desk: Desk) -> "APIRouter":
    from usecases.imaging.endpoints import router  # DICOM and what draws: only where there is a gateway

    return router(desk)


def _example_picture() -> str:
    """Two dark ovals in a lighter field: enough of a chest for the documentation."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    lungs = [((columns - middle) / 0.17) ** 2 + ((rows - 0.5) / 0.33) ** 2 < 1 for middle in (0.3, 0.7)]
    picture = np.where(lungs[0] | lungs[1], 60, 180).astype(np.uint8)
    return base64.b64encode(encode(picture)).decode()


serving = Serving(
    request=ImagingRequest,
    response=ImagingAnswer,
    feedback=ImagingFeedback,
    identity=lambda event: cast("ImagingRequest | ImagingFeedback", event).film_id,
    moment=lambda event: cast("ImagingRequest", event).taken_at,
    keys=lambda _: (),
    features=_features,
    feature_names=FEATURES,
    tags=TAGS,
    tagged=_tagged,
    score=score,
    respond=respond,
    fallback=fallback,
    learn=lambda *_: (),
    learn_label=lambda *_: (),
    label=lambda event: float(cast("ImagingFeedback", event).finding),
    label_arrival=lambda event: cast("ImagingFeedback", event).arrived_at,
    rules=_rules,
    default_rules=DEFAULT_RULES,
    example=ImagingRequest(
        film_id="example-1",
        taken_at=datetime(2025, 7, 1, 9, 30, tzinfo=UTC),
        age=57,
        sex="F",
        view="PA",
        rows=2_022,
        columns=2_022,
        device_number=40_314,
        picture=_example_picture(),
        explain=True,
    ),
    example_feedback=ImagingFeedback(film_id="example-1", finding=True, arrived_at=datetime(2025, 7, 3, 8, tzinfo=UTC)),
    deadline_ms=2_000,
    monitored_output="probability",
    runtime="model_server",
    tolerance=1e-4,
    body_bytes=256 * 1024 * 1024,
    endpoints=_endpoints,
    paths=("/dicomweb",),
)
