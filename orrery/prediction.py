"""One request: features, model, decision, record, answer. Whatever fails, the answer is honest about it."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel

from orrery.adapters.log_writer import Receipt
from orrery.adapters.prediction_log import LabelRecord, Logged, LogUnavailable, PredictionRecord
from orrery.errors import OrreryError, TransientError
from orrery.moments import micros
from orrery.recording import Served, Work, completed, record
from orrery.telemetry import UseCaseMetrics
from orrery.usecase import Answer, Array, Key, Outputs, Serving, StoredByKey

logger = logging.getLogger(__name__)
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
_AHEAD = timedelta(days=1)
_LOG_SECONDS = 3.0
_STORE_SHARE = 0.8
"""of the deadline, for reading the store: the model and the answer need little of the rest"""
_SERVER_SHARE = 0.7
"""of the deadline, for the model server: what is left is its twin's"""


class MomentRefused(OrreryError):
    """An event's time cannot be."""

    def __init__(self, field_name: str, reason: str) -> None:
        super().__init__(f"{field_name}: {reason}")
        self.field = field_name
        self.reason = reason


class UnknownPrediction(OrreryError):
    """A label for an event that was not served here and that does not say enough of itself."""


class FeedbackRefused(OrreryError):
    """A label that cannot be about the answer it names."""


class _Degraded(Exception):
    """Why there is no answer of the model; never leaves this module."""


@dataclass(frozen=True)
class Answered:
    """An answer as it leaves."""

    body: str
    version: str | None
    variant: str
    degraded: bool


class Acknowledged(BaseModel):
    """A label was recorded."""

    identity: str
    prediction_id: str | None
    """None when the event was not served here"""
    repeated: bool
    """the same label was there already"""


class Reads(Protocol):
    """The online store, for reading."""

    def read(self, keys: list[Key]) -> StoredByKey: ...


class Log(Protocol):
    """The prediction log, for writing."""

    def submit(self, record: PredictionRecord | LabelRecord) -> "Future[Receipt]": ...


class Lookup(Protocol):
    """The prediction log, for reading."""

    def by_identity(self, use_case: str, identity: str) -> Logged | None: ...


class Scores(Protocol):
    """What the model server made of rows of inputs."""

    @property
    def outputs(self) -> Outputs: ...

    @property
    def device(self) -> str: ...


class ModelServer(Protocol):
    """Who runs models outside of this process."""

    async def score(self, use_case: str, version: str, digest: str, inputs: Array, seconds: float) -> Scores:
        """Score rows, shape (n, inputs), by that version. Raises TransientError when there is no answer in time."""


