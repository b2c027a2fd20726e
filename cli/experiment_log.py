"""The units of an experiment from a window of the prediction log: its predictions, or who asked for them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel

import usecases
from cli.experiment_table import Missing, Units, nearest, settled
from orrery.errors import OrreryError
from orrery.moments import micros
from orrery.settings import settings

if TYPE_CHECKING:
    import pandas as pd

    from orrery.adapters.prediction_log import Logged, LogReader

_FALLBACK = "fallback"
"""variant of an answer that no model gave: it does not tell to which one the request was assigned"""


class SourceRefused(OrreryError):
    """The rows come from a file or from the log, from one of them."""


class WindowRefused(OrreryError):
    """The log has no predictions there."""


class FieldRefused(OrreryError):
    """A field of a request or an answer is not there, or not of use."""


class ValueMissing(OrreryError):
    """A prediction has no value of a metric, or none yet."""


class AssignmentRefused(OrreryError):
    """A unit saw more than one variant."""


@dataclass(frozen=True)
class Window:
    """Predictions of a use case with an event time in [first, last), aware; `unit`: a field of requests to group by."""

    use_case: str
    first: datetime
    last: datetime
    unit: str = ""


def window_of(
    file: Path | None, use_case: str, first: datetime | None, last: datetime | None, unit: str = ""
) -> Window | None:
    """The window of the log, or None for a file. Raises SourceRefused unless one of them is given."""
    if file:
        if use_case or first or last or unit:
            raise SourceRefused("--use-case, --from, --to and --unit read the log; leave them out, or leave FILE out")
        return None
    if not use_case:
        raise SourceRefused("there is nothing to read; give a FILE, or --use-case with --from and --to")
    if not (first and last):
        raise SourceRefused("--use-case needs --from and --to, which cut its window out of the log")
    return Window(use_case, first.replace(tzinfo=UTC), last.replace(tzinfo=UTC), unit)


def answers_of_log(window: Window) -> tuple[list[dict[str, Any]], list[BaseModel]]:
    """The answers of a window, and all feedback to them so far. Raises WindowRefused when there is no answer."""
    answers = {one.record.identity: json.loads(one.record.answer) for one in _logged(window)}
    if not answers:
        raise _nothing_in(window)
    serving, sequence, feedback = usecases.serving(window.use_case), 0, []
    log = _log()
    while page := log.events(window.use_case, sequence):
        sequence = page[-1].sequence
        told = [serving.feedback.model_validate_json(event.feedback) for event in page if event.feedback]
        feedback += [each for each in told if serving.identity(each) in answers]
    return list(answers.values()), feedback


class _Prediction(NamedTuple):
    identity: str
    variant: str | None
    unit: str
    values: list[float]
    """of the metrics, then of the covariate"""


def units_of_log(window: Window, metrics: list[str], covariate: str, missing: Missing) -> Units:
    """One row a prediction, or one a unit with the means of its predictions.

    A metric is label, score, degraded or a field of the answer; the covariate is a field of the request. An answer
    without a model counts for the variant that its unit saw otherwise. Raises WindowRefused, FieldRefused,
    ValueMissing, AssignmentRefused.
    """
    import pandas as pd

    read = [_prediction(one, window.unit, metrics, covariate) for one in _logged(window)]
    if not read:
        raise _nothing_in(window)
    units, variants = pd.Series([one.unit for one in read]), pd.Series([one.variant for one in read], dtype=object)
    if window.unit:
        variants = _assigned(window.unit, units, variants)
    rows = pd.DataFrame([one.values for one in read])[variants.notna()]
    if missing is Missing.REFUSE:
        _refuse_missing(rows, [*metrics, *filter(None, [covariate])], read)
    unknown = {"without a variant": len(read) - len(rows)} if len(rows) < len(read) else {}
    rows, left_out = settled(rows, missing)
    if window.unit:
        rows, variants = rows.groupby(units).mean(), variants.groupby(units).first()
    columns = [rows[place].to_numpy() for place in rows.columns]
    return Units(
        variants[rows.index].to_numpy(str),
        dict(zip(metrics, columns, strict=False)),
        columns[-1] if covariate else None,
        left_out=unknown | left_out,
    )


def _nothing_in(window: Window) -> WindowRefused:
    span = f"from {window.first:%Y-%m-%d %H:%M} to {window.last:%Y-%m-%d %H:%M}"
    return WindowRefused(f"{window.use_case} has no prediction {span}; these are event times in UTC")


def _log() -> "LogReader":
    from orrery.adapters.database import open_database
    from orrery.adapters.prediction_log import LogReader

    configured = settings()
    return LogReader(open_database(configured.log_url, configured.log.durable))


def _logged(window: Window) -> "Iterator[Logged]":
    usecases.serving(window.use_case)  # a misspelt name is refused
    log, sequence = _log(), 0
    first, last = micros(window.first), micros(window.last)
    while page := log.since(window.use_case, sequence):
        sequence = page[-1].sequence
        yield from (one for one in page if first <= one.record.event_time < last)


def _prediction(one: "Logged", unit: str, metrics: list[str], covariate: str) -> _Prediction:
    record = one.record
    request = json.loads(record.request)
    answer = json.loads(record.answer) | {"label": one.label, "score": record.score, "degraded": record.degraded}
    values = [_number(name, answer, f"the answer to {record.identity}") for name in metrics]
    values += [_number(covariate, request, f"the request {record.identity}")] if covariate else []
    variant = None if record.variant == _FALLBACK else record.variant
    return _Prediction(record.identity, variant, _unit(unit, request, record.identity) if unit else "", values)


def _field(name: str, fields: Mapping[str, Any], where: str) -> Any:
    if name not in fields:
        raise FieldRefused(f"{where} has no field {name}; {nearest(name, fields)}")
    return fields[name]


def _number(name: str, fields: Mapping[str, Any], where: str) -> float:
    value = _field(name, fields, where)
    if not isinstance(value, bool | int | float | None):
        raise FieldRefused(f"{name} is not numeric: {where} has {str(value)[:40]!r}; name another field")
    return float("nan") if value is None else float(value)


def _unit(name: str, request: Mapping[str, Any], identity: str) -> str:
    value = _field(name, request, f"the request {identity}")
    if value is None or isinstance(value, list | dict):
        raise FieldRefused(f"{name} of the request {identity} names no unit: {str(value)[:40]!r}; name another field")
    return str(value)


def _assigned(name: str, units: "pd.Series[Any]", variants: "pd.Series[Any]") -> "pd.Series[Any]":
    """Of each prediction the one variant that its unit saw; None if it never had a model's answer."""
    saw = variants.groupby(units)
    torn = saw.nunique() > 1
    if torn.any():
        one = str(torn.idxmax())
        both = " and ".join(sorted(set(variants[units == one].dropna())))
        raise AssignmentRefused(
            f"{name} {one} saw {both}, one of {torn.sum():,} units with more than one variant: the assignment is not "
            f"sticky by {name}; name the field that is assigned, or compare predictions without --unit"
        )
    return saw.transform("first")


def _refuse_missing(rows: "pd.DataFrame", names: list[str], read: list[_Prediction]) -> None:
    for place, name in enumerate(names):
        missing = rows[place].isna().to_numpy()
        if missing.any():
            first = read[rows.index[int(missing.argmax())]].identity
            where = f"{missing.sum():,} of {len(rows):,} predictions, the first is {first}"
            raise ValueMissing(
                f"{name} is missing in {where}; --missing zero or --missing leave-out says what it means"
            )
