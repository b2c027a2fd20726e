"""How items for a user are asked for, chosen and answered."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import numpy as np
from pydantic import BaseModel

from orrery.usecase import Array, Key, Serving, StoredByKey
from usecases.recommendation import feedback
from usecases.recommendation.answering import fallback, respond
from usecases.recommendation.features import FEATURES, inputs, micros, with_looked_at
from usecases.recommendation.requests import (
    Context,
    RecommendationAnswer,
    RecommendationFeedback,
    RecommendationRequest,
)
from usecases.recommendation.rules import DEFAULT_RULES, hits
from usecases.recommendation.scoring import score


def _asked_keys(event: BaseModel) -> Sequence[Key]:
    request = cast("RecommendationRequest", event)
    looked_at = request.context.item_id
    content = () if looked_at is None else (_content_key(looked_at),)
    return (feedback.history_key(request.user_id), feedback.TRENDING, *content)


def _content_key(item: int) -> Key:
    return Key("item_vectors", item)


def _features(stored: StoredByKey, event: BaseModel) -> Array:
    request = cast("RecommendationRequest", event)
    looked_at, context = request.context.item_id, None
    if looked_at is not None:
        found = stored.get(_content_key(looked_at))
        context = np.asarray(found.values["vector"], np.float32) if found and found.values else None
    history, trends = feedback.stored_history(stored, request.user_id), feedback.stored_trends(stored)
    row = inputs(history, trends, micros(request.at), request.context.bits, context)
    return row if looked_at is None else with_looked_at(row, looked_at)


serving = Serving(
    request=RecommendationRequest,
    response=RecommendationAnswer,
    feedback=RecommendationFeedback,
    identity=feedback.identity,
    moment=lambda event: cast("RecommendationRequest", event).at,
    keys=lambda event: feedback.keys(event) if isinstance(event, RecommendationFeedback) else _asked_keys(event),
    features=_features,
    feature_names=FEATURES,
    score=score,
    respond=respond,
    fallback=fallback,
    learn=lambda *_: (),
    learn_label=feedback.learn_label,
    label=feedback.label,
    label_arrival=lambda event: cast("RecommendationFeedback", event).at,
    rules=lambda event, rules: hits(cast("RecommendationRequest", event), rules),
    default_rules=DEFAULT_RULES,
    example=RecommendationRequest(
        request_id="evening-1",
        user_id=15,
        at=datetime(2016, 9, 1, 20, tzinfo=UTC),
        context=Context(genres=("Comedy",)),
        explain=True,
    ),
    example_feedback=RecommendationFeedback(
        request_id="evening-1",
        user_id=15,
        item_id=50,
        event="rating",
        rating=4.5,
        at=datetime(2016, 9, 1, 22, 30, tzinfo=UTC),
    ),
    deadline_ms=150,
    subject=feedback.subject,
    objection=feedback.objection,
)
