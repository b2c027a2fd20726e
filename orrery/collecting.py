"""Raw data that were served: what was asked and told since the last data set takes the place of what that one says."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from orrery.adapters.database import open_database
from orrery.adapters.traffic_log import TrafficLog, still_valid
from orrery.errors import OrreryError
from orrery.lifecycle import Snapshot
from orrery.preparation import LOGGED, current, data_versions, snapshot
from orrery.settings import Settings
from orrery.usecase import Case, Progress, SourceRequest, silent

if TYPE_CHECKING:
    import pandas as pd


class NothingCollected(OrreryError):
    """There is nothing to learn from that was served."""


def collect(case: Case, settings: Settings, last: datetime, progress: Progress = silent) -> Snapshot:
    """A new version of the raw data: the current one, with what was served before `last` in the place of its rows.

    An event that was served is as it was asked and as its latest feedback says. Raises NothingCollected, NoData, and
    what validation and the version store raise.
    """
    training = case.training
    if training.collected is None:
        raise NothingCollected(f"{case.name} does not say how its requests become raw rows; name another source")
    base = current(case.name, settings)
    traffic = TrafficLog(open_database(settings.log_url, settings.log.durable))
    progress("collect", 0, 3, "read the log")
    rows = served(case, traffic, base.path, last)
    if rows.empty:
        raise NothingCollected(f"nothing of {case.name} before {last:%Y-%m-%d %H:%M} was served that can be learned")
    progress("collect", 1, 3, f"{len(rows):,} events")
    valid = training.validate(together(base.path, rows, training.identity))
    progress("collect", 2, 3, "version")
    versions = data_versions(settings)
    version = versions.add(case.name, valid, training.describe(valid), SourceRequest(LOGGED, sample=base.sample))
    progress("collect", 3, 3, version.short)
    return snapshot(version, versions)


def served(
    case: Case, traffic: TrafficLog, base: Path | None, last: datetime, first: datetime | None = None
) -> "pd.DataFrame":
    """The raw rows of [first, last), or of all before `last`, that served requests and their feedback become.

    `base`: the raw rows that are known besides.
    """
    import pandas as pd

    def known(columns: Sequence[str]) -> pd.DataFrame:
        return pd.read_parquet(base, columns=list(columns)) if base else pd.DataFrame(columns=list(columns))

    serving, training = case.serving, case.training
    assert training.collected is not None
    requests, feedback = traffic.requests(case.name, last, first), traffic.feedback(case.name, first)
    rows = training.collected(still_valid(serving.request, requests), still_valid(serving.feedback, feedback), known)
    within = rows[training.moment] < last
    return rows[within & (rows[training.moment] >= first)] if first else rows[within]


def together(
    base: Path, served: "pd.DataFrame", identity: str, known: Sequence[tuple[str, str, object]] = ()
) -> "pd.DataFrame":
    """The raw rows at `base` that are as `known` says, and the served ones, which take the place of the same.

    Data from before a column was kept have none of it.
    """
    import pandas as pd
    from pyarrow.parquet import read_schema

    kept = [name for name in served.columns if name in read_schema(base).names]
    rows = pd.read_parquet(base, columns=kept, filters=list(known) or None)
    others = rows[~rows[identity].isin(served[identity])]
    return pd.concat([each for each in (others, served) if len(each)] or [served], ignore_index=True)
