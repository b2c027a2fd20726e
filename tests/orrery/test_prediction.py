"""One request, with everything around it faked: what fails, what is said of it, and what is recorded."""

import asyncio
import json
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import AwareDatetime, BaseModel

from orrery import prediction
from orrery.adapters.log_writer import Receipt
from orrery.adapters.prediction_log import LabelRecord, Logged, LogUnavailable
from orrery.errors import OrreryError, TransientError
from orrery.prediction import FeedbackRefused, MomentRefused, Predictor, UnknownPrediction
from orrery.recording import Served
from orrery.telemetry import GatewayMetrics
from orrery.usecase import Answer, Key, RuleHit, Serving, Stored

NOW = datetime(2024, 6, 1, tzinfo=UTC)


class Ask(BaseModel):
    number: int
    at: AwareDatetime = NOW


class Tell(BaseModel):
    number: int
    good: bool = True
    arrived: AwareDatetime = NOW
    entity: int | None = None


class Say(Answer):
    score: float | None = None


def keys(event):
    if isinstance(event, Ask):
        return (Key("seen", event.number), Key("seen", 0))
    return () if event.entity is None else (Key("seen", event.entity),)


SERVING = Serving(
    request=Ask, response=Say, feedback=Tell, identity=lambda e: str(e.number), moment=lambda e: e.at, keys=keys,
    features=lambda stored, e: np.array([e.number], np.float32), feature_names=("number",),
    score=lambda model, rows: {"score": rows[:, 0].astype(float) / 10},
    respond=lambda s: Say(score=float(s.outputs["score"][0])),
    fallback=lambda asked, model: Say(degraded=True), learn=lambda e, s: (), learn_label=lambda e, r, s: (),
    label=lambda e: float(e.good), label_arrival=lambda e: e.arrived,
    rules=lambda e, rules: (RuleHit("cap", "look", "big"),) if e.number > rules["most"] else (),
    default_rules={"version": "1", "most": 100}, example=Ask(number=1), example_feedback=Tell(number=1),
    deadline_ms=100,
)  # fmt: skip


@dataclass
class Store:
    """Answers, late or never."""

    error: Exception | None = None
    hold: threading.Event | None = None

    def read(self, asked):
        if self.hold is not None:
            self.hold.wait(5)
        if self.error is not None:
            raise self.error
        return {key: Stored({}, None, "missing" if key.entity else "present") for key in asked}


@dataclass
class Log:
    """Takes records; the first of an event counts."""

    rows: list[Any] = field(default_factory=list)
    error: Exception | None = None
    silent: bool = False

    def submit(self, record):
        future: Future[Receipt] = Future()
        if self.error is not None:
            future.set_exception(self.error)
        elif not self.silent:
            known = next((row for row in self.rows if row.key == record.key), None)
            if known is None:
                self.rows.append(record)
            future.set_result(Receipt(1, getattr(known or record, "answer", ""), fresh=known is None))
        return future

    def by_identity(self, use_case, identity):
        found = next((row for row in self.rows if row.identity == identity and hasattr(row, "answer")), None)
        return None if found is None else Logged(1, found, None, None)


class Manifest:
    data_version, git_commit = "v", "c"


class Model:
    manifest = Manifest()
    device = "cpu"


SERVED = Served(Model(), "7", "run", "digest", "registry")  # type: ignore[arg-type]


@pytest.fixture
def predictor():
    log = Log()
    metrics = GatewayMetrics()
    with ThreadPoolExecutor(1) as threads:
        yield Predictor(
            "toy", SERVING, Store(), log, log, metrics.of("toy"), threads, lambda: NOW, served=SERVED
        )  # fmt: skip


def predict(predictor, *requests):
    async def all_of_them():
        return await asyncio.gather(*(predictor.predict(request) for request in requests))

    answered = asyncio.run(all_of_them())
    return [json.loads(each.body) for each in answered]


def test_an_answer_and_its_row(predictor):
    (answer,) = predict(predictor, Ask(number=3))
    assert (answer["score"], answer["model_version"], answer["variant"]) == (0.3, "7", "champion")
    assert answer["feature_status"] == {"seen": "missing"}, "the worst of a view's keys counts"
    (row,) = predictor.log.rows
    assert (row.score, row.data_version, row.rules_version) == (pytest.approx(0.3), "v", "1")
    assert json.loads(row.features) == {"number": 3.0}
    assert json.loads(row.answer) == answer


