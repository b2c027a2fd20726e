"""House prices, offline: how a candidate is trained, measured and judged."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel

from orrery.usecase import Budget, Fitted, Gate, Outputs, Progress, Split, Training
from orrery.watching import Watching
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


def fit(split: Split, budget: Budget, progress: Progress, folder: Path) -> Fitted:
    """The model, by libraries that take seconds to load: only who fits pays for them."""
    from usecases.house_prices import fitting

    return fitting.fit(split, budget, progress, folder)


def plots(rows: "pd.DataFrame", outputs: Outputs, folder: Path) -> Mapping[str, Path]:
    """Drawn for the evaluated rows."""
    from usecases.house_prices.plots import plots

    return plots(rows, outputs, folder)


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
    fit=fit,
    measure=measure,
    plots=plots,
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
    watching=Watching(window=timedelta(days=30), rows=30, quality=live, estimate=True),
    online=online,
)
