"""The watch over a log of served answers: which windows, which verdict, and nothing lost when it is killed."""

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import event, insert
from toy.toy_case import CASE

from orrery.adapters.database import open_database
from orrery.adapters.prediction_log import LogReader, labels, metadata, predictions
from orrery.adapters.traffic_log import TrafficLog
from orrery.adapters.watch_log import WatchLog
from orrery.bundle import Golden, Manifest
from orrery.moments import micros
from orrery.monitoring import floor, judge, row, watch
from orrery.quality import classified
from orrery.reference import reference_histograms
from orrery.two_samples import mean_above
from orrery.watching import Watched, Watching

DAY = timedelta(days=1)
START = datetime(2024, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = 300
DRAW = np.random.default_rng(3)
X = DRAW.normal(size=(4_000, 1)).astype(np.float32)
TOY = replace(
    CASE,
    training=replace(
        CASE.training, label_delay=2 * DAY, watching=Watching(rows=200, quality=classified, probability=True)
    ),
)


def said(x):
    return 1 / (1 + np.exp(-3 * x))


MANIFEST = Manifest(
    use_case="toy", created_at=NOW, trained_from=START, trained_to=START, as_of=START, rows=1, data_version="d",
    git_commit="c", lock_hash="l", features=[], learned={}, golden=Golden(inputs=[], outputs={}), files={},
    reference=reference_histograms(X, ["x"], {"score": said(X[:, 0])}), importance={"x": 1.0},
)  # fmt: skip


class Log:
    """A prediction log that tests write days into."""

    def __init__(self, folder):
        self.engine = open_database(f"sqlite:///{folder / 'log.db'}", durable=False)
        metadata.create_all(self.engine)
        self.traffic, self.found = TrafficLog(self.engine), WatchLog(self.engine)
        self._sequence = 0

    def day(self, number, shift=0.0, rows=ROWS, version="1", labelled=False, late=False, **other):
        """Answers spread over one day; `shift` moves the input."""
        x = DRAW.normal(shift, size=rows)
        for place, value in enumerate(x):
            at = START + number * DAY + DAY * place / max(rows, 1)
            identity = f"{number}-{place}" if not late else f"{number}-late-{place}"
            self._write(predictions, self._answer(identity, at, float(value), version) | other)
            if labelled:
                self.label(identity, float(DRAW.random() < said(value)), at + 2 * DAY)

    def label(self, identity, value, at):
        told = {"subject": "", "label": value, "arrived_at": micros(at), "recorded_at": 0, "feedback": "{}"}
        self._write(labels, {"use_case": "toy", "identity": identity, **told})

    def _answer(self, identity, at, value, version):
        return {
            "prediction_id": identity, "use_case": "toy", "identity": identity, "event_time": micros(at),
            "recorded_at": 0, "model_version": version, "run_id": "r", "digest": "d" + version, "data_version": "v",
            "git_commit": "c", "variant": "champion", "degraded": False, "degraded_reason": None,
            "rules_version": "1", "score": float(said(value)), "request": "{}", "features": json.dumps({"x": value}),
            "sources": "{}", "outputs": "{}", "answer": "{}",
        }  # fmt: skip

    def _write(self, table, values):
        self._sequence += 1
        with self.engine.begin() as connection:
            connection.execute(insert(table).values(sequence=self._sequence, **values))

    def watch(self, case=TOY, manifests=lambda run, digest: MANIFEST):
        return watch(case, self.traffic, self.found, manifests, NOW)

    def states(self):
        return [(each.state, each.sustained) for _, each in self.found.latest("toy", 100)][::-1]


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path)


def test_nothing_served_is_no_data_and_not_no_drift(log):
    [window] = log.watch()
    assert (window.state, window.rows) == ("no data", 0)
    assert log.found.newest()["toy"][0] == NOW