def boom(*_):
    raise RuntimeError("boom")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"score": boom}, "the model failed"),
        ({"features": boom}, "the model failed"),
        ({"respond": boom}, "the model failed"),
        ({"score": lambda m, rows: {"score": np.array([np.nan])}}, "the model failed"),
    ],
)
def test_a_model_that_fails_leaves_the_fallback(predictor, changes, reason):
    predictor.serving = replace(SERVING, **changes)
    (answer,) = predict(predictor, Ask(number=3))
    assert (answer["degraded"], answer["degraded_reason"]) == (True, reason)
    assert (answer["model_version"], answer["variant"], answer["score"]) == (None, "fallback", None)
    (row,) = predictor.log.rows
    assert (row.degraded, row.model_version, row.digest, row.outputs) == (True, None, None, None)


def test_a_store_that_fails_leaves_the_fallback(predictor):
    predictor.store = Store(error=OrreryError("gone"))
    (answer,) = predict(predictor, Ask(number=3))
    assert answer["degraded_reason"] == "the feature store is unavailable"
    assert answer["feature_status"] == {"seen": "unavailable"}


def test_a_store_that_is_late_leaves_the_fallback(predictor):
    predictor.store = Store(hold=threading.Event())
    (answer,) = predict(predictor, Ask(number=3))
    predictor.store.hold.set()
    assert answer["degraded_reason"] == "the feature store did not answer in time"


def test_without_a_model_the_fallback_answers(predictor):
    predictor.served = None
    (answer,) = predict(predictor, Ask(number=3))
    assert answer["degraded_reason"] == "no model is loaded"


def test_the_same_event_at_once_is_worked_on_once(predictor):
    calls = []
    predictor.serving = replace(SERVING, score=lambda m, rows: calls.append(1) or {"score": rows[:, 0]})
    answers = predict(predictor, *[Ask(number=3)] * 5)
    assert len({json.dumps(answer) for answer in answers}) == 1
    assert calls == [1]


def test_who_goes_away_takes_nobody_along(predictor):
    predictor.store = Store(hold=threading.Event())
    predictor.serving = replace(SERVING, deadline_ms=4_000)

    async def scenario():
        first = asyncio.create_task(predictor.predict(Ask(number=3)))
        second = asyncio.create_task(predictor.predict(Ask(number=3)))
        await asyncio.sleep(0.05)
        first.cancel()
        predictor.store.hold.set()
        return await second

    assert json.loads(asyncio.run(scenario()).body)["score"] == 0.3


def test_what_is_not_logged_is_not_answered(predictor):
    predictor.log.error = LogUnavailable("full")
    with pytest.raises(LogUnavailable):
        predict(predictor, Ask(number=3))
    predictor.log.error = None
    assert predict(predictor, Ask(number=3))


def test_a_log_that_does_not_confirm_is_not_waited_for_for_ever(predictor, monkeypatch):
    monkeypatch.setattr(prediction, "_LOG_SECONDS", 0.05)
    predictor.log.silent = True
    with pytest.raises(LogUnavailable, match="in time"):
        predict(predictor, Ask(number=3))


@pytest.mark.parametrize("moment", [datetime(1989, 12, 31, tzinfo=UTC), NOW + timedelta(days=1, seconds=1)])
def test_moments_that_cannot_be_are_refused_by_their_field(predictor, moment):
    with pytest.raises(MomentRefused) as refused:
        predict(predictor, Ask(number=3, at=moment))
    assert refused.value.field == "at"
    assert not predictor.log.rows


def test_rules_may_be_replaced(predictor):
    predictor.rules = {"version": "2", "most": 1}
    predict(predictor, Ask(number=3))
    assert predictor.log.rows[0].rules_version == "2"


def tell(predictor, feedback):
    return asyncio.run(predictor.feedback(feedback))


def test_a_label_finds_its_prediction(predictor):
    (answer,) = predict(predictor, Ask(number=3))
    assert tell(predictor, Tell(number=3)).prediction_id == answer["prediction_id"]
    label = predictor.log.rows[-1]
    assert isinstance(label, LabelRecord)
    assert (label.identity, label.label) == ("3", 1.0)
    assert tell(predictor, Tell(number=3)).repeated


def test_a_label_of_an_unknown_event_says_enough_or_is_refused(predictor):
    with pytest.raises(UnknownPrediction):
        tell(predictor, Tell(number=3))
    assert tell(predictor, Tell(number=3, entity=9)).prediction_id is None


def test_a_label_cannot_be_older_than_its_event(predictor):
    predict(predictor, Ask(number=3))
    with pytest.raises(MomentRefused, match="arrived: the label is older"):
        tell(predictor, Tell(number=3, arrived=NOW - timedelta(seconds=1)))


def test_feedback_may_name_its_subject(predictor):
    predictor.serving = replace(SERVING, subject=lambda e: f"good:{e.good}")
    predict(predictor, Ask(number=3))
    assert [tell(predictor, Tell(number=3, good=good)).repeated for good in (True, False, True)] == [False, False, True]


