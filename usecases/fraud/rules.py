"""Rules beside the model: who and what is stopped, whatever the score says."""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from orrery.usecase import RuleHit

Outcome = Literal["review", "decline"]
Decision = TypeVar("Decision", bound=str)
_ORDER = ("approve", "review", "decline")

DEFAULT_RULES: Mapping[str, Any] = {
    "version": "1",
    "blocked_customers": {"ids": [], "outcome": "decline"},
    "blocked_terminals": {"ids": [], "outcome": "decline"},
    "amount_cap": {"most": 5_000.0, "outcome": "review"},
}


def broken_rules(customer: int, terminal: int, amount: float, rules: Mapping[str, Any]) -> tuple[RuleHit, ...]:
    """The rules that fire on one transaction."""
    cap = rules["amount_cap"]["most"]
    fired = {
        "blocked_customers": (customer in rules["blocked_customers"]["ids"], "the customer is blocked"),
        "blocked_terminals": (terminal in rules["blocked_terminals"]["ids"], "the terminal is blocked"),
        "amount_cap": (amount > cap, f"the amount is over {cap:g}"),
    }
    return tuple(RuleHit(name, rules[name]["outcome"], detail) for name, (hit, detail) in fired.items() if hit)


def strictest(decision: Decision, hits: tuple[RuleHit, ...]) -> Decision:
    """The decision, or what the strictest of the rules asks for."""
    return max((decision, *(hit.outcome for hit in hits)), key=_ORDER.index)  # type: ignore[return-value]
