"""Request and answer, and how the answer is made."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from orrery.usecase import Answer, Array, Asked, Key, Model, Outputs, RuleHit, Scored, Serving, StoredByKey, Update
from usecases.tips.features import FEATURES, inputs


class TipsRequest(BaseModel):
    """A table that asks for the bill."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    table_id: int = Field(ge=0)
    waiter_id: int = Field(ge=0)
    bill: float = Field(ge=0, le=10_000)
    guests: int = Field(ge=1, le=50)
    at: AwareDatetime


class TipsFeedback(BaseModel):
    """What the table left."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table_id: int = Field(ge=0)
    generous: bool
    arrived_at: AwareDatetime


class TipsAnswer(Answer):
    """Whether a generous tip is likely."""

    score: float | None = None


def _request(value: BaseModel) -> TipsRequest:
    return cast("TipsRequest", value)


def _keys(value: BaseModel) -> Sequence[Key]:
    return [Key("waiter_visits", value.waiter_id)] if isinstance(value, TipsRequest) else []


def _visits(stored: StoredByKey, request: TipsRequest) -> int:
    found = stored.get(Key("waiter_visits", request.waiter_id))
    return int(found.values["visits"]) if found and found.status == "present" else 0


def _features(stored: StoredByKey, value: BaseModel) -> Array:
    request = _request(value)
    row = inputs(np.array([request.bill]), np.array([request.guests]), np.array([_visits(stored, request)]))
    return cast("Array", row[0])


def _score(model: Model, rows: Array) -> Outputs:
    return {"score": model.run("classifier.onnx", rows)[1][:, 1].astype(np.float64)}


def _learn(value: BaseModel, stored: StoredByKey) -> Sequence[Update]:
    request = _request(value)
    visits = _visits(stored, request) + 1
    return [Update(Key("waiter_visits", request.waiter_id), {"visits": visits}, request.at)]


def _learn_label(_: BaseModel, __: BaseModel | None, ___: StoredByKey) -> Sequence[Update]:
    return []


def _respond(scored: Scored) -> Answer:
    return TipsAnswer(score=round(float(scored.outputs["score"][0]), 4))


def _fallback(_: Asked, __: Model | None) -> Answer:
    return TipsAnswer(degraded=True)


def _rules(value: BaseModel, rules: Mapping[str, Any]) -> tuple[RuleHit, ...]:
    request = _request(value)
    over = request.bill > float(rules["bill_cap"])
    return (RuleHit("bill_cap", "look", f"bill over {rules['bill_cap']}"),) if over else ()


serving = Serving(
    request=TipsRequest,
    response=TipsAnswer,
    feedback=TipsFeedback,
    identity=lambda value: str(cast("TipsRequest | TipsFeedback", value).table_id),
    moment=lambda value: _request(value).at,
    keys=_keys,
    features=_features,
    feature_names=FEATURES,
    score=_score,
    respond=_respond,
    fallback=_fallback,
    learn=_learn,
    learn_label=_learn_label,
    label=lambda value: float(cast("TipsFeedback", value).generous),
    label_arrival=lambda value: cast("TipsFeedback", value).arrived_at,
    rules=_rules,
    default_rules={"version": "1", "bill_cap": 5_000},
    example=TipsRequest(table_id=1, waiter_id=3, bill=64.5, guests=2, at=datetime(2024, 6, 1, 20, tzinfo=UTC)),
    example_feedback=TipsFeedback(table_id=1, generous=True, arrived_at=datetime(2024, 6, 2, 20, tzinfo=UTC)),
    deadline_ms=100,
)
