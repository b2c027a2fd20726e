"""`--label-delay`: labels that take another time, the same one in each replay."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import usecases
from cli import replay as replay_module
from cli.label_delay import SIGMA, DelayRefused, LabelDelay, delayed
from cli.replay import read_script, write_script
from orrery.usecase import SourceRequest, silent

WEEK, DAY = timedelta(days=7), timedelta(days=1)
TRAINING, SERVING = usecases.training("fraud"), usecases.serving("fraud")
SPANS = st.builds(lambda number, unit: f"{number}{unit}", st.integers(1, 3_000), st.sampled_from("dhm"))
IDENTITIES = st.text(min_size=1, max_size=40)


@pytest.fixture(scope="module")
def said():
    reader = TRAINING.sources[next(iter(TRAINING.sources))]
    rows = TRAINING.validate(reader(SourceRequest("", sample=True), silent))
    return TRAINING.requests(rows.head(3_000))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7d", LabelDelay(WEEK)),
        ("36h", LabelDelay(1.5 * DAY)),
        ("0.5d", LabelDelay(DAY / 2)),
        ("90m", LabelDelay(timedelta(minutes=90))),
        ("lognormal", LabelDelay(WEEK, SIGMA)),
        ("lognormal:3d", LabelDelay(3 * DAY, SIGMA)),
        ("lognormal:3d,1.2", LabelDelay(3 * DAY, 1.2)),
    ],
)
def test_a_delay_is_read(text, expected):
    assert LabelDelay.read(text, TRAINING) == expected


@pytest.mark.parametrize(
    "text",
    ["", "7", "d", "0d", "-7d", "7w", "1e9d", "99999d", "nan", "normal:7d", "lognormal:", "lognormal:,1",
     "lognormal:7d,", "lognormal:7d,0", "lognormal:7d,-1", "lognormal:7d,nan", "lognormal:7d,9", "lognormal:7d,x",
     "lognormal:7d,1,2"],
)  # fmt: skip
def test_what_is_none_is_refused_with_one_that_is(text):
    with pytest.raises(DelayRefused, match=r"write 7d, 36h or 90m, lognormal|0\.5 is usual"):
        LabelDelay.read(text, TRAINING)


@given(st.text(max_size=30))
def test_whatever_is_typed_is_a_delay_or_refused(text):
    try:
        delay = LabelDelay.read(text, TRAINING)
    except DelayRefused:
        return
    assert timedelta(0) < delay.median <= delay.longest


def test_what_users_do_has_no_delay():
    with pytest.raises(DelayRefused, match="at the moment they do it"):
        LabelDelay.read("7d", usecases.training("recommendation"))


@given(SPANS, st.floats(0.01, 3), IDENTITIES)
def test_a_label_takes_as_long_each_time_and_never_longer_than_the_longest(span, sigma, identity):
    delay = LabelDelay.read(f"lognormal:{span},{sigma!r}", TRAINING)
    assert timedelta(0) <= delay.of(identity) <= delay.longest
    assert delay.of(identity) == LabelDelay.read(f"lognormal:{span},{sigma!r}", TRAINING).of(identity)
    assert LabelDelay.read(span, TRAINING).of(identity) == LabelDelay.read(span, TRAINING).longest


@given(st.lists(IDENTITIES, min_size=2, max_size=2, unique=True))
def test_each_label_takes_a_time_of_its_own(pair):
    one, other = (LabelDelay(WEEK, 0.5).of(identity) for identity in pair)
    assume(min(one, other) > WEEK / 4.6)
    assert one != other or one == LabelDelay(WEEK, 0.5).longest


def test_delays_are_log_normal_around_the_median():
    days = np.log([LabelDelay(WEEK, 0.8).of(str(number)) / DAY for number in range(20_000)])
    assert np.median(days) == pytest.approx(np.log(7), abs=0.02)
    assert days.std() == pytest.approx(0.8, rel=0.02)
    assert np.mean(days < np.log(7) - 0.8) == pytest.approx(0.159, abs=0.01)


def test_labels_move_requests_stay_and_all_are_in_order(said):
    delay = LabelDelay(WEEK, 1.0)
    moved = delayed(said, delay, SERVING)
    asked = {SERVING.identity(body): moment for moment, kind, body in moved if kind == "predict"}
    assert [moment for moment, _, _ in moved] == sorted(moment for moment, _, _ in moved)
    assert [event for event in moved if event[1] == "predict"] == [event for event in said if event[1] == "predict"]
    told = [(moment, body) for moment, kind, body in moved if kind == "feedback"]
    assert len(told) * 2 == len(moved)
    for moment, body in told:
        assert SERVING.label_arrival(body) == moment == asked[SERVING.identity(body)] + delay.of(SERVING.identity(body))
    truth = {SERVING.identity(body): SERVING.label(body) for _, kind, body in said if kind == "feedback"}
    assert {SERVING.identity(body): SERVING.label(body) for _, body in told} == truth


def test_a_replay_reads_as_far_back_as_a_label_in_it_can_come_from(asking, stand_in, monkeypatch):
    stand_in.answer = lambda *_: (200, {})
    reader = TRAINING.sources[next(iter(TRAINING.sources))]
    rows = TRAINING.validate(reader(SourceRequest("", sample=True), silent))
    moments = rows[TRAINING.moment]

    def read(configured, use_case, first, last):
        return rows[(moments >= first) & (moments < last)]

    monkeypatch.setattr(replay_module, "_rows", read)
    first = moments.min().to_pydatetime() + 2 * WEEK
    script = read_script(asking, "fraud", first, first + DAY, None, (), LabelDelay(2 * WEEK))
    told = {event.identity for event in script.events if event.kind == "feedback"}
    earlier = rows[(moments >= first - 2 * WEEK) & (moments < first - 2 * WEEK + DAY)]
    assert told == {str(each) for each in earlier[TRAINING.identity]} != set()


def test_a_replay_that_goes_on_sends_each_label_once(said):
    first, last = said[0][0], said[-1][0] + 9 * WEEK
    history = delayed(said, LabelDelay(WEEK, 1.0), SERVING)
    whole = write_script(SERVING, history, first, last, None).events
    cuts = pd.date_range(first, last, periods=5)
    parts = [
        event for start, end in pairwise(cuts) for event in write_script(SERVING, history, start, end, None).events
    ]
    assert parts == list(whole)


@pytest.mark.parametrize("name", [name for name in usecases.names() if usecases.training(name).label_delay])
def test_every_use_case_whose_labels_are_late_can_have_them_later(name):
    serving = usecases.serving(name)
    moment = serving.moment(serving.example)
    told = serving.example_feedback
    [_, (arrival, _, body)] = delayed(
        [(moment, "predict", serving.example), (moment, "feedback", told)],
        LabelDelay(WEEK),
        replace(serving, identity=lambda _: "1"),
    )
    assert serving.label_arrival(body) == arrival == moment + WEEK


def test_labels_that_do_not_say_when_they_arrived_are_refused():
    constant = replace(SERVING, label_arrival=lambda _: SERVING.moment(SERVING.example))
    events = [(SERVING.moment(SERVING.example), kind, body)
              for kind, body in (("predict", SERVING.example), ("feedback", SERVING.example_feedback))]  # fmt: skip
    with pytest.raises(DelayRefused, match="does not say when it arrived"):
        delayed(events, LabelDelay(WEEK), constant)
