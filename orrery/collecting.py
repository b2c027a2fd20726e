"""Raw data that were served: what was asked and told since the last data set takes the place of what that one says."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from orrery.adapters.database import open_database
from orrery.adapters.traffic_log import TrafficLog
from orrery.errors import OrreryError
from orrery.lifecycle import Snapshot
from orrery.preparation import LOGGED, current, data_versions, snapshot
from orrery.settings import Settings
from orrery.usecase import Case, Progress, Serving, SourceRequest, silent

if TYPE_CHECKING:
    import pandas as pd


class NothingCollected(OrreryError):
    """There is nothing to learn from that was served."""


def collect(case: Case, settings: Settings, last: datetime, progress: Progress = silent) -> Snapshot:
    """A new version of the raw data: the current one, with what was served before `last` in the place of its rows.

    An event that was asked about is as it was asked and as its latest label says. Raises NothingCollected, NoData, and
    what validation and the version store raise.
    """
    training = case.training
    if training.collected is None:
        raise NothingCollected(f"{case.name} does not say how its requests become raw rows; name another source")
    base = current(case.name, settings)
    traffic = TrafficLog(open_database(settings.log_url, settings.log.durable))
    progress("collect", 0, 3, "read the log")
    served = training.collected(events(case.serving, traffic, case.name, last))
    if served.empty:
        raise NothingCollected(
            f"no request of {case.name} before {last:%Y-%m-%d %H:%M} was answered; nothing is learned"
        )
    progress("collect", 1, 3, f"{len(served):,} events")
    valid = training.validate(together(base.path, served, training.identity))
    progress("collect", 2, 3, "version")
    versions = data_versions(settings)
    version = versions.add(case.name, valid, training.describe(valid), SourceRequest(LOGGED, sample=base.sample))
    progress("collect", 3, 3, version.short)
    return snapshot(version, versions)


def events(
    serving: Serving, traffic: TrafficLog, use_case: str, last: datetime, first: datetime | None = None
) -> Iterator[tuple[BaseModel, BaseModel | None]]:
    """Every answered event of [first, last), with its latest feedback; without `first`, all before `last`."""
    for request, feedback in traffic.answered(use_case, last, first):
        told = serving.feedback.model_validate_json(feedback) if feedback else None
        yield serving.request.model_validate_json(request), told


def together(
    base: Path, served: "pd.DataFrame", identity: str, known: Sequence[tuple[str, str, object]] = ()
) -> "pd.DataFrame":
    """The raw rows at `base` that are as `known` says, and the served ones, which take the place of the same."""
    import pandas as pd

    rows = pd.read_parquet(base, columns=list(served.columns), filters=list(known) or None)
    return pd.concat([rows[~rows[identity].isin(served[identity])], served], ignore_index=True)