def test_a_look_at_labels_alone_measures_no_drift_again_and_says_what_a_first_look_would(log):
    log.day(0)
    log.day(1)
    log.day(2, rows=9)
    log.watch()
    for place in range(ROWS):
        log.label(f"0-{place}", float(place % 3 == 0), START + 2 * DAY)

    def no_manifest(run, digest):
        raise AssertionError("drift is measured again")

    log.watch(manifests=no_manifest)
    window = {each.first: each for _, each in log.found.latest("toy", 10)}[START]
    assert window.quality.maturity == 1
    assert window == judge(TOY, START, log.traffic, lambda run, digest: MANIFEST)


def test_what_only_says_the_time_is_no_drift(log):
    timed = replace(TOY, training=replace(TOY.training, watching=replace(TOY.training.watching, calendar=("x",))))
    log.day(0, shift=3.0)
    assert [each.name for each in judge(TOY, START, log.traffic, lambda run, digest: MANIFEST).inputs] == ["x"]
    window = judge(timed, START, log.traffic, lambda run, digest: MANIFEST)
    assert (window.inputs, window.share) == ((), 0)
    assert window.score.drifted, "what the model makes of it is judged all the same"


def test_answers_to_the_past_open_no_window_that_was_over(log):
    log.day(0)
    log.day(1)
    log.day(2, rows=9)
    log.watch()
    log.day(1, shift=3.0, late=True)
    log.watch()
    assert log.states() == [("stable", False), ("drift", False)]
    log.day(0, rows=20, late=True)
    log.watch()
    assert log.states() == [("stable", False), ("drift", False)]


def test_stable_days_then_sustained_drift(log):
    for number in range(3):
        log.day(number)
    for number in range(3, 6):
        log.day(number, shift=1.0)
    log.day(6, rows=9)
    log.watch()
    assert log.states() == [("stable", False)] * 3 + [("drift", False), ("drift", True), ("drift", True)]
    newest = log.found.latest("toy")[0][1]
    assert newest.share == 1
    assert "x" in newest.reasons[0]
    assert "score" in newest.reasons[1]
    assert row(newest)["state"] == "drift (sustained)"


def test_a_day_counts_when_a_later_event_was_answered(log):
    log.day(0)
    log.watch()
    assert log.states() == [("few rows", False)]
    log.day(1, rows=9)
    log.watch()
    assert log.states() == [("stable", False)]  # in the place of the open one


def test_a_day_between_without_answers_and_one_with_few(log):
    log.day(0)
    log.day(2, rows=20)
    log.day(3, rows=9)
    log.watch()
    assert [state for state, _ in log.states()] == ["stable", "no data", "few rows"]


def test_degraded_answers_are_counted_and_not_judged(log):
    log.day(0, degraded=True, features=None, score=None, model_version=None, run_id=None, digest=None)
    log.day(1, rows=9)
    [window] = log.watch()
    assert (window.state, window.rows, window.degraded, window.version) == ("no data", ROWS, ROWS, None)


def test_labels_mature_and_the_window_is_judged_again(log):
    log.day(0)
    log.day(1, rows=9)
    [before] = log.watch()
    assert (before.quality.maturity, before.quality.realised) == (0, {})
    assert before.quality.estimated["auc"] == pytest.approx(0.9, abs=0.1)
    log.day(2, labelled=True)
    log.day(3, rows=9)
    log.watch()
    after = {each.first: each for _, each in log.found.latest("toy", 10)}[START + 2 * DAY]
    assert after.quality.maturity == 1
    assert after.quality.lag_seconds == pytest.approx(2 * DAY.total_seconds())
    assert after.quality.realised["auc"] == pytest.approx(after.quality.estimated["auc"], abs=0.1)
    assert after.quality.parted == ()


def test_wrong_labels_part_from_the_estimate(log):
    log.day(0)
    for place in range(ROWS):
        log.label(f"0-{place}", float(place % 2), START + DAY)
    log.day(1, rows=9)
    [window] = log.watch()
    assert {"ap", "auc"} <= set(window.quality.parted)


