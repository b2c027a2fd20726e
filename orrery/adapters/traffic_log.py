"""Reads served traffic from the prediction log by event time, a window at once, with the labels that have arrived."""

import json
import logging
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError
from sqlalchemy import ColumnElement, Row, Select, select

from orrery.adapters.prediction_log import LogReader, labels, predictions, with_latest_label
from orrery.moments import micros, moment
from orrery.usecase import Array
from orrery.watching import Sample, Watching

_PAGE, _LAST = 5_000, 9
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Traffic:
    """The answers of a window, in the order they were logged: n rows, m of them by one model that had its features."""

    rows: int
    degraded: int
    version: str | None
    """the one of the m rows, which answered most of all"""
    digest: str | None
    run_id: str | None
    inputs: Array
    """float64, shape (m, names)"""
    scores: Array
    """shape (m,)"""
    labels: Array
    """shape (m,), NaN where none has arrived"""
    lags: Array
    """seconds from event to label's arrival, of those that have arrived"""
    independent: Array
    """places among the m rows: of each unit's the first, where answers to one are alike; else all"""
    sample: Sample
    """of what the use case asks for all that any independent row has, and of these rows those that have it all"""


class TrafficLog(LogReader):
    """The log by event time."""

    def clock(self, use_case: str) -> datetime | None:
        """How far event time is: the median of the nine answers logged last, as one of them may be years off."""
        query = select(predictions.c.event_time).where(predictions.c.use_case == use_case)
        rows = self._rows(query.order_by(predictions.c.sequence.desc()).limit(_LAST))
        return moment(sorted(row.event_time for row in rows)[len(rows) // 2]) if rows else None

    def starts(self, use_case: str, length: timedelta, most: int) -> list[datetime]:
        """The starts of the last `most` windows, counted from 1970, that have an answer; the oldest first."""
        micros_of = length // timedelta(microseconds=1)
        window = (predictions.c.event_time // micros_of).label("window")
        query = select(window).where(predictions.c.use_case == use_case).distinct().order_by(window.desc()).limit(most)
        return [moment(row.window * micros_of) for row in self._rows(query)][::-1]

    def between(
        self, use_case: str, first: datetime, last: datetime, names: Sequence[str], watching: Watching
    ) -> Traffic:
        """The answers to events of [first, last). Those of another version than most were answered by are left out."""
        found = self._rows(_window(use_case, first, last, sampled=bool(watching.sampled or watching.unit)))
        whole = [row for row in found if not row.degraded and row.features and row.score is not None]
        versions = [(row.model_version, row.digest, row.run_id) for row in whole]
        most = max(set(versions), key=versions.count, default=(None, None, None))
        mine = [row for row in whole if row.model_version == most[0]]
        arrived = [row for row in mine if row.label is not None]
        independent = _first_of_each(mine, watching.unit) if watching.unit else list(range(len(mine)))
        return Traffic(
            rows=len(found),
            degraded=sum(row.degraded for row in found),
            version=most[0],
            digest=most[1],
            run_id=most[2],
            inputs=_inputs(mine, names),
            scores=np.array([row.score for row in mine], dtype=np.float64),
            labels=np.array([np.nan if row.label is None else row.label for row in mine], dtype=np.float64),
            lags=np.array([(row.arrived_at - row.event_time) / 1e6 for row in arrived]),
            independent=np.array(independent, dtype=np.int64),
            sample=_sample([mine[place] for place in independent], watching),
        )

    def said(
        self, use_case: str, first: datetime, last: datetime, told_as: type[BaseModel]
    ) -> tuple[list[Mapping[str, Any]], list[BaseModel]]:
        """The answers to events of [first, last) and all feedback to them, each in the order it was logged."""
        asked, told, inside = predictions.c, labels.c, _inside(use_case, first, last)
        same = (told.use_case == asked.use_case) & (told.identity == asked.identity)
        answers = self._rows(select(asked.answer).where(*inside).order_by(asked.sequence))
        feedback = select(told.feedback).select_from(predictions.join(labels, same)).where(*inside)
        events = self._rows(feedback.order_by(told.sequence))
        return (
            [json.loads(row.answer) for row in answers],
            list(still_valid(told_as, (row.feedback for row in events))),
        )

    def sample(self, use_case: str, first: datetime, last: datetime, most: int) -> Sequence[Row[Any]]:
        """At most `most` answers to events of [first, last), drawn at random; the same ones each time it is asked.

        Each with sequence, identity, event_time, request, degraded, features and sources, in the order of the log.
        """
        asked, inside = predictions.c, _inside(use_case, first, last)
        known = [row.sequence for row in self._rows(select(asked.sequence).where(*inside).order_by(asked.sequence))]
        draw = np.random.default_rng((micros(first), zlib.crc32(use_case.encode())))
        chosen = draw.choice(np.array(known, dtype=np.int64), min(most, len(known)), replace=False).tolist()
        columns = (
            asked.sequence, asked.identity, asked.event_time, asked.request, asked.degraded, asked.features,
            asked.sources,
        )  # fmt: skip
        return self._rows(select(*columns).where(asked.sequence.in_(chosen)).order_by(asked.sequence))

    def requests(self, use_case: str, last: datetime, first: datetime | None = None) -> Iterator[str]:
        """The answered requests of [first, last), or of all before `last`, JSON, in the order they were logged."""
        asked = predictions.c
        query = select(asked.sequence, asked.request).where(*_inside(use_case, first, last))
        return (row.request for row in self._paged(query, asked.sequence))

    def feedback(self, use_case: str, first: datetime | None = None) -> Iterator[str]:
        """All feedback, or what has arrived since `first`, JSON, in the order it was logged."""
        told = labels.c
        arrived = [told.arrived_at >= micros(first)] if first else []
        query = select(told.sequence, told.feedback).where(told.use_case == use_case, *arrived)
        return (row.feedback for row in self._paged(query, told.sequence))

    def _paged(self, query: Select[Any], sequence: ColumnElement[int]) -> Iterator[Row[Any]]:
        after = 0
        while page := self._rows(query.where(sequence > after).order_by(sequence).limit(_PAGE)):
            yield from page
            after = page[-1].sequence


def still_valid(model: type[BaseModel], texts: Iterable[str]) -> Iterator[BaseModel]:
    """Those of a log's requests or feedback that may still be sent: it is older than some limits."""
    left_out = 0
    for text in texts:
        try:
            yield model.model_validate_json(text)
        except ValidationError:
            left_out += 1
    if left_out:
        _log.warning("%d logged events say what no %s may say any more; they are left out", left_out, model.__name__)


def _window(use_case: str, first: datetime, last: datetime, *, sampled: bool) -> Select[Any]:
    asked, told = predictions.c, labels.c
    more = (asked.sources, asked.outputs) if sampled else ()
    return (
        with_latest_label(
            asked.event_time, asked.model_version, asked.digest, asked.run_id, asked.degraded, asked.score,
            asked.features, told.label, told.arrived_at, *more,
        )
        .where(*_inside(use_case, first, last))
        .order_by(asked.sequence)
    )  # fmt: skip


def _inside(use_case: str, first: datetime | None, last: datetime) -> list[ColumnElement[bool]]:
    """Answers to events of [first, last), or of all before `last`."""
    asked = predictions.c
    begun = [asked.event_time >= micros(first)] if first else []
    return [asked.use_case == use_case, *begun, asked.event_time < micros(last)]


def _inputs(rows: Sequence[Row[Any]], names: Sequence[str]) -> Array:
    values = (json.loads(row.features) for row in rows)
    given = [[np.nan if (value := each.get(name)) is None else value for name in names] for each in values]
    return np.array(given, dtype=np.float64).reshape(len(rows), len(names))


def _sample(rows: Sequence[Row[Any]], watching: Watching) -> Sample:
    """Empty where nothing is asked for, or no row has in numbers all that any has: older rows may all lack a name."""
    if not watching.sampled:
        return {}
    said = [json.loads(row.features) | json.loads(row.outputs or "{}") for row in rows]
    names = [name for name in watching.sampled if any(_is_number(each.get(name)) for each in said)]
    whole = [each for each in said if all(_is_number(each.get(name)) for name in names)]
    return {name: np.array([each[name] for each in whole]) for name in names} if whole else {}


def _is_number(value: Any) -> bool:
    return value is not None and bool(np.isfinite(value).all())


def _first_of_each(rows: Sequence[Row[Any]], view: str) -> list[int]:
    """The place of the earliest row of every entity of a view."""
    found: dict[Any, int] = {}
    for place in sorted(range(len(rows)), key=lambda each: rows[each].event_time):
        stored: Mapping[str, Any] = json.loads(rows[place].sources).get(view, {})
        found.setdefault(stored.get("entity"), place)
    return list(found.values())
