"""From a snapshot to a candidate: features, the rows that were known, a fitted and sealed bundle, its run."""

import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from orrery.adapters.locks import exclusive
from orrery.adapters.registry import BUNDLE, Record, Registry
from orrery.bundle import Bundle, Feature, Golden
from orrery.errors import OrreryError
from orrery.lifecycle import Candidate, Snapshot
from orrery.provenance import code_hash, git_commit, lock_hash, training_key
from orrery.settings import Settings
from orrery.usecase import Array, Budget, Case, Fitted, Outputs, Progress, Split, Window, silent

if TYPE_CHECKING:
    import pandas as pd

_BUILD_SECONDS = 900.0
CHECKPOINTS = "checkpoints"
"""the folder, beside a candidate's bundle, in which a fit may keep how far it is"""


class WindowRefused(OrreryError):
    """Nothing was known in that window."""


class Features(Protocol):
    """What a release asks of the feature store."""

    def apply(self, declared: Sequence[Any]) -> None:
        """Register what a use case declares."""

    def write_offline(self, tables: Mapping[str, "pd.DataFrame"]) -> None:
        """Replace the offline tables, by feature view."""

    def training_rows(self, use_case: str, rows: "pd.DataFrame") -> "pd.DataFrame":
        """Rows with the use case's features, each as of the row's own moment."""

    def materialize(self, views: Sequence[str], end: datetime, progress: Progress = silent) -> None:
        """Bring the online store to what the offline tables say of `end`."""


def budget_of(case: Case, settings: Settings, trials: int = 0, seconds: float = 0) -> Budget:
    """What a training may cost: as asked, else as set, else as the use case says."""
    own, configured = case.training.budget, settings.training
    return Budget(
        trials=trials or configured.trials or own.trials,
        seconds=seconds or configured.seconds or own.seconds,
        seed=own.seed,
        threads=configured.threads,
    )


def window_of(case: Case, snapshot: Snapshot, as_of: datetime | None = None, days: int | None = None) -> Window:
    """The training window: up to `as_of`, by default the data's last event. Raises WindowRefused beyond it."""
    first, last = span_of(case, snapshot)
    as_of = as_of or last
    if not first < as_of <= last + case.training.label_delay:
        span = f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
        raise WindowRefused(f"--as-of {as_of:%Y-%m-%d} is outside the data, which runs from {span}")
    return Window(as_of, days or case.training.train_days)


def span_of(case: Case, snapshot: Snapshot) -> tuple[datetime, datetime]:
    """The moments of the first and the last row."""
    import pyarrow.compute
    import pyarrow.parquet

    moments = pyarrow.parquet.read_table(snapshot.path, columns=[case.training.moment]).column(0)
    ends = pyarrow.compute.min_max(moments).as_py()
    return ends["min"], ends["max"]


def build_features(
    case: Case, snapshot: Snapshot, store: Features, settings: Settings, progress: Progress = silent
) -> None:
    """Compute the offline tables of all rows of the snapshot, once per data and code, and give them to the store."""
    import pandas as pd

    mark = settings.feature_folder / f"{case.name}.built"
    wanted = f"{snapshot.data_version} {code_hash(case.name)}"
    mark.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(settings, f"features-{case.name}", _BUILD_SECONDS):
        if mark.is_file() and mark.read_text() == wanted:
            progress("features", 1, 1, "built before")
            return
        mark.unlink(missing_ok=True)
        progress("features", 0, 2, "compute")
        tables = case.training.features(pd.read_parquet(snapshot.path))
        progress("features", 1, 2, "write")
        store.apply(case.views)
        store.write_offline(tables)
        mark.write_text(wanted)
    progress("features", 2, 2, f"{sum(map(len, tables.values())):,} rows")


def materialize(
    case: Case, snapshot: Snapshot, store: Features, settings: Settings, end: datetime, progress: Progress = silent
) -> None:
    """Bring the online store to what was known at `end`. What it has learned since then stays.

    Raises the feature store's FutureDate for a moment that has not come.
    """
    import pandas as pd

    with exclusive(settings, f"features-{case.name}", _BUILD_SECONDS):
        tables = case.training.history(pd.read_parquet(snapshot.path), end)
        store.apply(case.views)
        store.write_offline(tables)
        store.materialize(list(tables), end, progress)


def rows_between(case: Case, snapshot: Snapshot, first: datetime, last: datetime, store: Features) -> "pd.DataFrame":
    """Raw rows with first <= moment < last, joined with what the feature store knew at each row's own moment."""
    return store.training_rows(case.name, raw_between(case, snapshot, first, last))


def rows_to_judge(case: Case, snapshot: Snapshot, first: datetime, last: datetime, store: Features) -> "pd.DataFrame":
    """The rows of `rows_between`, or what the use case asks of that window instead."""
    rows, judged = rows_between(case, snapshot, first, last, store), case.training.judged
    return judged(rows, raw_between(case, snapshot, None, last)) if judged else rows


def raw_between(case: Case, snapshot: Snapshot, first: datetime | None, last: datetime) -> "pd.DataFrame":
    """Raw rows with first <= moment < last. Raises WindowRefused when there are none."""
    import pandas as pd

    moment = case.training.moment
    filters = [(moment, "<", last)] + ([(moment, ">=", first)] if first else [])
    raw = pd.read_parquet(snapshot.path, filters=filters)
    if raw.empty:
        begin = f"{first:%Y-%m-%d %H:%M}" if first else "the beginning"
        raise WindowRefused(f"{case.name} has no rows from {begin} to {last:%Y-%m-%d %H:%M}; choose another window")
    return raw


