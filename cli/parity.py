"""`orrery parity`: what models saw of served events against what the feature store computes offline."""

import json
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

import usecases
from cli.console import emit, progress, say
from cli.replay import FORMATS
from orrery.moments import micros
from orrery.settings import Settings, settings

if TYPE_CHECKING:
    from orrery.parity import Parity
    from orrery.usecase import Case

_MOST = 10_000
"""answers that are compared with what was served"""


def parity(
    use_case: Annotated[str, typer.Argument(help="Which use case.")],
    first: Annotated[datetime, typer.Option("--from", help="First event time (UTC).", formats=FORMATS)],
    last: Annotated[datetime, typer.Option("--to", help="First event time after the window (UTC).", formats=FORMATS)],
    served: Annotated[
        bool,
        typer.Option(
            "--served",
            help="Against prepared data and what was served since, as the watch does; 10,000 answers at most.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the features that models saw with those of the same events offline: counts exactly, the rest to float32.

    So are tags, what is logged beside the features, unless the store or one of the answers is older than they are.
    Answers that rules alone gave have nothing to compare. What clients did that no data set knows, as clicks in a
    replay, is a difference; with --served it is none. Exit status 1: something differs, or there is nothing.

    Example: orrery parity fraud --from 2018-09-12 --to 2018-09-13
    """
    with progress() as show:
        show("compare", 0, 1)
        compare = compared_as_served if served else compared
        found = compare(settings(), use_case, first.replace(tzinfo=UTC), last.replace(tzinfo=UTC))
        show("compare", 1, 1)
    shown = {"rows": found.rows, "mismatches": found.mismatches, "unknown": found.unknown, "features": found.features}
    emit({**shown, "worst": [vars(each) for each in found.worst]} if as_json else shown, as_json)
    if found.mismatches and not served and _hang_on_what_was_served(usecases.case(use_case)):
        say("what clients did since the data were prepared is not in them; --served counts it too")
    raise typer.Exit(0 if found.passed else 1)


def compared(
    configured: Settings, use_case: str, first: datetime, last: datetime, only: Collection[str] | None = None
) -> "Parity":
    """The served events of [first, last), `only` those of these identities, against their offline rows.

    Tags are compared where the store and every event have them: what is older than they are has none.
    """
    from orrery.adapters.feature_store import FeatureStore
    from orrery.building import rows_between
    from orrery.parity import compare
    from orrery.preparation import current

    case = usecases.case(use_case)
    serving = case.serving
    rows = rows_between(case, current(use_case, configured), first, last, FeatureStore(configured))
    offline = rows.set_index(case.training.identity)
    said = [row for row in seen(configured, use_case, first, last) if only is None or row[0] in only]
    tags = [tag for tag in serving.tags if tag in offline and all(tag in values for _, values in said)]
    names = [*serving.feature_names, *tags]
    return compare(((who, [values[name] for name in names]) for who, values in said), offline, names)


def compared_as_served(configured: Settings, use_case: str, first: datetime, last: datetime) -> "Parity":
    """At most 10,000 served events of [first, last) against what is computed again from all that was known by then.

    Raises NothingCollected where no feature hangs on what was served, or nobody says how that becomes raw rows.
    """
    import pandas as pd

    from orrery.adapters.database import open_database
    from orrery.adapters.traffic_log import TrafficLog
    from orrery.collecting import NothingCollected
    from orrery.parity import compare
    from orrery.recomputing import again

    case, traffic = usecases.case(use_case), TrafficLog(open_database(configured.log_url, configured.log.durable))
    if not _hang_on_what_was_served(case):
        raise NothingCollected(f"no feature of {use_case} hangs on what was served; leave --served out")
    rows = [row for row in traffic.sample(use_case, first, last, _MOST) if row.features]
    tables = again(case, rows, first, last, traffic, configured).values()
    offline = pd.concat([table.set_index(case.training.identity) for table in tables] or [pd.DataFrame()], axis=1)
    names = [name for name in case.serving.feature_names if name in offline]
    given = ((row.identity, json.loads(row.features)) for row in rows)
    return compare(((who, [values[name] for name in names]) for who, values in given), offline, names)


def _hang_on_what_was_served(case: "Case") -> bool:
    return case.training.collected is not None and bool(case.serving.keys(case.serving.example))


def seen(
    configured: Settings, use_case: str, first: datetime, last: datetime
) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Identity, named inputs and tags of events of that time, as the prediction log has them."""
    from orrery.adapters.database import open_database
    from orrery.adapters.prediction_log import LogReader

    log, sequence = LogReader(open_database(configured.log_url, configured.log.durable)), 0
    while page := log.since(use_case, sequence):
        sequence = page[-1].sequence
        for record in (each.record for each in page):
            if record.features is not None and micros(first) <= record.event_time < micros(last):
                yield record.identity, json.loads(record.features)
