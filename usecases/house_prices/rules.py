"""Rules beside the model: houses and prices that a person should look at, whatever the model says."""

from collections.abc import Mapping
from typing import Any

from orrery.usecase import RuleHit
from usecases.house_prices.features import KNOWN
from usecases.house_prices.house import NONE

DEFAULT_RULES: Mapping[str, Any] = {
    "version": "1",
    "unusual": {
        "outcome": "review",
        "ranges": {"living_area": [400, 4_000], "lot_area": [1_300, 60_000], "year_built": [1872, 2010]},
    },
    "market": {"outcome": "review", "years": [2006, 2010]},
    "unknown_code": {"outcome": "review"},
    "price_cap": {"outcome": "review", "most": 600_000},
}
"""ranges as in the published sales but for their few largest; the market is that of the years they cover"""


def unusual_house(house: Mapping[str, Any], year: int, rules: Mapping[str, Any]) -> tuple[RuleHit, ...]:
    """The rules that fire on a house, by field, that is to be sold in `year`."""
    hits = [
        _hit("unusual", rules, f"{field} {house[field]:g} is outside {least:g} to {most:g}")
        for field, (least, most) in rules["unusual"]["ranges"].items()
        if not least <= house[field] <= most
    ]
    first, last = rules["market"]["years"]
    if not first <= year <= last:
        hits.append(_hit("market", rules, f"the prices learned are of {first} to {last}, not of {year}"))
    for field, known in KNOWN.items():
        if house[field] not in (*known, NONE):
            hits.append(_hit("unknown_code", rules, f"{field} {house[field]} is priced as any other"))
    return tuple(hits)


def unusual_price(price: float, rules: Mapping[str, Any]) -> tuple[RuleHit, ...]:
    """The rules that fire on a price, in dollars."""
    most = rules["price_cap"]["most"]
    return (_hit("price_cap", rules, f"the price is over {most:g}"),) if price > most else ()


def _hit(rule: str, rules: Mapping[str, Any], detail: str) -> RuleHit:
    return RuleHit(rule, rules[rule]["outcome"], detail)
