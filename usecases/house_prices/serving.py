"""How a house is asked about and priced."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self, cast

import numpy as np
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from orrery.usecase import Answer, Array, Asked, Model, RuleHit, Scored, Serving, StoredByKey
from usecases.house_prices.features import FEATURES, inputs, years
from usecases.house_prices.house import FIELDS, House, contradictions
from usecases.house_prices.reasons import Reason, reasons
from usecases.house_prices.rules import DEFAULT_RULES, unusual_house, unusual_price
from usecases.house_prices.scoring import contributions, score

LARGEST_ID = 2**53
EARLIEST, LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def _in_utc(moment: datetime) -> datetime:
    """Raw data hold no other moment, and no time zone carries one of these out of the calendar."""
    if not EARLIEST <= moment < LATEST:
        raise ValueError(f"must lie between the years {EARLIEST.year} and {LATEST.year - 1}, in UTC")
    return moment.astimezone(UTC)


Identifier = Annotated[int, Field(ge=0, le=LARGEST_ID)]
Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
Dollars = Annotated[float, Field(ge=1_000, le=100_000_000)]


class SaleRequest(House):
    """A house that is to be sold."""

    sale_id: Identifier
    asked_at: Moment
    explain: bool = False
    """say what moves the price"""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        wrong = [f"{field} {what}" for field, what, so in contradictions(dict(self), self.asked_at.year) if so]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


class SaleFeedback(BaseModel):
    """What the house was sold for."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    sale_id: Identifier
    price: Dollars
    arrived_at: Moment


class RuleOutcome(BaseModel):
    """A rule that fired, and what it asks for."""

    rule: str
    outcome: str
    detail: str


class HousePrice(Answer):
    """What a house will sell for, in dollars, and why."""

    sale_id: int
    price: int | None = None
    """None when no model answered"""
    low: int | None = None
    high: int | None = None
    """the price is between low and high with a probability of `coverage`, for houses like those learned from"""
    coverage: float | None = None
    decision: Literal["quote", "review"]
    """quote the price, or let a person look at the house first"""
    typical_price: int | None = None
    """of all houses learned from: where the reasons start"""
    reasons: tuple[Reason, ...] = ()
    """what moves the price most, at most five, when asked for"""
    rules: tuple[RuleOutcome, ...] = ()


def _features(_: StoredByKey, event: BaseModel) -> Array:
    request = cast("SaleRequest", event)
    house = {name: np.array([getattr(request, name)]) for name in FIELDS}
    house["lot_frontage"] = np.array([np.nan if request.lot_frontage is None else request.lot_frontage])
    house["sold"] = years(np.array([request.asked_at.replace(tzinfo=None)], dtype="datetime64[us]"))
    return cast("Array", inputs(house)[0])


def _respond(scored: Scored) -> Answer:
    request = cast("SaleRequest", scored.request)
    price, low, high = (_dollars(scored.outputs[name][0]) for name in ("log_price", "low", "high"))
    hits = (*scored.hits, *unusual_price(price, scored.rules))
    answer = HousePrice(
        sale_id=request.sale_id,
        price=price,
        low=low,
        high=high,
        coverage=scored.model.manifest.learned["interval"]["coverage"],
        decision="review" if hits else "quote",
        rules=_outcomes(hits),
    )
    if not request.explain:
        return answer
    moved = contributions(scored.model, scored.inputs[None, :])[0]
    return answer.model_copy(update={"reasons": reasons(moved), "typical_price": _dollars(moved[-1])})


def _fallback(asked: Asked, _: Model | None) -> Answer:
    """Without the model there is no price; a person has to look."""
    request = cast("SaleRequest", asked.request)
    return HousePrice(sale_id=request.sale_id, decision="review", rules=_outcomes(asked.hits), degraded=True)


def _dollars(log_price: float) -> int:
    return round(math.exp(log_price))


def _outcomes(hits: tuple[RuleHit, ...]) -> tuple[RuleOutcome, ...]:
    return tuple(RuleOutcome(rule=hit.rule, outcome=hit.outcome, detail=hit.detail) for hit in hits)


def _rules(event: BaseModel, rules: Mapping[str, Any]) -> tuple[RuleHit, ...]:
    request = cast("SaleRequest", event)
    return unusual_house(dict(request), request.asked_at.year, rules)


serving = Serving(
    request=SaleRequest,
    response=HousePrice,
    feedback=SaleFeedback,
    identity=lambda event: str(cast("SaleRequest | SaleFeedback", event).sale_id),
    moment=lambda event: cast("SaleRequest", event).asked_at,
    keys=lambda _: (),
    features=_features,
    feature_names=FEATURES,
    score=score,
    respond=_respond,
    fallback=_fallback,
    learn=lambda *_: (),
    learn_label=lambda *_: (),
    label=lambda event: math.log(cast("SaleFeedback", event).price),
    label_arrival=lambda event: cast("SaleFeedback", event).arrived_at,
    rules=_rules,
    default_rules=DEFAULT_RULES,
    example=SaleRequest(
        sale_id=2_931,
        asked_at=datetime(2010, 7, 15, 12, tzinfo=UTC),
        explain=True,
        overall_quality=7,
        overall_condition=5,
        year_built=1998,
        year_remodelled=1999,
        living_area=1_655.0,
        lot_area=9_978.0,
        lot_frontage=74.0,
        neighborhood="Gilbert",
        exterior_quality="TA",
        kitchen_quality="Gd",
        heating_quality="Ex",
        full_baths=2,
        half_baths=1,
        bedrooms=3,
        basement_area=763.0,
        basement_unfinished_area=763.0,
        basement_quality="Gd",
        basement_condition="TA",
        basement_exposure="No",
        basement_finish="Unf",
        garage_type="Attchd",
        garage_finish="Fin",
        garage_area=440.0,
        garage_cars=2,
        fireplaces=1,
        fireplace_quality="TA",
        deck_area=210.0,
    ),
    example_feedback=SaleFeedback(sale_id=2_931, price=187_500.0, arrived_at=datetime(2010, 8, 20, 12, tzinfo=UTC)),
    deadline_ms=150,
    monitored_output="log_price",
)
