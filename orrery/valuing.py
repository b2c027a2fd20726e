"""What another policy than the one that served would have earned, window by window, where the log carries that."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel

from orrery.adapters.traffic_log import TrafficLog
from orrery.off_policy import Evaluation, ProbabilityRefused, ValueRefused, evaluate
from orrery.usecase import Array, Case
from orrery.watching import Watched

MOST_ANSWERS = 10_000
"""more are not looked at: of them so many, drawn evenly"""
Said = tuple[Sequence[Mapping[str, Any]], Sequence[BaseModel]]
"""answers, all feedback to them"""


def valued(case: Case, about: Watched, said: Said, traffic: TrafficLog) -> dict[str, float]:
    """The mean reward of the policy `Watching.target`, with the ends of its 95 % interval; nothing where unknown.

    `said`: of the window. Windows before it are taken along one by one until the estimator has rows and units enough,
    at most `Watching.pooled` in all. Only weights decide that, and no reward, so waiting for them favours no value.
    """
    watching, (answers, feedback) = case.training.watching, said
    policies, target = case.training.off_policy, watching.target
    if policies is None or target is None:
        return {}
    for ago in range(watching.pooled):
        if ago:
            first = about.first - ago * watching.window
            before = traffic.said(case.name, first, first + watching.window, case.serving.feedback)
            answers, feedback = [*answers, *before[0]], [*feedback, *before[1]]
        found = _evaluation(policies(_some(answers), feedback, target))
        if found is not None and found.estimates is not None:
            return _figures(target, found)
    return {}


def _some(answers: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    places = np.linspace(0, len(answers) - 1, min(MOST_ANSWERS, len(answers))).round().astype(int)
    return [answers[place] for place in places.tolist()]


def _evaluation(columns: Mapping[str, Array]) -> Evaluation | None:
    """None: nothing was shown, or the log has numbers that are no probabilities, by which nothing can be valued."""
    given: dict[str, Any] = dict(columns)
    try:
        return evaluate(**given) if len(columns["reward"]) else None
    except (ProbabilityRefused, ValueRefused):
        return None


def _figures(target: str, found: Evaluation) -> dict[str, float]:
    """Nothing where the weights put the value in doubt: it may then be that of no policy at all."""
    if found.estimates is None or found.warnings:
        return {}
    value = (found.estimates.dr or found.estimates.snips).value
    name = f"{target}_value"
    return {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
