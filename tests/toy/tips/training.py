"""Split, fit, measure."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel

from orrery.usecase import Array, Budget, Fitted, Gate, Outputs, Progress, Split, Training, Window
from usecases.tips.features import FEATURES, inputs
from usecases.tips.serving import TipsFeedback, TipsRequest
from usecases.tips.source import START, delay, generate, validate, visits_before


def _features(raw: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    rows = inputs(raw["bill"].to_numpy(), raw["guests"].to_numpy(), visits_before(raw).to_numpy())
    table = pd.DataFrame(rows.astype(np.float64), columns=list(FEATURES))
    return {"table_features": table.assign(table_id=raw["table_id"], event_timestamp=raw["at"])}


def _history(raw: pd.DataFrame, moment: datetime) -> Mapping[str, pd.DataFrame]:
    seen = raw[raw["at"] < moment].groupby("waiter_id")
    counts = seen.agg(visits=("table_id", "size"), event_timestamp=("at", "max")).reset_index()
    return {"waiter_visits": counts}


def _split(rows: pd.DataFrame, window: Window) -> Split:
    end = window.as_of - delay()
    known = rows[(rows["at"] >= end - timedelta(days=window.days)) & (rows["at"] < end)]
    test_start, gap = end - timedelta(days=7), delay()
    train = known[known["at"] < test_start - gap]
    fold = test_start - gap - timedelta(days=3)
    pair = (train[train["at"] < fold - gap], train[train["at"] >= fold])
    return Split(train=train, folds=(pair,), test=known[known["at"] >= test_start])


def _fit(split: Split, budget: Budget, progress: Progress, folder: Path) -> Fitted:
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    rows = split.train[list(FEATURES)].to_numpy(np.float32)
    model = LogisticRegression(random_state=budget.seed).fit(rows, split.train["generous"])
    graph = to_onnx(model, rows[:1], options={id(model): {"zipmap": False}})
    (folder / "classifier.onnx").write_bytes(graph.SerializeToString())
    progress("fit", 1, 1)
    return Fitted(folder, learned={}, parameters={"C": 1.0}, metrics={}, plots={})


def _measure(rows: pd.DataFrame, outputs: Outputs) -> Callable[[Array], Mapping[str, float]]:
    from sklearn.metrics import brier_score_loss, roc_auc_score

    truth, scores = rows["generous"].to_numpy(), outputs["score"]
    return lambda weights: {
        "auc": float(roc_auc_score(truth, scores, sample_weight=weights)),
        "brier": float(brier_score_loss(truth, scores, sample_weight=weights)),
    }


def _plots(_: pd.DataFrame, __: Outputs, ___: Path) -> Mapping[str, Path]:
    return {}


def _requests(raw: pd.DataFrame) -> Sequence[tuple[datetime, Literal["predict", "feedback"], BaseModel]]:
    events: list[tuple[datetime, Literal["predict", "feedback"], BaseModel]] = []
    for row in raw.itertuples(index=False):
        at = row.at.to_pydatetime()
        request = TipsRequest(table_id=row.table_id, waiter_id=row.waiter_id, bill=row.bill, guests=row.guests, at=at)
        known = TipsFeedback(table_id=row.table_id, generous=bool(row.generous), arrived_at=at + delay())
        events += [(at, "predict", request), (at + delay(), "feedback", known)]
    return sorted(events, key=lambda event: (event[0], event[1]))


training = Training(
    sources={"generated": generate},
    validate=validate,
    describe=lambda raw: {"rows": len(raw), "generous": int(raw["generous"].sum())},
    identity="table_id",
    moment="at",
    target="generous",
    label_delay=delay(),
    unit="waiter_id",
    features=_features,
    history=_history,
    split=_split,
    fit=_fit,
    measure=_measure,
    plots=_plots,
    requests=_requests,
    gate=Gate(floors={"auc": 0.7}, ceilings={"brier": 0.2}, compare=("auc",), latency_ms=20),
    replay_from=START + timedelta(days=36),
    train_days=30,
    schedule="0 4 * * *",
    budget=Budget(trials=1, seconds=10),
)
