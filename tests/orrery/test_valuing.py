"""Another policy's value by window: from as few windows as carry it, and from none when they do not."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from toy.toy_case import CASE

from orrery.valuing import MOST_ANSWERS, valued
from orrery.watching import Watched, Watching

DAY = timedelta(days=1)
FIRST = datetime(2024, 1, 9, tzinfo=UTC)
WINDOW = Watched("toy", FIRST, FIRST + DAY, "1", "stable", 0, 0)
BETTER, WORSE = 0.8, 0.2


def policies(answers, _, target):
    """The log does one of two things by even chance; the target always does the better one."""
    assert target == "best"
    column = {name: np.array([answer[name] for answer in answers]) for name in ("user", "best", "reward", "propensity")}
    return {"reward": column["reward"], "propensity": column["propensity"], "target": column["best"] * 1.0,
            "cluster": column["user"]}  # fmt: skip


def toy(pooled=3, target="best", hook=policies):
    watching = Watching(target=target, pooled=pooled, answered=lambda *_: {})
    return replace(CASE, training=replace(CASE.training, watching=watching, off_policy=hook))


class Days:
    """A log of so many answers a day, the newest last, by users of their own; notes which days were asked for."""

    def __init__(self, *answers, users=None, propensity=0.5):
        draw, self.asked = np.random.default_rng(1), []
        self.days = [
            [self._answer(draw, number, users or many, propensity, day) for number in range(many)]
            for day, many in enumerate(answers)
        ]

    def _answer(self, draw, number, users, propensity, day):
        best = bool(draw.random() < 0.5)
        reward = float(draw.random() < (BETTER if best else WORSE))
        return {"user": day * 10_000 + number % users, "best": best, "reward": reward, "propensity": propensity}

    def said(self, _name, first, last, _told_as):
        assert last - first == DAY
        ago = (FIRST - first) // DAY
        self.asked.append(ago)
        return (self.days[-1 - ago] if ago < len(self.days) else []), []

    def value(self, case=None):
        return valued(case or toy(), WINDOW, (self.days[-1], []), self)


def test_a_window_that_carries_it_alone_is_enough():
    days = Days(1_000, 1_000)
    found = days.value()
    assert set(found) == {"best_value", "best_value_low", "best_value_high"}
    assert found["best_value"] == pytest.approx(BETTER, abs=0.05), "the log earned 0.5"
    assert found["best_value_low"] < found["best_value"] < found["best_value_high"]
    assert found["best_value_high"] - found["best_value_low"] < 0.15
    assert days.asked == []


def test_windows_before_it_are_taken_along_until_they_carry_it():
    days = Days(900, 150, 60)
    found = days.value()
    assert days.asked == [1], "210 rows, of which half weigh 2, are 105 effective ones"
    assert found["best_value_low"] < BETTER < found["best_value_high"]


@pytest.mark.parametrize(
    "days",
    [Days(900, 20, 20, 20), Days(20), Days(0), Days(0, 0, 0), Days(2_000, users=20)],
    ids=["too far back", "no windows before", "nothing", "nothing anywhere", "few users"],
)
def test_where_the_last_windows_do_not_carry_it_nothing_is_said(days):
    assert days.value() == {}
    assert days.asked == [1, 2], "no further back than was asked for"


def test_propensities_that_cannot_be_right_give_no_value():
    assert Days(1_000, propensity=0.25).value() == {}, "the mean weight is 2"


@pytest.mark.parametrize("propensity", [1.5, 0.0, np.nan])
def test_probabilities_that_are_none_give_no_value(propensity):
    assert Days(1_000, propensity=propensity).value() == {}


def test_who_has_no_other_policy_has_no_value():
    assert Days(1_000).value(toy(target=None)) == {}
    assert Days(1_000).value(toy(hook=None)) == {}


def test_of_very_many_answers_some_are_looked_at():
    looked_at = []

    def counting(answers, feedback, target):
        looked_at.append(len(answers))
        return policies(answers, feedback, target)

    found = Days(3 * MOST_ANSWERS).value(toy(hook=counting))
    assert looked_at == [MOST_ANSWERS]
    assert found["best_value"] == pytest.approx(BETTER, abs=0.03)
