"""A real fraud bundle, fitted in seconds on a small simulated set: for measuring and testing the way it is served."""

from datetime import UTC, datetime
from pathlib import Path

import lightgbm as lgb
import numpy as np

from orrery.adapters.model_server import load_model
from orrery.adapters.tree_graph import write_trees
from orrery.bundle import Bundle, Feature, Golden
from orrery.reference import golden_rows, reference_histograms
from orrery.usecase import Budget, silent
from usecases.fraud import autoencoder
from usecases.fraud.features import FEATURES
from usecases.fraud.scoring import AUTOENCODER, BOOSTER, CLASSIFIER, score
from usecases.fraud.simulator import simulate
from usecases.fraud.tables import features

_CUSTOMERS, _TERMINALS, _DAYS = 150, 300, 60
_PARAMETERS = {"objective": "binary", "num_leaves": 15, "learning_rate": 0.05, "verbosity": -1, "num_threads": 1}


def small_bundle(folder: Path, rounds: int = 60, seed: int = 7) -> Bundle:
    """Fit and write a bundle. The same arguments give the same answers; another seed gives another model."""
    raw = simulate(silent, customers=_CUSTOMERS, terminals=_TERMINALS, days=_DAYS)
    inputs = features(raw)["transaction_features"][list(FEATURES)].to_numpy(np.float32)
    target = raw["TX_FRAUD"].to_numpy(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    data = lgb.Dataset(inputs, target, feature_name=list(FEATURES))
    booster = lgb.train({**_PARAMETERS, "seed": seed, "feature_fraction": 0.7}, data, rounds)
    write_trees(booster, folder / CLASSIFIER, inputs[:500], folder / BOOSTER)
    ordinary = inputs[target == 0][:4_000]
    encoder = autoencoder.fit_autoencoder(ordinary, Budget(1, 1, seed=seed, threads=1), silent)
    autoencoder.export(encoder, folder / AUTOENCODER)
    review, decline = np.quantile(booster.predict(inputs), [0.97, 0.99])
    about = {
        "use_case": "fraud",
        "created_at": datetime(2018, 9, 1, tzinfo=UTC),
        "trained_from": raw["TX_DATETIME"].min().to_pydatetime(),
        "trained_to": raw["TX_DATETIME"].max().to_pydatetime(),
        "as_of": raw["TX_DATETIME"].max().to_pydatetime(),
        "rows": len(raw),
        "data_version": "small",
        "git_commit": "none",
        "lock_hash": "none",
        "features": [Feature(name=name) for name in FEATURES],
        "learned": {
            "calibration": {"slope": 1.0, "intercept": 0.0},
            "thresholds": {"review": float(review), "decline": float(decline)},
            "novelty": autoencoder.fit_novelty(autoencoder.reconstruction_error(encoder, ordinary)),
            "costs": {},
        },
        "reference": {},
        "golden": Golden(inputs=[], outputs={}),
    }
    Bundle.write(folder, about)
    outputs = score(load_model(folder), inputs[:2_000])
    found = {"reference": reference_histograms(inputs[:2_000], FEATURES, outputs)}
    return Bundle.write(folder, about | found | {"golden": golden_rows(inputs[:2_000], outputs)})