def split_rows(case: Case, snapshot: Snapshot, window: Window, store: Features) -> Split:
    """The rows whose labels had arrived at `as_of`, with features, by what they may be used for."""
    moment = case.training.moment
    matured = window.as_of - case.training.label_delay + timedelta(microseconds=1)
    raw = raw_between(case, snapshot, None, matured)
    # a first split without features, so that only rows in use are joined
    first = case.training.split(raw, window).train[moment].min()
    return case.training.split(store.training_rows(case.name, raw[raw[moment] >= first]), window)


def train(
    case: Case,
    snapshot: Snapshot,
    window: Window,
    budget: Budget,
    split: Split,
    settings: Settings,
    progress: Progress = silent,
) -> Candidate:
    """Fit, seal and log a candidate; the finished run of the same key is used again instead of training anew."""
    registry = Registry(settings)
    key = training_key(case.name, snapshot.data_version, window, budget)
    folder = work_folder(settings, case.name, key)
    run_id = registry.find_run(case.name, key)
    if run_id is not None:
        progress("train", 1, 1, f"the same training is run {run_id}")
        bundle = registry.download(run_id, registry.run_tags(run_id)["digest"], folder)
    else:
        target = folder / BUNDLE
        target.mkdir(parents=True)
        fitted = case.training.fit(split, budget, progress, target)
        bundle = seal(case, snapshot, window, split, fitted, settings)
        run_id = registry.log_run(_record(case, bundle, fitted, window, budget, key))
    return Candidate(case.name, run_id, bundle, window, key)


def work_folder(settings: Settings, use_case: str, key: str) -> Path:
    """A folder for one training. Of what an earlier one left, the same one's checkpoints stay, to go on from.

    The caller holds the release lock.
    """
    parent = settings.home.absolute() / "work" / use_case
    folder = parent / key[:16]
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / CHECKPOINTS
    for left in {*parent.iterdir(), *folder.iterdir()} - {folder, kept}:
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    return folder


def seal(case: Case, snapshot: Snapshot, window: Window, split: Split, fitted: Fitted, settings: Settings) -> Bundle:
    """Write the manifest. Its reference is what came while the rows it is judged on did, unless that is little."""
    from orrery.adapters.model_server import load_model
    from orrery.reference import Rows, golden_rows, importances, reference_histograms

    names = list(case.serving.feature_names)
    moments = split.train[case.training.moment]
    about: dict[str, Any] = {
        "use_case": case.name,
        "created_at": datetime.now(UTC),
        "trained_from": moments.min().to_pydatetime(),
        "trained_to": moments.max().to_pydatetime(),
        "as_of": window.as_of,
        "rows": len(split.train),
        "data_version": snapshot.data_version,
        "git_commit": git_commit(settings),
        "lock_hash": lock_hash(),
        "features": [Feature(name=name) for name in names],
        "learned": dict(fitted.learned),
    }
    # scoring needs a loaded bundle, so the first manifest has no answers yet
    Bundle.write(fitted.folder, {**about, "reference": {}, "golden": Golden(inputs=[], outputs={})})
    later, watched = case.training.inputs_of(split.test, names), case.serving.monitored_output
    score = partial(case.serving.score, load_model(fitted.folder))
    outputs = score(later)
    usual = split.test if split.usual is None else split.usual
    seen = outputs if split.usual is None else score(case.training.inputs_of(usual, names))
    inputs = usual[names].to_numpy(np.float32)
    Rows(inputs, seen[watched], _labels(case, usual)).keep(fitted.folder)
    apart = _independent(case, usual)
    inputs, seen = inputs[apart], {name: values[apart] for name, values in seen.items()}
    if len(apart) < case.training.watching.rows:
        inputs = split.train[names].to_numpy(np.float32)[_independent(case, split.train)]
    known = {
        "reference": reference_histograms(inputs, names, seen),
        "samples": _samples(case, usual.iloc[apart], seen),
        "importance": importances(score, later, names, watched),
        "golden": golden_rows(later, outputs, watched),
    }
    return Bundle.write(fitted.folder, about | known)


def _samples(case: Case, rows: "pd.DataFrame", outputs: Outputs) -> dict[str, list[Any]]:
    from orrery.reference import reference_samples

    logged, sampled = case.serving.logged, case.training.watching.sampled
    return reference_samples(rows[list(logged)].to_numpy(np.float32), logged, outputs, sampled)


def _independent(case: Case, rows: "pd.DataFrame") -> Array:
    """The places of the rows that the watch compares: of each unit's in a window the first, where these are alike.

    A reference that is thinned in another way than windows are would be of another kind.
    """
    training = case.training
    if training.watching.unit is None:
        return np.arange(len(rows))
    windows = rows[training.moment].dt.floor(training.watching.window)
    return np.flatnonzero(rows.groupby([training.unit, windows], sort=False).cumcount() == 0)


def _labels(case: Case, rows: "pd.DataFrame") -> Array:
    """What the watched output is measured against, where it is."""
    if case.training.watching.task is None:
        return np.full(len(rows), np.nan)
    return rows[case.training.target].to_numpy(np.float64)


def _record(case: Case, bundle: Bundle, fitted: Fitted, window: Window, budget: Budget, key: str) -> Record:
    manifest = bundle.manifest
    return Record(
        use_case=case.name,
        name=f"{case.name} as of {window.as_of:%Y-%m-%d}",
        parameters={
            "as_of": window.as_of.isoformat(),
            "days": window.days,
            "rows": manifest.rows,
            "trials": budget.trials,
            "seconds": budget.seconds,
            "seed": budget.seed,
            **fitted.parameters,
        },
        metrics=fitted.metrics,
        tags={
            "idempotency_key": key,
            "data_version": manifest.data_version,
            "git_commit": manifest.git_commit,
            "lock_hash": manifest.lock_hash,
        },
        bundle=bundle,
        plots=fitted.plots,
    )
