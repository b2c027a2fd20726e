"""Transactions that were answered, as raw rows: what a release learns from what was served."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from pydantic import BaseModel

from usecases.fraud.serving import FraudFeedback, FraudRequest

if TYPE_CHECKING:
    import pandas as pd


def collected(events: Iterable[tuple[BaseModel, BaseModel | None]]) -> "pd.DataFrame":
    """One row a transaction, fraud where a label said so; one without a label yet counts as legitimate.

    Training and its features look at labels only where they are older than the label delay.
    """
    import pandas as pd

    rows = []
    for request, label in events:
        asked, told = cast("FraudRequest", request), cast("FraudFeedback | None", label)
        rows.append(
            {
                "TRANSACTION_ID": asked.transaction_id,
                "TX_DATETIME": asked.tx_datetime,
                "CUSTOMER_ID": asked.customer_id,
                "TERMINAL_ID": asked.terminal_id,
                "TX_AMOUNT": asked.amount,
                "TX_FRAUD": int(told is not None and told.fraud),
            }
        )
    return pd.DataFrame(rows)
