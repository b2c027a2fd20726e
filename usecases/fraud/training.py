"""Fraud, offline: how a candidate is trained, measured and judged."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

from orrery.deferred import deferred
from orrery.quality import classified
from orrery.usecase import Budget, Gate, Training
from orrery.watching import Watching
from usecases.fraud.collected import collected
from usecases.fraud.drifts import DRIFTS
from usecases.fraud.features import LABEL_DELAY, TERMINAL_MEMORY
from usecases.fraud.metrics import measure
from usecases.fraud.protocol import HELD_BACK, split
from usecases.fraud.serving import FraudFeedback, FraudRequest
from usecases.fraud.source import SOURCES, describe, validate
from usecases.fraud.tables import features, history

if TYPE_CHECKING:
    import pandas as pd

Event = tuple[datetime, Literal["predict", "feedback"], BaseModel]


def requests(rows: "pd.DataFrame") -> Sequence[Event]:
    """What a client would send: each transaction, and seven days later its label; labels first at the same moment."""
    events: list[Event] = []
    names = ("TRANSACTION_ID", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD")
    moments = [moment.to_pydatetime() for moment in rows["TX_DATETIME"]]
    for at, *values in zip(moments, *(rows[name].tolist() for name in names), strict=True):
        transaction, customer, terminal, amount, fraud = values
        request = FraudRequest(
            transaction_id=transaction, customer_id=customer, terminal_id=terminal, amount=amount, tx_datetime=at
        )
        label = FraudFeedback(
            transaction_id=transaction,
            fraud=bool(fraud),
            arrived_at=at + LABEL_DELAY,
            terminal_id=terminal,
            tx_datetime=at,
        )
        events += [(at, "predict", request), (label.arrived_at, "feedback", label)]
    return sorted(events, key=lambda event: (event[0], event[1]))


_GATE = Gate(
    floors={"ap": 0.60, "auc": 0.80, "cp100": 0.20, "recall_at_fpr_0.1pct": 0.50},
    ceilings={"calibration_error": 0.005},
    compare=("ap", "auc", "cp100", "recall_at_fpr_0.1pct"),
    latency_ms=2.0,
)
# five hundred customers have ten times the share of frauds, and a hundred cards a day are a fifth of all
_SAMPLE_GATE = replace(
    _GATE,
    floors={"ap": 0.40, "auc": 0.70, "cp100": 0.05, "recall_at_fpr_0.1pct": 0.20},
    ceilings={"calibration_error": 0.06},
)

training = Training(
    sources=SOURCES,
    validate=validate,
    describe=describe,
    identity="TRANSACTION_ID",
    moment="TX_DATETIME",
    target="TX_FRAUD",
    label_delay=LABEL_DELAY,
    unit="CUSTOMER_ID",
    features=features,
    history=history,
    split=split,
    fit=deferred("usecases.fraud.fitting:fit"),
    measure=measure,
    plots=deferred("usecases.fraud.plots:plots"),
    requests=requests,
    gate=_GATE,
    sample_gate=_SAMPLE_GATE,
    replay_from=datetime(2018, 9, 12, tzinfo=UTC),
    train_days=77,
    schedule="0 3 * * 1",
    budget=Budget(trials=8, seconds=80),
    watching=Watching(
        rows=500,
        quality=classified,
        memory=TERMINAL_MEMORY,
        probability=True,
        calendar=("TX_DURING_WEEKEND", "TX_DURING_NIGHT"),
    ),
    held_back=HELD_BACK,
    collected=collected,
    drifts=DRIFTS,
)
