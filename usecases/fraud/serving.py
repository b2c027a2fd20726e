"""How a transaction is asked about, answered and learned from."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self, cast

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from orrery.usecase import Answer, Array, Asked, Key, Model, RuleHit, Scored, Serving, StoredByKey, Update
from usecases.fraud.features import (
    FEATURES,
    NOTHING,
    History,
    Mark,
    customer_after,
    history,
    label_after,
    micros,
    online_features,
    terminal_after,
    values,
)
from usecases.fraud.reasons import Reason, reasons
from usecases.fraud.rules import DEFAULT_RULES, Outcome, broken_rules, strictest
from usecases.fraud.scoring import BOOSTER, score

LARGEST_ID = 2**53
"""data frames hold larger whole numbers beside gaps no longer exactly, and so does JSON in many languages"""
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
Decision = Literal["approve", "review", "decline"]
_CUSTOMER, _TERMINAL = "customer_history", "terminal_history"


def _in_utc(moment: datetime) -> datetime:
    """Raw data hold no other moment, and no time zone carries one of these out of the calendar."""
    if not EARLIEST <= moment < LATEST:
        raise ValueError(f"must lie between the years {EARLIEST.year} and {LATEST.year - 1}, in UTC")
    return moment.astimezone(UTC)


def _in_cents(amount: float) -> float:
    if abs(amount * 100 - round(amount * 100)) > 1e-6:
        raise ValueError("must have at most two decimals")
    return amount


Identifier = Annotated[int, Field(ge=0, le=LARGEST_ID)]
Amount = Annotated[float, Field(ge=0, le=1_000_000), AfterValidator(_in_cents)]
Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class FraudRequest(_Strict):
    """A card transaction that waits for a decision."""

    transaction_id: Identifier
    customer_id: Identifier
    terminal_id: Identifier
    amount: Amount
    tx_datetime: Moment
    explain: bool = False
    """give reasons for an approval too"""


class FraudFeedback(_Strict):
    """The truth about a transaction. One that was not scored here needs its terminal and its time too."""

    transaction_id: Identifier
    fraud: bool
    arrived_at: Moment
    terminal_id: Identifier | None = None
    tx_datetime: Moment | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.terminal_id is None) != (self.tx_datetime is None):
            raise ValueError("terminal_id and tx_datetime are given together or not at all")
        return self


class Thresholds(BaseModel):
    """The least scores that lead to a review and to a decline."""

    review: float
    decline: float


class RuleOutcome(BaseModel):
    """A rule that fired, and what it asks for."""

    rule: str
    outcome: Outcome
    detail: str


class FraudAnswer(Answer):
    """What to do with a transaction, and why."""

    transaction_id: int
    score: float | None = None
    """calibrated probability of fraud; None when no model answered"""
    decision: Decision
    reasons: tuple[Reason, ...] = ()
    """what speaks most for fraud, at most four; for an approval only when asked for"""
    thresholds: Thresholds | None = None
    novelty: float | None = None
    """share of ordinary transactions that look more usual"""
    rules: tuple[RuleOutcome, ...] = ()


def _keys(event: BaseModel) -> Sequence[Key]:
    if isinstance(event, FraudRequest):
        return (Key(_CUSTOMER, event.customer_id), Key(_TERMINAL, event.terminal_id))
    terminal = cast("FraudFeedback", event).terminal_id
    return () if terminal is None else (Key(_TERMINAL, terminal),)


def _history(stored: StoredByKey, key: Key, mark: Mark) -> History:
    return history(stored[key].values, mark) if key in stored else NOTHING


def _cents(request: FraudRequest) -> int:
    return round(request.amount * 100)


def _features(stored: StoredByKey, event: BaseModel) -> Array:
    request = cast("FraudRequest", event)
    customer, terminal = _keys(request)
    return online_features(
        micros(request.tx_datetime),
        _cents(request),
        _history(stored, customer, "cents"),
        _history(stored, terminal, "frauds"),
    )


def _learn(event: BaseModel, stored: StoredByKey) -> Sequence[Update]:
    request = cast("FraudRequest", event)
    customer, terminal = _keys(request)
    time = micros(request.tx_datetime)
    spent = customer_after(_history(stored, customer, "cents"), time, _cents(request))
    seen = terminal_after(_history(stored, terminal, "frauds"), time)
    return (
        Update(customer, values(spent, "cents"), _latest(stored, customer, request.tx_datetime)),
        Update(terminal, values(seen, "frauds"), _latest(stored, terminal, request.tx_datetime)),
    )


def _learn_label(event: BaseModel, asked: BaseModel | None, stored: StoredByKey) -> Sequence[Update]:
    feedback = cast("FraudFeedback", event)
    about = cast("FraudRequest", asked) if asked is not None else feedback
    assert about.terminal_id is not None
    assert about.tx_datetime is not None
    terminal = Key(_TERMINAL, about.terminal_id)
    known = label_after(_history(stored, terminal, "frauds"), micros(about.tx_datetime), feedback.fraud)
    return (Update(terminal, values(known, "frauds"), _latest(stored, terminal, feedback.arrived_at)),)


def _latest(stored: StoredByKey, key: Key, moment: datetime) -> datetime:
    before = stored[key].event_time if key in stored else None
    return moment if before is None else max(before, moment)


def _respond(scored: Scored) -> Answer:
    request = cast("FraudRequest", scored.request)
    learned = scored.model.manifest.learned["thresholds"]
    thresholds = Thresholds(review=learned["review"], decline=learned["decline"])
    probability = float(scored.outputs["score"][0])
    decision = strictest(_decide(probability, thresholds), scored.hits)
    explained: tuple[Reason, ...] = ()
    if decision != "approve" or request.explain:
        explained = reasons(scored.model.contributions(BOOSTER, scored.inputs[None, :])[0])
    return FraudAnswer(
        transaction_id=request.transaction_id,
        score=round(probability, 4),
        decision=decision,
        reasons=explained,
        thresholds=thresholds,
        novelty=round(float(scored.outputs["novelty"][0]), 4),
        rules=_outcomes(scored.hits),
    )


def _decide(probability: float, thresholds: Thresholds) -> Decision:
    if probability >= thresholds.decline:
        return "decline"
    return "review" if probability >= thresholds.review else "approve"


def _fallback(asked: Asked, _: Model | None) -> Answer:
    """Without a model a person looks, unless a rule already says no."""
    request, hits = cast("FraudRequest", asked.request), asked.hits
    return FraudAnswer(
        transaction_id=request.transaction_id,
        decision=strictest("review", hits),
        rules=_outcomes(hits),
        degraded=True,
    )


def _outcomes(hits: tuple[RuleHit, ...]) -> tuple[RuleOutcome, ...]:
    return tuple(RuleOutcome(rule=hit.rule, outcome=cast("Outcome", hit.outcome), detail=hit.detail) for hit in hits)


def _rules(event: BaseModel, rules: Mapping[str, Any]) -> tuple[RuleHit, ...]:
    request = cast("FraudRequest", event)
    return broken_rules(request.customer_id, request.terminal_id, request.amount, rules)


serving = Serving(
    request=FraudRequest,
    response=FraudAnswer,
    feedback=FraudFeedback,
    identity=lambda event: str(cast("FraudRequest | FraudFeedback", event).transaction_id),
    moment=lambda event: cast("FraudRequest", event).tx_datetime,
    keys=_keys,
    features=_features,
    feature_names=FEATURES,
    score=score,
    respond=_respond,
    fallback=_fallback,
    learn=_learn,
    learn_label=_learn_label,
    label=lambda event: float(cast("FraudFeedback", event).fraud),
    label_arrival=lambda event: cast("FraudFeedback", event).arrived_at,
    rules=_rules,
    default_rules=DEFAULT_RULES,
    example=FraudRequest(
        transaction_id=1_754_155,
        customer_id=596,
        terminal_id=3_156,
        amount=57.16,
        tx_datetime=datetime(2018, 10, 1, 9, 30, tzinfo=UTC),
        explain=True,
    ),
    example_feedback=FraudFeedback(
        transaction_id=1_754_155, fraud=False, arrived_at=datetime(2018, 10, 8, 9, 30, tzinfo=UTC)
    ),
    deadline_ms=150,
)
