"""Rules beside the model: films that a person should look at early, whatever the model says."""

from collections.abc import Mapping, Sequence
from typing import Any

from orrery.usecase import RuleHit

DEFAULT_RULES: Mapping[str, Any] = {
    "version": "1",
    "priority": {"stat": 0.9, "uncertain_bits": 0.9},
    "child": {"outcome": "review", "below_years": 16},
    "view": {"outcome": "review", "learned": ["PA", "AP", "U"]},
    "quality": {"outcome": "review", "flags": ["low_contrast", "low_resolution", "overexposed", "underexposed"]},
}
"""`stat`: the least probability that is read at once; `uncertain_bits`: the least doubt that is read early"""


def rules_of_film(age: float | None, view: str, flags: Sequence[str], rules: Mapping[str, Any]) -> tuple[RuleHit, ...]:
    """The rules that fire on a film."""
    hits = []
    least = rules["child"]["below_years"]
    if age is not None and age < least:
        hits.append(_hit("child", rules, f"the model has learned of patients from {least} years on"))
    if view not in rules["view"]["learned"]:
        hits.append(_hit("view", rules, f"the model has learned of the views {', '.join(rules['view']['learned'])}"))
    if poor := sorted(set(flags) & set(rules["quality"]["flags"])):
        hits.append(_hit("quality", rules, f"the film is {', '.join(poor)}"))
    return tuple(hits)


def _hit(rule: str, rules: Mapping[str, Any], detail: str) -> RuleHit:
    return RuleHit(rule, rules[rule]["outcome"], detail)
