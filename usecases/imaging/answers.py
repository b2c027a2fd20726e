"""What a film's answer says: how likely an opacity is, how far to believe that, and how soon to look."""

import base64
from typing import Any, Literal, cast

import numpy as np
from pydantic import BaseModel

from orrery.usecase import Answer, Array, Asked, Model, RuleHit, Scored
from usecases.imaging.picture import encode
from usecases.imaging.requests import ImagingRequest

Decision = Literal["finding", "no_finding", "not_scored"]
Priority = Literal["stat", "high", "routine"]
RESEARCH = "For research use only. Not for diagnosis."


class RuleOutcome(BaseModel):
    """A rule that fired, and what it asks for."""

    rule: str
    outcome: str
    detail: str


class Strangeness(BaseModel):
    """How far a film is from those that were learned from."""

    score: float
    """1 is the limit"""
    verdict: Literal["in", "out"]


class ImagingAnswer(Answer):
    """What the model says of a film."""

    film_id: str
    study_id: str | None = None
    probability: float | None = None
    """of an opacity, calibrated; None where the film is not scored"""
    decision: Decision
    """at the operating point; a film out of distribution, or without a model, is not scored"""
    operating_point: float | None = None
    uncertainty: float | None = None
    """bits: 0 is sure, 1 is a coin"""
    ood: Strangeness | None = None
    lung_share: float | None = None
    """of the picture"""
    priority: Priority
    """how soon a person should read it"""
    flags: tuple[str, ...] = ()
    rules: tuple[RuleOutcome, ...] = ()
    device: str | None = None
    """what the model ran on"""
    mask: str | None = None
    """the lungs: PNG of 128 x 128, 0 or 255, in base64"""
    cam: str | None = None
    """what the model looked at (Grad-CAM): PNG of 128 x 128 in base64, when asked for"""
    notice: str = RESEARCH


def respond(scored: Scored) -> Answer:
    """The answer of a model. A film unlike those learned from gets no probability, and a person soon."""
    request, outputs, rules = cast("ImagingRequest", scored.request), scored.outputs, scored.rules
    probability, uncertainty = (float(outputs[name][0]) for name in ("probability", "uncertainty"))
    strange, point = float(outputs["ood"][0]), scored.model.manifest.learned["operating_point"]
    out = strange > 1
    decision: Decision = "not_scored" if out else "finding" if probability >= point else "no_finding"
    return ImagingAnswer(
        **_common(request, scored.hits),
        probability=None if out else probability,
        decision=decision,
        operating_point=point,
        uncertainty=None if out else uncertainty,
        ood=Strangeness(score=round(strange, 4), verdict="out" if out else "in"),
        lung_share=float(outputs["area"][0]),
        priority=_priority(decision, probability, uncertainty, scored.hits, rules["priority"]),
        device=scored.device,
        mask=_png(outputs["mask"][0] * np.uint8(255)),
        cam=_png(outputs["cam"][0]) if request.explain else None,
    )


def fallback(asked: Asked, _: Model | None) -> Answer:
    """Without a model nothing is said of a film but that a person should read it early."""
    request = cast("ImagingRequest", asked.request)
    return ImagingAnswer(**_common(request, asked.hits), decision="not_scored", priority="high", degraded=True)


def _common(request: ImagingRequest, hits: tuple[RuleHit, ...]) -> dict[str, Any]:
    fired = tuple(RuleOutcome(rule=hit.rule, outcome=hit.outcome, detail=hit.detail) for hit in hits)
    return {"film_id": request.film_id, "study_id": request.study_id, "flags": request.flags, "rules": fired}


def _priority(
    decision: Decision, probability: float, uncertainty: float, hits: tuple[RuleHit, ...], rules: dict[str, float]
) -> Priority:
    if decision == "finding" and probability >= rules["stat"]:
        return "stat"
    doubtful = decision != "no_finding" or hits or uncertainty >= rules["uncertain_bits"]
    return "high" if doubtful else "routine"


def _png(values: Array) -> str:
    return base64.b64encode(encode(values)).decode()
