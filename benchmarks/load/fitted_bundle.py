"""A bundle and an online store of a use case's default data, without flows or a registry: for measuring its serving."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import usecases
from orrery.adapters.feature_store import FeatureStore
from orrery.adapters.model_source import LastGood, Registered
from orrery.building import seal
from orrery.lifecycle import Snapshot
from orrery.settings import Settings
from orrery.usecase import Budget, Progress, SourceRequest, Window

if TYPE_CHECKING:
    import pandas as pd

_BUDGET = Budget(trials=1, seconds=10, threads=1)


def fitted(use_case: str, settings: Settings, progress: Progress, *, sample: bool = False) -> "pd.DataFrame":
    """Train on what was known when a demo's replay starts, keep it as the last good bundle, fill the online store.

    Returns all raw rows.
    """
    case = usecases.case(use_case)
    training, moment = case.training, case.training.replay_from
    source, reader = next(iter(training.sources.items()))
    raw = training.validate(reader(SourceRequest(source, sample=sample), progress))
    window = Window(moment, training.train_days)
    split = training.split(_with_features(use_case, raw[raw[training.moment] < moment]), window)
    last_good = LastGood(settings.models_folder / use_case)
    fit = training.fit(split, _BUDGET, progress, last_good.empty_folder())
    bundle = seal(case, Snapshot(use_case, Path(), "bench", {}), window, split, fit, settings)
    last_good.adopt(bundle)
    last_good.keep(Registered(use_case, "1", "bench", bundle.digest, ""))
    store = FeatureStore(settings)
    store.apply(case.views)
    tables = training.history(raw, moment)
    store.write_offline(tables)
    store.materialize(list(tables), min(moment, datetime.now(UTC)))
    return raw


def _with_features(use_case: str, raw: "pd.DataFrame") -> "pd.DataFrame":
    names, identity = usecases.serving(use_case).logged, usecases.training(use_case).identity
    tables = usecases.training(use_case).features(raw)
    view = next(table for table in tables.values() if set(names) <= set(table.columns))
    kept = raw.drop(columns=[name for name in names if name in raw])
    return kept.merge(view[[identity, *names]], on=identity, validate="1:1")