def test_a_use_case_may_object_to_a_feedback(predictor):
    def objection(feedback, answer):
        return "no such request" if answer is None else None if answer["score"] == 0.3 else "it was not shown"

    predictor.serving = replace(SERVING, objection=objection)
    with pytest.raises(UnknownPrediction, match="no such request"):
        tell(predictor, Tell(number=3, entity=9))
    predict(predictor, Ask(number=3), Ask(number=4))
    assert tell(predictor, Tell(number=3)).prediction_id
    with pytest.raises(FeedbackRefused, match="not shown"):
        tell(predictor, Tell(number=4))


def test_the_fallback_knows_what_was_known(predictor):
    given = []
    predictor.serving = replace(SERVING, fallback=lambda *known: given.append(known) or Say(degraded=True))
    predictor.serving = replace(predictor.serving, score=lambda m, rows: 1 / 0)
    predict(predictor, Ask(number=3))
    ((asked, model),) = given
    assert asked.rules["most"] == 100
    assert asked.stored[Key("seen", 0)].status == "present"
    assert model is SERVED.model


def test_a_payload_is_seen_by_the_model_and_not_logged_and_of_outputs_those_of_few_values(predictor):
    predictor.serving = replace(
        SERVING,
        features=lambda stored, e: np.array([e.number, 8, 9], np.float32),
        score=lambda model, rows: {
            "score": rows[:, 2].astype(float),
            "list": rows[:, 1:],
            "many": np.zeros((1, 100)),
            "mask": np.zeros((1, 2, 2)),
        },
    )
    (answer,) = predict(predictor, Ask(number=3))
    (row,) = predictor.log.rows
    assert answer["score"] == 9.0
    assert (json.loads(row.features), json.loads(row.outputs)) == ({"number": 3.0}, {"score": 9.0, "list": [8.0, 9.0]})


def test_what_is_known_of_an_event_beside_its_inputs_is_logged_and_no_model_gets_it(predictor):
    seen = []
    predictor.serving = replace(
        SERVING,
        tags=("room", "weight"),
        tagged=lambda e: np.array([e.number + 1, -1], np.float32),
        score=lambda model, rows: seen.append(rows.tolist()) or SERVING.score(model, rows),
    )
    predict(predictor, Ask(number=3))
    (row,) = predictor.log.rows
    assert seen == [[[3.0]]]
    assert json.loads(row.features) == {"number": 3.0, "room": 4.0, "weight": -1.0}


def test_who_needs_nothing_stored_needs_no_store(predictor):
    predictor.store = Store(error=LogUnavailable("gone"))
    predictor.serving = replace(SERVING, keys=lambda e: ())
    (answer,) = predict(predictor, Ask(number=3))
    assert not answer["degraded"]


# --- the model server, and its twin in this process --------------------------------------------------


@dataclass
class Elsewhere:
    """A model server: answers, late, or not at all."""

    error: Exception | None = None
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    async def score(self, use_case, version, digest, inputs, seconds):
        self.asked.append((use_case, version, digest, inputs.tolist(), seconds))
        if self.error is not None:
            raise self.error
        return SimpleNamespace(outputs={"score": np.array([0.9])}, device="cuda")


class Placed(Say):
    device: str = ""


def placed(scored):
    return Placed(score=float(scored.outputs["score"][0]), device=scored.device)


@pytest.fixture
def elsewhere(predictor):
    predictor.serving = replace(SERVING, runtime="model_server", respond=placed)
    predictor.model_server = Elsewhere()
    return predictor


def test_the_model_server_answers_within_its_share_of_the_deadline(elsewhere):
    answer = predict(elsewhere, Ask(number=3))[0]
    assert (answer["score"], answer["device"], answer["degraded"]) == (0.9, "cuda", False)
    use_case, version, digest, rows, seconds = elsewhere.model_server.asked[0]
    assert (use_case, version, digest, rows) == ("toy", "7", "digest", [[3.0]])
    assert 0 < seconds < 0.1


def test_without_the_model_server_its_twin_answers_and_says_so(elsewhere):
    elsewhere.model_server.error = TransientError("gone")
    (answer,) = predict(elsewhere, Ask(number=3))
    assert (answer["score"], answer["device"], answer["model_version"]) == (0.3, "cpu", "7")
    assert answer["degraded"]
    assert "twin" in answer["degraded_reason"]
    row = elsewhere.log.rows[0]
    assert (row.model_version, row.score, row.variant) == ("7", 0.3, "champion")


def test_an_error_of_the_model_server_that_is_no_absence_is_a_failed_model(elsewhere):
    elsewhere.model_server.error = ArithmeticError("broken")
    answer = predict(elsewhere, Ask(number=3))[0]
    assert (answer["score"], answer["degraded_reason"]) == (None, "the model failed")