def test_a_handful_of_wrong_labels_proves_nothing(log):
    log.day(0)
    for place in range(20):
        log.label(f"0-{place}", float(place % 2), START + DAY)
    log.day(1, rows=9)
    [window] = log.watch()
    assert window.quality.labelled == 20
    assert window.quality.parted == ()


def test_a_label_said_twice_or_anew_counts_once_and_as_said_last(log):
    log.day(0, rows=ROWS)
    log.label("0-0", 1.0, START + DAY)
    log.label("0-0", 0.0, START + 2 * DAY)
    log.label("never asked", 1.0, START)
    seen = log.traffic.between("toy", START, START + DAY, ("x",), Watching())
    assert np.isnan(seen.labels).sum() == ROWS - 1
    assert seen.labels[0] == 0
    assert len(seen.scores) == ROWS


def test_an_event_of_another_year_ends_no_window_and_makes_no_thousand(log):
    log.day(0)
    log.day(3_000, rows=1)
    log.day(1)
    log.day(2, rows=9)
    log.watch()
    assert log.states() == [("stable", False)] * 2
    assert [each.rows for _, each in log.found.latest("toy", 9)] == [ROWS, ROWS]


def test_looked_at_again_an_open_window_is_looked_at_now(log):
    log.day(0, rows=20)
    log.watch()
    watch(TOY, log.traffic, log.found, lambda run, digest: MANIFEST, NOW + DAY)
    [(looked_at, window)] = log.found.latest("toy", 9)
    assert (looked_at, window.state, window.rows) == (NOW + DAY, "few rows", 20)


def test_two_versions_in_a_window_the_one_with_most_answers_is_judged(log):
    log.day(0, rows=250)
    log.day(0.5, rows=50, version="2")
    seen = judge(TOY, START, log.traffic, lambda run, digest: MANIFEST)
    assert seen.version == "1"
    assert seen.rows > 250


def test_missing_infinite_and_constant_inputs_are_drift_and_no_error(log):
    for number, value in enumerate(("null", "Infinity", "0.0")):
        log.day(number, features=f'{{"x": {value}}}')
    log.day(3, rows=9)
    log.watch()
    assert {state for state, _ in log.states()} == {"drift"}


@pytest.mark.parametrize("deaths", [0, 1, 2])
def test_killed_at_any_window_the_next_look_does_what_is_left(log, deaths):
    for number in range(4):
        log.day(number)
    log.day(4, rows=9)
    calls = iter(range(100))

    def dying(run, digest):
        if next(calls) == deaths:
            raise KeyboardInterrupt
        return MANIFEST

    with pytest.raises(KeyboardInterrupt):
        log.watch(manifests=dying)
    assert len(log.states()) == deaths
    log.watch()
    assert log.states() == [("stable", False)] * 4


@pytest.mark.parametrize("deaths", [1, 4])
@pytest.mark.parametrize("statement", ["DELETE", "INSERT"])
def test_a_process_killed_in_the_middle_of_a_write_loses_no_verdict(log, deaths, statement):
    """SIGKILL after the old verdict is deleted, or the new one written, and before either is committed."""
    for number in range(4):
        log.day(number)
    log.day(4, rows=9)
    log.watch()
    before = log.found.latest("toy", 100)
    for number in range(4):
        log.label(f"{number}-0", 1.0, START + 5 * DAY)  # so that each window is due again

    def look() -> None:
        log.engine.dispose(close=False)
        seen = iter(range(1, 100))

        @event.listens_for(log.engine, "after_cursor_execute")
        def kill(_connection, _cursor, said, *_):
            if said.startswith(f"{statement} ") and next(seen) == deaths:
                os.kill(os.getpid(), signal.SIGKILL)

        log.watch()

    killed = multiprocessing.get_context("fork").Process(target=look)
    killed.start()
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    assert [window.first for _, window in log.found.latest("toy", 100)] == [window.first for _, window in before]
    log.watch()
    assert log.states() == [("stable", False)] * 4


