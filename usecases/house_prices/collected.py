"""Houses that were asked about and sold, as raw rows: what a release learns from what was served."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from pydantic import BaseModel

from orrery.usecase import KnownRows
from usecases.house_prices.house import FIELDS
from usecases.house_prices.serving import SaleFeedback, SaleRequest

if TYPE_CHECKING:
    import pandas as pd


def collected(requests: Iterable[BaseModel], feedback: Iterable[BaseModel], _: KnownRows) -> "pd.DataFrame":
    """One row a house that was sold, at the latest price that was told; one that was not sold yet teaches nothing."""
    import pandas as pd

    prices = {told.sale_id: told.price for told in cast("Iterable[SaleFeedback]", feedback)}
    rows = [
        (asked.sale_id, asked.asked_at, prices[asked.sale_id], *(getattr(asked, name) for name in FIELDS))
        for asked in cast("Iterable[SaleRequest]", requests)
        if asked.sale_id in prices
    ]
    columns = ["sale_id", "sold_at", "price", *FIELDS]
    return pd.DataFrame(rows, columns=columns).astype({"sold_at": "datetime64[us, UTC]", "lot_frontage": "float64"})
