"""Ways in which the world of card payments can change, for trying out what the platform makes of it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from orrery.typed_numbers import number_within
from usecases.fraud.source import DataRefused

if TYPE_CHECKING:
    import pandas as pd

_RING_TERMINALS, _RING_SHARE, _RING_AMOUNT = 0.03, 0.5, 0.4


def amount(rows: "pd.DataFrame", value: str) -> "pd.DataFrame":
    """Every amount times a number: inflation, or another currency. Raises DataRefused."""
    factor = number_within(value, 0.01, 100)
    if factor is None:
        raise DataRefused(f"amount={value} is not a factor from 0.01 to 100; give one such as amount=1.3")
    return rows.assign(TX_AMOUNT=(rows["TX_AMOUNT"] * factor).round(2))


def new_pattern(rows: "pd.DataFrame", value: str) -> "pd.DataFrame":
    """Frauds of a kind that was not there: `terminal-ring`, small payments at a ring of terminals. Raises DataRefused.

    At three terminals in a hundred half of the payments become frauds of two fifths of their amount.
    """
    if value != "terminal-ring":
        raise DataRefused(f"there is no pattern {value}; there is: terminal-ring")
    ring = rows["TERMINAL_ID"] % round(1 / _RING_TERMINALS) == 0
    # chosen by the payment's own number, so that the same payment is the same fraud whenever it is asked about
    chosen = ring & (rows["TRANSACTION_ID"] % 100 < 100 * _RING_SHARE)
    return rows.assign(
        TX_AMOUNT=rows["TX_AMOUNT"].where(~chosen, (rows["TX_AMOUNT"] * _RING_AMOUNT).round(2)),
        TX_FRAUD=rows["TX_FRAUD"].where(~chosen, 1),
    )


def wrong_labels(rows: "pd.DataFrame", value: str) -> "pd.DataFrame":
    """A share of the labels that says the opposite: a broken feed, or one that somebody poisons. Raises DataRefused."""
    share = number_within(value, 0, 1)
    if not share:
        raise DataRefused(f"wrong-labels={value} is no share; give one such as wrong-labels=0.3")
    wrong = rows["TRANSACTION_ID"] * 7_919 % 1_000 < 1_000 * share
    return rows.assign(TX_FRAUD=rows["TX_FRAUD"].where(~wrong, 1 - rows["TX_FRAUD"]))


DRIFTS: Mapping[str, Callable[["pd.DataFrame", str], "pd.DataFrame"]] = {
    "amount": amount,
    "new-pattern": new_pattern,
    "wrong-labels": wrong_labels,
}
