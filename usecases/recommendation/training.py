"""How recommendation is trained: the past as clients sent it, and what a candidate must be."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel

from orrery.deferred import deferred
from orrery.usecase import Array, Budget, Gate, Training
from orrery.watching import Watching
from usecases.recommendation.collected import collected
from usecases.recommendation.counterfactual import off_policy
from usecases.recommendation.metrics import measure
from usecases.recommendation.protocol import judged, split
from usecases.recommendation.requests import RecommendationFeedback, RecommendationRequest
from usecases.recommendation.simulator import online, react
from usecases.recommendation.source import SOURCES, describe, validate
from usecases.recommendation.tables import asked, features, history, inputs
from usecases.recommendation.watched import SAMPLED, impressions, measures, popularity, shown

if TYPE_CHECKING:
    import pandas as pd

Event = tuple[datetime, Literal["predict", "feedback"], BaseModel]


def liked(_: Array, labels: Array) -> dict[str, float]:
    """Of the answered requests, shape (n,), the share whose latest feedback was a like; NaN: there was none."""
    return {"liked_share": float(np.nan_to_num(labels).mean())}


def requests(rows: "pd.DataFrame") -> Sequence[Event]:
    """What clients sent: before each rating a request for items, and then the rating; of one moment, requests first."""
    events: list[Event] = []
    moments = [moment.to_pydatetime() for moment in rows["AT"]]
    columns = (rows[name].tolist() for name in ("EVENT_ID", "USER_ID", "ITEM_ID", "RATING"))
    for at, event, user, item, rating in zip(moments, *columns, strict=True):
        request = RecommendationRequest(request_id=str(event), user_id=user, at=at)
        rated = RecommendationFeedback(
            request_id=request.request_id, user_id=user, item_id=item, event="rating", rating=rating, at=at
        )
        events += [(at, "predict", request), (at, "feedback", rated)]
    return sorted(events, key=lambda event: (event[0], event[1] == "feedback"))


training = Training(
    sources=SOURCES,
    validate=validate,
    describe=describe,
    identity="EVENT_ID",
    moment="AT",
    target="ITEM_ID",
    label_delay=timedelta(0),
    unit="USER_ID",
    features=features,
    history=history,
    judged=judged,
    inputs=inputs,
    split=split,
    fit=deferred("usecases.recommendation.model:fit"),
    measure=measure,
    plots=deferred("usecases.recommendation.plots:plots"),
    requests=requests,
    react=react,
    online=online,
    off_policy=off_policy,
    collected=collected,
    asked=asked,
    gate=Gate(
        floors={
            "ndcg10": 0.02,
            "visits_over_liked": 0.0,
        },
        ceilings={},
        compare=("ndcg10", "recall10", "leave_last_ndcg10"),
        latency_ms=15.0,
        no_worse=("warm_over_popular", "cold_over_popular", "last_over_popular"),
    ),
    replay_from=datetime(2016, 6, 1, tzinfo=UTC),
    train_days=8_000,
    schedule="0 4 * * 1",
    budget=Budget(trials=20, seconds=60),
    watching=Watching(
        window=timedelta(days=7),
        rows=100,
        quality=liked,
        measures=measures,
        sampled=SAMPLED,
        unit="user_history",
        answered=shown,
        impressions=impressions,
        popularity=popularity,
        target="greedy",
        pooled=4,
    ),
)