@dataclass
class Predictor:
    """Answers the requests of one use case. `served` and `rules` may be replaced at any time, whole."""

    name: str
    serving: Serving
    store: Reads
    log: Log
    lookup: Lookup
    metrics: UseCaseMetrics
    threads: Executor
    clock: Callable[[], datetime]
    model_server: ModelServer | None = None
    """None: models run in this process only"""
    served: Served | None = None
    rules: Mapping[str, Any] = field(default_factory=dict)
    _running: dict[str, asyncio.Task[Answered]] = field(default_factory=dict)

    async def predict(self, request: BaseModel) -> Answered:
        """Answer a request once it is logged. The same event asked twice, even at once, has one answer and one row.

        Raises MomentRefused when its time cannot be, IdentityRefused when its name cannot, LogUnavailable when the
        answer could not be logged.
        """
        identity = self.serving.identity(request)
        task = self._running.get(identity)
        if task is None:
            self._check_moment(request, self.serving.moment(request))
            task = self._running[identity] = asyncio.create_task(self._answer(request, identity))
            task.add_done_callback(lambda _: self._running.pop(identity, None))
        return await asyncio.shield(task)  # who waits may go; the others still get their answer

    async def feedback(self, feedback: BaseModel) -> Acknowledged:
        """Record a label. Raises UnknownPrediction, MomentRefused or LogUnavailable."""
        identity, arrival = self.serving.identity(feedback), self.serving.label_arrival(feedback)
        self._check_moment(feedback, arrival)
        # not in `threads`: a log that is slow to answer must not keep the store's readers
        logged = await asyncio.to_thread(self.lookup.by_identity, self.name, identity)
        if logged is None and not self.serving.keys(feedback):
            raise UnknownPrediction(
                "no prediction of that event was made here; say which entities and when, to teach its label anyway"
            )
        if logged is not None and micros(arrival) < logged.record.event_time:
            raise MomentRefused(_field_of(feedback, arrival), "the label is older than its event")
        answer = json.loads(logged.record.answer) if logged else None
        if objection := self.serving.objection(feedback, answer):
            raise (UnknownPrediction if logged is None else FeedbackRefused)(objection)
        receipt = await self._logged(
            LabelRecord(
                use_case=self.name,
                identity=identity,
                subject=self.serving.subject(feedback),
                label=self.serving.label(feedback),
                arrived_at=micros(arrival),
                recorded_at=micros(self.clock()),
                feedback=feedback.model_dump_json(),
            )
        )
        found = logged.record.prediction_id if logged else None
        return Acknowledged(identity=identity, prediction_id=found, repeated=not receipt.fresh)

    def _check_moment(self, event: BaseModel, moment: datetime) -> None:
        if moment < _EARLIEST:
            raise MomentRefused(_field_of(event, moment), f"before the year {_EARLIEST.year}")
        if moment > self.clock() + _AHEAD:
            raise MomentRefused(_field_of(event, moment), "more than a day in the future")

    async def _answer(self, request: BaseModel, identity: str) -> Answered:
        rules = self.rules or self.serving.default_rules
        hits = self.serving.rules(request, rules)
        keys = list(self.serving.keys(request))
        work = Work(request, identity, self.served, hits, rules, keys)
        try:
            answer, reason = await self._by_model(work)
            answer = completed(work, answer, reason, by=work.served)
        except _Degraded as error:
            answer = self.serving.fallback(work.asked, work.served.model if work.served else None)
            answer = completed(work, answer, str(error), by=None)
        started = perf_counter()
        receipt = await self._logged(record(self.name, self.serving, work, answer, self.clock()))
        self.metrics.stage("log", perf_counter() - started)
        if receipt.fresh:
            self._count(work, answer)
        return Answered(receipt.answer, answer.model_version, answer.variant, answer.degraded)

    async def _by_model(self, work: Work) -> tuple[Answer, str | None]:
        """The answer of the model, and why it is degraded all the same, if it is."""
        started = perf_counter()
        work.stored = await self._read(work.keys)
        if work.served is None:
            raise _Degraded("no model is loaded")
        try:
            work.inputs = self.serving.features(work.stored, work.request)
            read = perf_counter()
            reason = await self._score(work, work.served, work.inputs[None, :], started)
            scored = perf_counter()
            answer = self.serving.respond(work.scored)
        except Exception as error:  # whatever a bundle does, the client gets an answer
            logger.exception("%s: the model failed", self.name)
            self.metrics.failed("model", type(error).__name__)
            raise _Degraded("the model failed") from error
        self.metrics.stage("features", read - started)
        self.metrics.stage("inference", scored - read)
        self.metrics.stage("post", perf_counter() - scored)
        return answer, reason

    async def _score(self, work: Work, served: Served, inputs: Array, started: float) -> str | None:
        """Fill in the outputs. Returns why not by the model server, where it should have been."""
        reason = None
        if self.model_server is not None:
            left = _SERVER_SHARE * self.serving.deadline_ms / 1_000 - (perf_counter() - started)
            try:
                scores = await self.model_server.score(self.name, served.version, served.digest, inputs, left)
            except TransientError as error:
                self.metrics.failed("model_server", type(error).__name__)
                reason = "the model server is away; its twin in this process answered"
            else:
                work.outputs, work.device = scores.outputs, scores.device
        if work.outputs is None:
            score, model = self.serving.score, served.model
            heavy = self.serving.runtime == "model_server"
            work.outputs = await self._in_thread(score, model, inputs) if heavy else score(model, inputs)
            work.device = model.device
        _check_finite(work.outputs[self.serving.monitored_output])
        return reason

    async def _read(self, keys: list[Key]) -> StoredByKey:
        if not keys:
            return {}  # who needs nothing stored needs no store
        try:
            seconds = _STORE_SHARE * self.serving.deadline_ms / 1_000
            return await asyncio.wait_for(self._in_thread(self.store.read, keys), seconds)
        except TimeoutError:
            self.metrics.failed("store", "timeout")
            raise _Degraded("the feature store did not answer in time") from None
        except OrreryError as error:
            self.metrics.failed("store", type(error).__name__)
            raise _Degraded("the feature store is unavailable") from error

    async def _logged(self, record: PredictionRecord | LabelRecord) -> Receipt:
        """What became of a record. Raises LogUnavailable, also when nobody said it in time.

        A record whose turn had not come then is never written; one that was being written may be in the log, as with a
        disk or a server that hangs. Either way the same event asked again gets the one answer that is kept.
        """
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self.log.submit(record)), _LOG_SECONDS)
        except TimeoutError:
            raise LogUnavailable("the prediction log did not confirm in time; send the same request again") from None

    def _in_thread(self, call: Callable[..., Any], *arguments: object) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(self.threads, call, *arguments)

    def _count(self, work: Work, answer: Answer) -> None:
        self.metrics.found(answer.feature_status)
        for hit in work.hits:
            self.metrics.rule_hit(hit.rule, hit.outcome)
        if (decision := getattr(answer, "decision", None)) is not None:
            self.metrics.decided(decision)
        if work.outputs is not None and answer.model_version is not None:
            self.metrics.scored(float(work.outputs[self.serving.monitored_output][0]))


def _check_finite(values: Array) -> None:
    if not np.isfinite(values).all():
        raise ArithmeticError("an output is not a number")


def _field_of(event: BaseModel, moment: datetime) -> str:
    return next((name for name, value in event if value == moment), "moment")
