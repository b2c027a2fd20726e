"""The store learns each row of the log once, in order, whatever fails in between."""

from dataclasses import dataclass, field, replace

import pytest

import usecases
from orrery.adapters.prediction_log import LoggedEvent
from orrery.errors import TransientError
from orrery.learning import Learner
from orrery.usecase import Key, Stored

SERVING = usecases.serving("fraud")
CUSTOMER = Key("customer_history", SERVING.example.customer_id)
TERMINAL = Key("terminal_history", SERVING.example.terminal_id)


@dataclass
class Log:
    rows: list = field(default_factory=list)

    def events(self, use_case, sequence=0, limit=2):
        return [row for row in self.rows if row.sequence > sequence][:limit]


@dataclass
class Store:
    rows: dict = field(default_factory=dict)
    sequence: int = 0
    fail_at: int | None = None

    def applied(self, use_case):
        return self.sequence

    def apply(self, use_case, sequence, keys, teach):
        if sequence == self.fail_at:
            raise TransientError("away")
        if sequence <= self.sequence:
            return
        for update in teach({key: self.rows.get(key, Stored({}, None, "missing")) for key in keys}):
            self.rows[update.key] = Stored(update.values, update.event_time, "present")
        self.sequence = sequence


def asked(number):
    request = SERVING.example.model_copy(update={"transaction_id": number})
    return LoggedEvent(number, request.model_dump_json(), None)


def told(sequence, request=True):
    feedback = SERVING.example_feedback.model_copy(update={"fraud": True})
    if not request:
        about = {"terminal_id": SERVING.example.terminal_id, "tx_datetime": SERVING.example.tx_datetime}
        feedback = feedback.model_copy(update=about)
    return LoggedEvent(sequence, SERVING.example.model_dump_json() if request else None, feedback.model_dump_json())


def learner(log, store, failed=lambda _: None, serving=SERVING):
    return Learner({"fraud": serving}, log, store, failed)


def test_each_row_once_in_order():
    log, store = Log([asked(n) for n in range(1, 6)]), Store()
    for _ in range(2):
        learner(log, store).catch_up(["fraud"])
    assert (store.sequence, len(store.rows[CUSTOMER].values["times"])) == (5, 5)


@pytest.mark.parametrize("known", [True, False])
def test_labels_teach_with_and_without_their_request(known):
    log, store = Log([asked(1), told(2, request=known)]), Store()
    learner(log, store).catch_up(["fraud"])
    assert store.rows[TERMINAL].values["frauds"].tolist() == [1]


def test_a_store_that_was_away_misses_nothing():
    log, store, failures = Log([asked(n) for n in range(1, 6)]), Store(fail_at=3), []
    one = learner(log, store, failures.append)
    one.catch_up(["fraud"])
    assert (store.sequence, one.behind, failures) == (2, {"fraud"}, ["unavailable"])
    store.fail_at = None
    one.catch_up(["fraud"])
    assert (store.sequence, one.behind) == (5, set())
    assert len(store.rows[CUSTOMER].values["times"]) == 5


def test_a_row_that_cannot_be_learned_does_not_keep_later_ones():
    broken = LoggedEvent(2, '{"from": "another version"}', None)
    log, store, failures = Log([asked(1), broken, asked(3)]), Store(), []
    learner(log, store, failures.append).catch_up(["fraud"])
    assert (store.sequence, len(store.rows[CUSTOMER].values["times"]), failures) == (3, 2, ["refused"])


def test_nor_does_a_lesson_that_fails():
    def learn(request, stored):
        if request.transaction_id == 2:
            raise KeyError("bug")
        return SERVING.learn(request, stored)

    log, store, failures = Log([asked(1), asked(2), asked(3)]), Store(), []
    learner(log, store, failures.append, replace(SERVING, learn=learn)).catch_up(["fraud"])
    assert (store.sequence, len(store.rows[CUSTOMER].values["times"]), failures) == (3, 2, ["refused"])
