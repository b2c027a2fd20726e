"""Fraud, offline: how a candidate is trained, measured and judged."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel

from orrery.adapters.tree_graph import write_trees
from orrery.quality import classified
from orrery.usecase import Array, Budget, Fitted, Gate, Progress, Split, Training
from orrery.watching import Watching
from usecases.fraud import autoencoder, model, plots
from usecases.fraud.calibration import decision_metrics, fit_calibration, fit_thresholds
from usecases.fraud.collected import collected
from usecases.fraud.drifts import DRIFTS
from usecases.fraud.features import FEATURES, LABEL_DELAY, TERMINAL_MEMORY
from usecases.fraud.metrics import COSTS, measure, ranking
from usecases.fraud.protocol import HELD_BACK, split
from usecases.fraud.scoring import AUTOENCODER, BOOSTER, CLASSIFIER, calibrate
from usecases.fraud.serving import FraudFeedback, FraudRequest
from usecases.fraud.source import SOURCES, describe, validate
from usecases.fraud.tables import features, history

if TYPE_CHECKING:
    import pandas as pd

Event = tuple[datetime, Literal["predict", "feedback"], BaseModel]
_EXPLAINED_ROWS = 5_000


def fit(split: Split, budget: Budget, progress: Progress, folder: Path) -> Fitted:
    """Search on the folds, learn calibration, thresholds and novelty on the last validation, train on all."""
    folder.mkdir(parents=True, exist_ok=True)
    found = model.search(split.folds, FEATURES, budget, progress)
    earlier, later = split.folds[-1]
    progress("fit", 0, 3, "calibration on a later slice")
    raw = model.predict(model.fit(earlier, FEATURES, found, budget), inputs_of(later), budget)
    target = later["TX_FRAUD"].to_numpy()
    calibration = fit_calibration(raw, target)
    score = calibrate(raw, calibration)
    thresholds = fit_thresholds(later, score)
    encoder = autoencoder.fit_autoencoder(inputs_of(_ordinary(earlier)), budget, progress)
    autoencoder.export(encoder, folder / AUTOENCODER)
    progress("fit", 1, 3, "ablation of the novelty")
    novelty, ablation = _novelty(encoder, split, found, budget)
    progress("fit", 2, 3, f"{found.rounds} trees on {len(split.train):,} rows")
    booster = model.fit(split.train, FEATURES, found, budget)
    sample = inputs_of(later.sample(min(_EXPLAINED_ROWS, len(later)), random_state=budget.seed))
    write_trees(booster, folder / CLASSIFIER, sample, folder / BOOSTER)
    progress("fit", 3, 3)
    pictures = folder.with_name("plots")
    pictures.mkdir(exist_ok=True)
    contributions = np.asarray(booster.predict(sample, pred_contrib=True, num_threads=budget.threads))
    return Fitted(
        folder=folder,
        learned={"calibration": calibration, "thresholds": thresholds, "novelty": novelty, "costs": dict(COSTS)},
        parameters={**found.parameters, "rounds": found.rounds, "trials": found.trials, "seed": budget.seed},
        metrics={
            "search_ap": found.ap,
            **ablation,
            "ablation_ap_without_novelty": _ap(target, raw),
            **{f"later_{name}": value for name, value in decision_metrics(later, score, thresholds).items()},
        },
        plots={
            "importance": plots.importance(contributions, FEATURES, pictures / "importance.png"),
            "learning_curve": plots.learning_curve(found.curve, pictures / "learning_curve.png"),
        },
    )


def inputs_of(rows: "pd.DataFrame") -> Array:
    """The model's inputs, float32, shape (n, features)."""
    return rows[list(FEATURES)].to_numpy(np.float32)


def _ordinary(rows: "pd.DataFrame") -> "pd.DataFrame":
    return rows[rows["TX_FRAUD"] == 0]


def _novelty(
    encoder: autoencoder.Autoencoder, split: Split, found: model.Found, budget: Budget
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """The novelty's scale, and the average precision on the later slice of novelty alone and as one more input."""
    errors = [autoencoder.reconstruction_error(encoder, inputs_of(rows)) for rows in split.folds[-1]]
    earlier, later = (rows.assign(NOVELTY=error) for rows, error in zip(split.folds[-1], errors, strict=True))
    names = (*FEATURES, "NOVELTY")
    raw = model.predict(model.fit(earlier, names, found, budget), later[list(names)].to_numpy(np.float32), budget)
    target = later["TX_FRAUD"].to_numpy()
    ablation = {"ablation_ap_novelty_alone": _ap(target, errors[1]), "ablation_ap_with_novelty": _ap(target, raw)}
    return autoencoder.fit_novelty(errors[1][target == 0]), ablation


def _ap(target: Array, score: Array) -> float:
    return ranking(target.astype(np.float64), score)(np.ones(len(score)))["ap"]


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
    fit=fit,
    measure=measure,
    plots=plots.plots,
    requests=requests,
    gate=_GATE,
    sample_gate=_SAMPLE_GATE,
    replay_from=datetime(2018, 9, 12, tzinfo=UTC),
    train_days=77,
    schedule="0 3 * * 1",
    budget=Budget(trials=8, seconds=80),
    watching=Watching(rows=500, quality=classified, memory=TERMINAL_MEMORY, probability=True),
    held_back=HELD_BACK,
    collected=collected,
    drifts=DRIFTS,
)