def test_what_was_found_survives_its_json(log):
    log.day(0, labelled=True)
    log.day(1, rows=9)
    [window] = log.watch()
    assert Watched.from_json(window.to_json()) == window


def above(window, reference):
    return [mean_above("doubt", "mean", window["doubt"], reference["doubt"])]


MEASURED = replace(
    TOY, training=replace(TOY.training, watching=replace(TOY.training.watching, measures=above, sampled=("doubt",)))
)
SAMPLED = MANIFEST.model_copy(update={"samples": {"doubt": DRAW.normal(size=500).tolist()}})


def test_what_the_use_case_measures_makes_a_drift_of_its_own_and_two_of_three_a_sustained_one(log):
    for number, shift in enumerate((0, 1, 1)):
        for value in DRAW.normal(shift, size=ROWS):
            log.day(number + float(DRAW.random()), rows=1, outputs=json.dumps({"doubt": value, "list": [1.0, 2.0]}))
    log.day(3, rows=9)
    log.watch(MEASURED, lambda run, digest: SAMPLED)
    assert log.states() == [("stable", False), ("drift", False), ("drift", True)]
    newest = log.found.latest("toy")[0][1]
    [measure] = newest.measures
    assert (measure.feature, measure.method, measure.drifted) == ("doubt", "mean", True)
    assert newest.reasons == (f"doubt: mean {measure.value:.3f}, at most {measure.threshold:.3f} is usual",)
    assert row(newest)["doubt mean"] == round(measure.value, 3)
    assert Watched.from_json(newest.to_json()) == newest


def test_nothing_is_measured_where_the_model_kept_no_rows_or_the_log_has_none(log):
    log.day(0, outputs=json.dumps({"doubt": 0.0}))
    log.day(1)
    log.day(2, rows=9)
    for number, manifest in ((0, MANIFEST), (1, SAMPLED)):
        window = judge(MEASURED, START + number * DAY, log.traffic, lambda run, digest, said=manifest: said)
        assert (window.state, window.measures) == ("stable", ())


def apart(window, reference):
    return [mean_above(name, "mean", window[name], reference[name]) for name in ("doubt", "room") if name in window]


def test_a_model_or_a_log_from_before_a_value_was_kept_is_measured_by_what_it_has(log):
    watching = replace(TOY.training.watching, measures=apart, sampled=("doubt", "room"))
    case = replace(TOY, training=replace(TOY.training, watching=watching))
    newer = MANIFEST.model_copy(update={"samples": {"doubt": [0.0, 1.0] * 250, "room": [3.0, 4.0] * 250}})
    log.day(0, outputs='{"doubt": 0.5}')
    log.day(1, outputs='{"doubt": 0.5}', features='{"x": 0.0, "room": 9.0}')
    found = [
        [each.feature for each in judge(case, START + number * DAY, log.traffic, lambda *_, of=kept: of).measures]
        for number in (0, 1)
        for kept in (SAMPLED, newer)
    ]
    assert found == [["doubt"], ["doubt"], ["doubt"], ["doubt", "room"]]


def test_in_the_window_in_which_a_value_begins_to_be_kept_the_rows_that_have_it_are_the_sample(log):
    for place, features in enumerate(('{"x": 0.0}', '{"x": 0.0, "room": 4.0}')):
        log.day(place / 10, rows=1, outputs=f'{{"doubt": {place}.5}}', features=features)
    watching = replace(MEASURED.training.watching, sampled=("doubt", "room"))
    sample = log.traffic.between("toy", START, START + DAY, ("x",), watching).sample
    assert {name: values.tolist() for name, values in sample.items()} == {"doubt": [1.5], "room": [4.0]}


