"""`orrery parity`: what models saw of served events against what the feature store computes offline."""

import json
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

import usecases
from cli.console import emit, progress
from cli.replay import FORMATS
from orrery.moments import micros
from orrery.settings import Settings, settings

if TYPE_CHECKING:
    from orrery.parity import Parity


def parity(
    use_case: Annotated[str, typer.Argument(help="Which use case.")],
    first: Annotated[datetime, typer.Option("--from", help="First event time (UTC).", formats=FORMATS)],
    last: Annotated[datetime, typer.Option("--to", help="First event time after the window (UTC).", formats=FORMATS)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the features that models saw with those of the same events offline: counts exactly, the rest to float32.

    So are tags, what is logged beside the features, unless the store or one of the answers is older than they are.
    Answers that rules alone gave have nothing to compare. Exit status 1: something differs, or there is nothing.

    Example: orrery parity fraud --from 2018-09-12 --to 2018-09-13
    """
    with progress() as show:
        show("compare", 0, 1)
        found = compared(settings(), use_case, first.replace(tzinfo=UTC), last.replace(tzinfo=UTC))
        show("compare", 1, 1)
    shown = {"rows": found.rows, "mismatches": found.mismatches, "unknown": found.unknown, "features": found.features}
    emit({**shown, "worst": [vars(each) for each in found.worst]} if as_json else shown, as_json)
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
