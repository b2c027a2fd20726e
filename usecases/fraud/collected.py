"""Transactions that were answered, as raw rows: what a release learns from what was served."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from pydantic import BaseModel

from orrery.usecase import KnownRows
from usecases.fraud.serving import FraudFeedback, FraudRequest

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD")


def collected(requests: Iterable[BaseModel], feedback: Iterable[BaseModel], _: KnownRows) -> "pd.DataFrame":
    """One row a transaction, fraud where its latest label says so; one without a label yet counts as legitimate.

    Training and its features look at labels only where they are older than the label delay.
    """
    import pandas as pd

    frauds = {told.transaction_id: told.fraud for told in cast("Iterable[FraudFeedback]", feedback)}
    rows = [
        (
            asked.transaction_id,
            asked.tx_datetime,
            asked.customer_id,
            asked.terminal_id,
            asked.amount,
            int(frauds.get(asked.transaction_id, False)),
        )
        for asked in cast("Iterable[FraudRequest]", requests)
    ]
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype({"TX_DATETIME": "datetime64[us, UTC]"})