def test_of_a_unit_only_its_first_row_is_in_the_sample(log):
    for place, value in enumerate((3.0, 1.0, 2.0)):
        sources = json.dumps({"who": {"entity": 7 if place < 2 else 8}})
        log.day((5 - place) / 10, rows=1, sources=sources, outputs=json.dumps({"doubt": value}))
    watching = replace(MEASURED.training.watching, unit="who")
    seen = log.traffic.between("toy", START, START + DAY, ("x",), watching)
    assert seen.sample["doubt"].tolist() == [2.0, 1.0]


def of_one(who):
    return json.dumps({"who": {"entity": who}})


BY_UNIT = replace(TOY, training=replace(TOY.training, watching=replace(TOY.training.watching, unit="who")))


def test_one_who_asks_a_thousand_times_in_his_own_way_is_no_drift(log):
    for who in range(ROWS):
        log.day(float(DRAW.random()), rows=1, sources=of_one(who))
    log.day(0, shift=3, rows=1_000, sources=of_one(-1))
    first, everyone = (judge(case, START, log.traffic, lambda run, digest: MANIFEST) for case in (BY_UNIT, TOY))
    assert (first.state, first.rows, len(first.inputs)) == ("stable", 1_300, 1)
    assert everyone.state == "drift"


def test_many_answers_to_a_few_who_ask_are_few_rows_of_inputs(log):
    for who in range(5):
        log.day(who / 10_000, rows=100, shift=who, sources=of_one(who), outputs=json.dumps({"doubt": 0.0}))
    said = ("inputs of 5 units are not compared, 200 are asked",)
    window = judge(BY_UNIT, START, log.traffic, lambda run, digest: MANIFEST)
    assert (window.state, window.inputs, window.score, window.reasons) == ("few rows", (), None, said)

    watching = replace(MEASURED.training.watching, unit="who")
    case = replace(MEASURED, training=replace(MEASURED.training, watching=watching))
    window = judge(case, START, log.traffic, lambda run, digest: SAMPLED)
    assert (window.state, window.inputs, len(window.measures), window.reasons) == ("stable", (), 1, said)


def test_rows_without_a_number_are_left_out_of_the_sample(log):
    for place, doubt in enumerate(("1.5", "null", "NaN", "Infinity")):
        log.day(place / 10, rows=1, outputs=f'{{"doubt": {doubt}}}')
    seen = log.traffic.between("toy", START, START + DAY, ("x",), MEASURED.training.watching)
    assert (seen.sample["doubt"].tolist(), len(seen.scores)) == ([1.5], 4)


def test_whole_answers_and_all_feedback_to_them_tell_what_one_label_a_row_does_not(log):
    log.day(0, labelled=True, answer='{"shown": 3}')
    log.label("0-0", 0.0, START + DAY)
    log.label("elsewhere", 1.0, START + DAY)
    log.day(1, rows=9, labelled=True)

    def told(answers, feedback):
        return {"shown": sum(each["shown"] for each in answers), "told": len(feedback)}

    case = replace(TOY, training=replace(TOY.training, watching=replace(TOY.training.watching, answered=told)))
    [window] = log.watch(case)
    assert window.quality.realised["shown"] == 3 * ROWS
    assert window.quality.realised["told"] == ROWS + 1
    assert "auc" in window.quality.realised


def test_a_window_written_before_there_were_measures_is_still_read(log):
    log.day(0)
    log.day(1, rows=9)
    [window] = log.watch()
    before = json.loads(window.to_json())
    assert before.pop("measures") == []
    assert Watched.from_json(json.dumps(before)) == window


def test_windows_follow_each_other_since_1970():
    week = timedelta(days=7)
    assert floor(START + timedelta(hours=5), DAY) == START
    assert floor(START, week) + week > START >= floor(START, week)


def test_the_log_that_was_never_watched_says_so(log):
    assert log.found.latest("toy") == []
    assert log.found.newest() == {}
    assert LogReader(log.engine).last() == 0
