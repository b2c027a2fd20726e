"""What the platform's own store, log and learner serve is what is computed again offline; a lost value is noticed."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

import usecases
from cli.parity import compared_as_served
from orrery.adapters.database import open_database
from orrery.adapters.feature_store import FeatureStore
from orrery.adapters.log_writer import LogTables
from orrery.adapters.online_store import OnlineStore, open_online_store
from orrery.adapters.prediction_log import LabelRecord
from orrery.adapters.traffic_log import TrafficLog
from orrery.building import materialize
from orrery.learning import Learner
from orrery.moments import micros
from orrery.monitoring import floor
from orrery.preparation import current, data_versions
from orrery.recomputing import judge
from orrery.recording import Work, completed, record
from orrery.settings import Settings
from orrery.usecase import Answer, SourceRequest, Update
from orrery.watch_settings import WatchSettings

pytestmark = pytest.mark.slow


@dataclass
class Replay:
    """A platform that serves the sample of a use case from a moment on, by its own parts, without a model."""

    case: object
    settings: Settings

    def __post_init__(self):
        self.engine = open_database(self.settings.log_url, durable=False)
        self.log, self.traffic = LogTables(self.engine), TrafficLog(self.engine)
        self.log.open()

    def prepare(self, moment):
        """The data of the installation are the whole sample; the store is filled with what was known at the moment."""
        case = self.case
        data_versions(self.settings).add(case.name, case.raw, {}, SourceRequest("sample", sample=True))
        whole, store = usecases.case(case.name), FeatureStore(self.settings)
        materialize(whole, current(case.name, self.settings), store, self.settings, moment)

    def serve(self, events):
        serving, store = self.case.serving, open_online_store(self.settings)
        learner = Learner({self.case.name: serving}, self.log.reader(), store)
        for at, kind, event in events:
            self.log.append([self._asked(store, event, at) if kind == "predict" else self._told(event)])
            learner.catch_up([self.case.name])
        assert learner.behind == set()
        store.close()

    def lose(self, request, moment):
        """The store forgets what it knows of the first entity that the request is about."""
        key, store = self.case.serving.keys(request)[0], open_online_store(self.settings)
        empty = {name: values[:0] for name, values in store.read([key])[key].values.items()}
        assert any(len(values) for values in store.read([key])[key].values.values())
        store.apply("loss", 1, [key], lambda _: [Update(key, empty, moment)])
        store.close()

    def _asked(self, store: OnlineStore, event, at: datetime):
        serving = self.case.serving
        work = Work(event, serving.identity(event), None, (), serving.default_rules, list(serving.keys(event)))
        work.stored = store.read(work.keys)
        work.inputs = serving.features(work.stored, event)
        answer = completed(work, Answer(), None, by=None)
        return record(self.case.name, serving, work, answer, at)

    def _told(self, event):
        serving = self.case.serving
        arrived = micros(serving.label_arrival(event))
        about = (self.case.name, serving.identity(event), serving.label(event), arrived, arrived)
        return LabelRecord(*about, event.model_dump_json(), serving.subject(event))


@pytest.fixture
def replay(case, settings):
    if case.training.collected is None or not case.serving.keys(case.serving.example):
        pytest.skip("it does not say how its requests become raw rows, or stores no features")
    found = Replay(case, settings)
    yield found
    found.engine.dispose()


def window_of(case):
    """The busiest window of the later half that is compared whole, a moment before it, and the events until its end."""
    length, moments = case.training.watching.window, case.raw[case.training.moment]
    later = moments[len(moments) // 2 :].map(lambda moment: floor(moment.to_pydatetime(), length))
    counts = later.value_counts()
    first = counts[counts < WatchSettings().sample].idxmax()
    moment = first - timedelta(hours=6)
    events = [event for event in case.training.requests(case.raw) if moment <= event[0] < first + length]
    return first, moment, events


def test_served_features_are_those_computed_again_until_a_value_is_lost(replay, case):
    first, moment, events = window_of(case)
    replay.prepare(moment)
    asked = [number for number, (at, kind, _) in enumerate(events) if kind == "predict" and at >= first]
    place = asked[-1]
    replay.serve(events[:place])
    clean = judge(case, first, replay.traffic, replay.settings)
    [view] = clean.views.values()
    assert (clean.degraded, clean.unknown) == (0, 0)
    assert view.rows == clean.sampled > 50
    assert (view.differing, set(view.features.values())) == (0, {0})
    assert all(ages.median_seconds >= 0 for ages in clean.ages.values())
    window = (first, first + case.training.watching.window)
    asked_for = compared_as_served(replay.settings, case.name, *window)
    assert (asked_for.rows, asked_for.mismatches) == (view.rows, 0)

    replay.lose(events[place][2], moment)
    replay.serve(events[place : place + 1])
    found = judge(case, first, replay.traffic, replay.settings)
    [view] = found.views.values()
    assert (view.rows, view.differing) == (clean.sampled + 1, 1)
    assert compared_as_served(replay.settings, case.name, *window).mismatches == 1
