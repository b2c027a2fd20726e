"""The features: building all rows, agreement with the published ones, one request online, and the feature store."""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cli.console import emit, progress, say
from orrery.settings import Settings
from orrery.usecase import Key, Progress, StoredByKey, Update
from usecases.fraud.features import (
    FEATURES,
    History,
    customer_after,
    history,
    online_features,
    terminal_after,
    values,
)

if TYPE_CHECKING:
    import pandas as pd

MOMENT = datetime(2018, 9, 12, tzinfo=UTC)
JOINED, ASKED = 800_000, 3_000
_GOLDEN = Path(__file__).parents[2] / "shared" / "data" / "fraud"
_STEPS = 5


def run(report: Progress) -> dict[str, Any]:
    """All measurements; "published" is left out where the golden files are not there."""
    from usecases.fraud import simulator, tables

    raw = simulator.simulate()
    report("features", 1, _STEPS, "offline")
    started = time.perf_counter()
    built = tables.features(raw)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    speed = {"rows": len(raw), "seconds": round(seconds, 2), "rows_per_second": round(len(raw) / seconds)}
    found: dict[str, Any] = {"offline": {**speed, "process_peak_gib": round(peak, 2)}}
    report("features", 2, _STEPS, "published")
    if _GOLDEN.is_dir():
        found["published"] = _published(raw, built["transaction_features"])
    with tempfile.TemporaryDirectory() as folder:
        report("features", 3, _STEPS, "feature store")
        found["store"], histories = _feature_store(raw, built, Settings(home=Path(folder)))
        report("features", 4, _STEPS, "online")
        found["online"] = _online(raw, histories, Settings(home=Path(folder)))
    report("features", _STEPS, _STEPS)
    return found


def _published(raw: "pd.DataFrame", ours: "pd.DataFrame") -> dict[str, Any]:
    """Agreement with the golden sample and sums, in float64."""
    import pandas as pd

    from usecases.fraud import features, tables

    columns = tables.columns(raw)
    exact = features.offline_features(*columns)
    frame = pd.DataFrame(exact, columns=list(FEATURES))
    same = np.array_equal(exact.astype(np.float32), ours[list(FEATURES)].to_numpy())
    sample = pd.read_parquet(_GOLDEN / "golden_features_sample.parquet")
    names = [name for name in FEATURES if name in sample]
    sample["cents"] = tables.cents(sample["TX_AMOUNT"])
    keys = ["TX_TIME_SECONDS", "CUSTOMER_ID", "TERMINAL_ID"]
    both = sample.merge(frame.assign(cents=columns[3], **raw[keys]), on=[*keys, "cents"], suffixes=("", "_ours"))
    apart = {name: float((both[f"{name}_ours"] - both[name]).abs().max()) for name in names}
    sums = json.loads((_GOLDEN / "golden_feature_sums.json").read_text())
    return {
        "sample_rows": len(both),
        "counts_and_risks_differ": sum(gap > 0 for name, gap in apart.items() if "NB_TX" in name or "RISK" in name),
        "averages_differ_at_most": max(gap for name, gap in apart.items() if "AVG" in name),
        "sums_differ_at_most_relative": max(abs(frame[n].sum() / sums[n] - 1) for n in names if sums[n]),
        "float32_tables_are_the_same_bits": same,
    }


def _feature_store(
    raw: "pd.DataFrame", built: dict[str, "pd.DataFrame"], settings: Settings
) -> tuple[dict[str, Any], dict[str, "pd.DataFrame"]]:
    """Writing, the point-in-time join, and materializing the histories of `MOMENT`."""
    from orrery.adapters.feature_store import FeatureStore
    from usecases import feature_views
    from usecases.fraud import tables

    store = FeatureStore(settings)
    store.apply(feature_views("fraud"))
    written = _seconds(lambda: store.write_offline(built))
    rows = raw[["TRANSACTION_ID", "TX_DATETIME"]].iloc[-JOINED:]
    joined = _seconds(lambda: store.training_rows("fraud", rows))
    histories = tables.history(raw, MOMENT)
    store.write_offline(histories)
    materialized = _seconds(lambda: store.materialize(list(histories), MOMENT))
    found = {
        "write_seconds": round(written, 2),
        "join_rows": len(rows),
        "join_seconds": round(joined, 2),
        "join_rows_per_second": round(len(rows) / joined),
        "materialized_rows": sum(map(len, histories.values())),
        "materialize_seconds": round(materialized, 2),
    }
    return found, histories


def _online(raw: "pd.DataFrame", histories: dict[str, "pd.DataFrame"], settings: Settings) -> dict[str, float]:
    """The next transactions after `MOMENT`, one by one: read, windows, learn. Microseconds."""
    from orrery.adapters.online_store import open_online_store
    from usecases.fraud import tables

    store = open_online_store(settings)
    later = raw[raw["TX_DATETIME"] >= MOMENT].head(ASKED)
    times, customers, terminals, amounts, _ = (column.tolist() for column in tables.columns(later))
    spans: dict[str, list[float]] = {"read": [], "windows": [], "learn": []}
    for row, (at, cents) in enumerate(zip(times, amounts, strict=True)):
        keys = (Key("customer_history", customers[row]), Key("terminal_history", terminals[row]))
        started = time.perf_counter()
        stored = store.read(keys)
        read = time.perf_counter()
        online_features(at, cents, *_histories(stored, keys))
        computed = time.perf_counter()
        store.apply("fraud", row + 1, keys, partial(_lesson, keys, at, cents))
        for name, span in zip(spans, (read - started, computed - read, time.perf_counter() - computed), strict=True):
            spans[name].append(span * 1e6)
    store.close()
    lengths = [len(times) for table in histories.values() for times in table["times"]]
    found = {f"{name}_{label}_us": round(float(np.percentile(each, at)), 1)
             for name, each in spans.items() for label, at in (("p50", 50), ("p99", 99))}  # fmt: skip
    return {"requests": len(later), "entries_per_history_mean": round(float(np.mean(lengths)), 1), **found}


def _histories(stored: StoredByKey, keys: tuple[Key, Key]) -> tuple[History, History]:
    return history(stored[keys[0]].values, "cents"), history(stored[keys[1]].values, "frauds")


def _lesson(keys: tuple[Key, Key], at: int, cents: int, stored: StoredByKey) -> list[Update]:
    spent, seen = _histories(stored, keys)
    return [
        Update(keys[0], values(customer_after(spent, at, cents), "cents"), MOMENT),
        Update(keys[1], values(terminal_after(seen, at), "frauds"), MOMENT),
    ]


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="the measurements as one JSON document")
    as_json = parser.parse_args().json
    with progress() as report:
        found = run(report)
    if as_json:
        emit(found, True)
        return
    for title, part in found.items():
        emit(part, False, title)
    say(f"golden files: {'compared' if 'published' in found else 'not there, so not compared'}")


if __name__ == "__main__":
    main()
