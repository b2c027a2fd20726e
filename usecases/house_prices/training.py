"""House prices, offline: how a candidate is trained, measured and judged."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel

from orrery.deferred import deferred
from orrery.usecase import Budget, Gate, Training
from orrery.watching import Watching
from usecases.house_prices.collected import collected
from usecases.house_prices.house import FIELDS
from usecases.house_prices.metrics import COVERED, live, measure, online
from usecases.house_prices.protocol import LABEL_DELAY, split
from usecases.house_prices.serving import SaleFeedback, SaleRequest
from usecases.house_prices.source import SOURCES
from usecases.house_prices.tables import features, history
from usecases.house_prices.validation import describe, validate

if TYPE_CHECKING:
    import pandas as pd

Event = tuple[datetime, Literal["predict", "feedback"], BaseModel]


def requests(rows: "pd.DataFrame") -> Sequence[Event]:
    """What a client would send: a question for each sale, and its price when the month is over."""
    events: list[Event] = []
    moments = [moment.to_pydatetime() for moment in rows["sold_at"]]
    houses = rows[["sale_id", *FIELDS]].to_dict("records")
    for at, price, house in zip(moments, rows["price"].tolist(), houses, strict=True):
        frontage = None if np.isnan(house["lot_frontage"]) else house["lot_frontage"]
        request = SaleRequest.model_validate({**house, "lot_frontage": frontage, "asked_at": at})
        label = SaleFeedback(sale_id=request.sale_id, price=price, arrived_at=at + LABEL_DELAY)
        events += [(at, "predict", request), (label.arrived_at, "feedback", label)]
    return sorted(events, key=lambda event: (event[0], event[1]))


training = Training(
    sources=SOURCES,
    validate=validate,
    describe=describe,
    identity="sale_id",
    moment="sold_at",
    target="log_price",
    label_delay=LABEL_DELAY,
    unit="sale_id",
    features=features,
    history=history,
    split=split,
    fit=deferred("usecases.house_prices.fitting:fit"),
    measure=measure,
    plots=deferred("usecases.house_prices.plots:plots"),
    requests=requests,
    gate=Gate(
        floors={"rmsle_below_linear": 0.0, COVERED: 0.85},
        ceilings={"rmsle": 0.13, "mape": 0.09},
        compare=("rmsle", "mape"),
        latency_ms=2.0,
    ),
    replay_from=datetime(2010, 1, 1, tzinfo=UTC),
    train_days=1_461,
    schedule="0 4 1 * *",
    budget=Budget(trials=8, seconds=40),
    watching=Watching(window=timedelta(days=30), rows=30, quality=live, estimate=True, labels=100),
    online=online,
    collected=collected,
)
