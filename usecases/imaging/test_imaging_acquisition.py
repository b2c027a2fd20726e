"""Films of another size or device make a window drift, films as they were do not, and older models and logs go on."""

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest

import usecases
from orrery.adapters.database import open_database
from orrery.adapters.log_writer import LogTables
from orrery.adapters.traffic_log import TrafficLog
from orrery.bundle import Golden, Manifest
from orrery.monitoring import floor, judge
from orrery.recording import Served, Work, completed, record
from orrery.reference import reference_samples
from orrery.usecase import Answer, SourceRequest, silent
from usecases.imaging.drifts import DRIFTS
from usecases.imaging.features import FEATURES, TAGS, UNKNOWN
from usecases.imaging.source import SOURCES, validate
from usecases.imaging.tables import features
from usecases.imaging.training import requests
from usecases.imaging.watched import DIRECTIONS, measures

CASE = usecases.case("imaging")
AT = floor(datetime(2025, 6, 20, tzinfo=UTC), CASE.training.watching.window)
DIVISIONS, WINDOW = 100, 80
DEVICE, SIZE = {"film_devices", "known_devices"}, {"film_size"}


@pytest.fixture(scope="module")
def films():
    """Phantoms: of three devices and some that do not say theirs, of sides from 256 to 512."""
    return validate(SOURCES["phantoms"](SourceRequest("phantoms", sample=True), silent))


def tags_of(rows):
    table = features(rows)["film_features"]
    return {name: table[name].to_numpy() for name in TAGS}


def drifted(window, reference):
    return {each.feature for each in measures(window, reference) if each.drifted}


def part(sample, places):
    return {name: values[places] for name, values in sample.items()}


# --- what is measured -------------------------------------------------------------------------


@pytest.mark.slow
def test_a_hundred_windows_of_the_same_phantoms_seldom_alarm(films):
    whole, draw = tags_of(films), np.random.default_rng(6)
    orders = [draw.permutation(len(films)) for _ in range(DIVISIONS)]
    alarms = [drifted(part(whole, order[:WINDOW]), part(whole, order[WINDOW:])) for order in orders]
    sys.stdout.write(f"{sum(map(bool, alarms))} of {DIVISIONS} windows of the same phantoms alarm\n")
    assert sum(map(bool, alarms)) <= 2, "three measures, each one in a thousand; more than two come once in 270 times"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "share", "seen"),
    [
        ("device", "K-200", 1.0, DEVICE),
        ("device", "K-200", 0.2, DEVICE),
        ("size", "1.5", 1.0, SIZE),
        ("size", "0.5", 0.5, SIZE),
    ],
)
def test_phantoms_of_another_device_or_size_are_seen_for_what_they_are(films, name, value, share, seen):
    rows = films.sample(frac=1, random_state=3, ignore_index=True)
    window, others = rows[:WINDOW], tags_of(rows[WINDOW:])
    assert not drifted(tags_of(window), others)
    changed = DRIFTS[name](window[: int(share * WINDOW)], value)
    both = [tags_of(changed), tags_of(window[len(changed) :])]
    assert drifted({tag: np.concatenate([each[tag] for each in both]) for tag in TAGS}, others) == seen


def sample(devices, rows=2_000.0, columns=2_000.0):
    many = len(devices)
    return dict(zip(TAGS, (np.full(many, rows), np.full(many, columns), np.array(devices, float)), strict=True))


def test_a_device_that_is_used_no_more_is_seen_and_none_of_those_left_is_new():
    assert drifted(sample([1] * 60), sample([1, 2] * 100)) == {"film_devices"}


def test_two_makes_in_other_shares_are_as_many_bits_apart_as_they_are():
    found = {each.feature: each for each in measures(sample([7] * 30), sample([8] * 90))}
    assert found["film_devices"].value == pytest.approx(1.0)
    assert found["known_devices"].value == 1.0
    assert (found["film_devices"].method, found["known_devices"].method) == ("device_jsd", "unseen_share")


def test_a_film_that_lies_on_its_side_is_of_another_size():
    window, reference = sample([1] * 60, 2_000.0, 2_500.0), sample([1] * 200, 2_500.0, 2_000.0)
    assert drifted(window, reference) == {"film_size"}


