"""The feature table of raw sales: what the model may see of each at its own moment."""

from collections.abc import Mapping
from datetime import datetime

import pandas as pd

from usecases.house_prices.features import FEATURES, inputs, years
from usecases.house_prices.house import FIELDS


def features(raw: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    """Canonical raw rows -> the table of the view `house_features`, one row each, in the same order, float32."""
    columns = {name: raw[name].to_numpy() for name in FIELDS}
    frame = pd.DataFrame(
        inputs({**columns, "sold": years(raw["sold_at"].to_numpy("datetime64[us]"))}), columns=FEATURES
    )
    frame.insert(0, "sale_id", raw["sale_id"].to_numpy())
    frame.insert(1, "event_timestamp", raw["sold_at"].array)
    return {"house_features": frame}


def history(_: pd.DataFrame, __: datetime) -> Mapping[str, pd.DataFrame]:
    """Nothing: a request says all that the model needs."""
    return {}