@pytest.mark.parametrize("known", [[], [1] * 20 + [2] * 20])
def test_films_that_say_nothing_of_how_they_were_acquired_are_left_out(known):
    """A client that sends pictures knows neither; its films beside the others are no drift."""
    pictures = sample([UNKNOWN] * 60, UNKNOWN, UNKNOWN)
    window = {tag: np.concatenate([sample(known)[tag], pictures[tag]]) for tag in TAGS}
    found = measures(window, sample([1, 2] * 100))
    assert [each.feature for each in found] == (["film_size", "film_devices", "known_devices"] if known else [])
    assert not any(each.drifted for each in found)
    assert not measures(sample([1, 2] * 100), pictures)


# --- from the request to the verdict ----------------------------------------------------------


class Answered:
    """A log of films that one model has answered in the window from AT on; what the model said is drawn."""

    def __init__(self, folder):
        self.engine = open_database(f"sqlite:///{folder / 'log.db'}", durable=False)
        self.log, self.draw = LogTables(self.engine), np.random.default_rng(4)
        self.log.open()
        self.served = Served(
            SimpleNamespace(manifest=SimpleNamespace(data_version="d", git_commit="c")),
            "1",
            "run",
            "digest",
            "registry",
        )

    def said(self, rows):
        return {
            "probability": self.draw.random(rows),
            "ood": np.full(rows, 0.7),
            "embedding": self.draw.normal(size=(rows, DIRECTIONS)),
        }

    def answer(self, rows, *, before_tags=False):
        rows = rows.assign(taken_at=[AT + timedelta(hours=place) for place in range(len(rows))])
        for at, kind, event in requests(rows):
            if kind == "predict":
                self.log.append([self._record(event, at, before_tags)])

    def _record(self, event, at, before_tags):
        serving = CASE.serving
        work = Work(event, serving.identity(event), self.served, (), serving.default_rules, [])
        work.inputs, work.outputs = serving.features({}, event), self.said(1)
        row = record(CASE.name, serving, work, completed(work, Answer(), None, by=self.served), at)
        values = json.loads(row.features)
        assert values.keys() == {*FEATURES, *TAGS}
        return replace(row, features=json.dumps({name: values[name] for name in FEATURES})) if before_tags else row

    def judge(self, manifest):
        return judge(CASE, AT, TrafficLog(self.engine), lambda run, digest: manifest)


@pytest.fixture
def answered(tmp_path):
    found = Answered(tmp_path)
    yield found
    found.engine.dispose()


def kept(rows, outputs):
    """A bundle's manifest with what it keeps of the rows that its model was judged on."""
    logged, sampled = CASE.serving.logged, CASE.training.watching.sampled
    values = features(rows)["film_features"][list(logged)].to_numpy(np.float32)
    return Manifest(
        use_case=CASE.name, created_at=AT, trained_from=AT, trained_to=AT, as_of=AT, rows=1, data_version="d",
        git_commit="c", lock_hash="l", features=[], learned={}, golden=Golden(inputs=[], outputs={}), files={},
        reference={}, samples=reference_samples(values, logged, outputs, sampled),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "seen"),
    [(None, set()), (("device", "K-200"), DEVICE), (("size", "1.5"), SIZE)],
)
def test_an_answer_is_logged_with_size_and_device_and_its_window_judged_by_them(films, answered, change, seen):
    rows = films.sample(frac=1, random_state=3, ignore_index=True)
    window, others = rows[:WINDOW], rows[WINDOW:]
    answered.answer(DRIFTS[change[0]](window, change[1]) if change else window)
    found = answered.judge(kept(others, answered.said(len(others))))
    assert {each.feature for each in found.measures} == {"embedding", "out_of_distribution", *DEVICE, *SIZE}
    assert {each.feature for each in found.measures if each.drifted} == seen
    assert found.state == ("drift" if seen else "stable")


@pytest.mark.slow
@pytest.mark.parametrize("older", ["log", "bundle", "both"])
def test_what_is_older_than_size_and_device_is_not_measured_by_them_and_is_by_the_rest(films, answered, older):
    window, others = films[:WINDOW], films[WINDOW:]
    answered.answer(DRIFTS["device"](window, "K-200"), before_tags=older in {"log", "both"})
    manifest = kept(others, answered.said(len(others)))
    if older != "log":
        samples = {name: rows for name, rows in manifest.samples.items() if name not in TAGS}
        manifest = manifest.model_copy(update={"samples": samples})
    found = answered.judge(manifest)
    assert [each.feature for each in found.measures] == ["embedding", "out_of_distribution"]
    assert found.state == "stable"
