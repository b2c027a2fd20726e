"""What the watch says the ranking would have earned without exploration, against what simulated users do by it."""

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import insert

import usecases
from orrery.adapters.database import open_database
from orrery.adapters.prediction_log import labels, metadata, predictions
from orrery.adapters.traffic_log import TrafficLog
from orrery.moments import EPOCH, micros
from orrery.monitoring import judge
from orrery.usecase import Case
from usecases.recommendation.serving import serving
from usecases.recommendation.test_recommendation_serving import AT
from usecases.recommendation.test_recommendation_simulator import Log, served, truth

pytestmark = pytest.mark.slow
NAME, EPSILON, WEEK = "recommendation", 0.2, timedelta(days=7)
START = AT - (AT - EPOCH) % WEEK
FIGURES = {"greedy_value", "greedy_value_low", "greedy_value_high"}


@pytest.fixture
def weeks(tmp_path):
    """Writes answers and what users did of them, an equal share into each of so many weeks; each week's figures."""
    engine = open_database(f"sqlite:///{tmp_path / 'log.db'}", durable=False)
    metadata.create_all(engine)
    training = usecases.training(NAME)
    # windows of fewer rows than are asked for say nothing of drift, which is not looked at here
    watching = replace(training.watching, rows=10**9)
    case = Case(NAME, replace(training, watching=watching), serving)

    def looked_at(log, many=1):
        place = {answer["request_id"]: number for number, answer in enumerate(log.answers)}
        week = {name: number * many // len(place) for name, number in place.items()}
        with engine.begin() as connection:
            rows = [_answer(answer, number, week[name]) for (name, number), answer in zip(place.items(), log.answers,
                                                                                      strict=True)]  # fmt: skip
            connection.execute(insert(predictions), rows)
            told = [_told(event, number) for number, event in enumerate(log.feedback, len(rows))]
            connection.execute(insert(labels), told)
        traffic, firsts = TrafficLog(engine), [START + number * WEEK for number in range(many)]
        judged = [judge(case, first, traffic, lambda *_: pytest.fail("no drift is asked")) for first in firsts]
        return [window.quality.realised for window in judged]

    yield looked_at
    engine.dispose()


def _answer(answer, number, week):
    return {
        "sequence": number + 1, "prediction_id": f"{number}", "use_case": NAME, "identity": answer["request_id"],
        "event_time": micros(START + week * WEEK) + number, "recorded_at": 0, "model_version": "1", "run_id": "r",
        "digest": "d", "data_version": "v", "git_commit": "c", "variant": "champion", "degraded": False,
        "degraded_reason": None, "rules_version": "1", "score": 0.5, "request": "{}", "sources": "{}",
        "features": json.dumps(dict.fromkeys(serving.feature_names, 0.0)), "outputs": "{}",
        "answer": json.dumps(answer),
    }  # fmt: skip


def _told(event, number):
    return {
        "sequence": number + 1, "use_case": NAME, "identity": event.request_id, "subject": serving.subject(event),
        "label": serving.label(event), "arrived_at": micros(event.at), "recorded_at": 0,
        "feedback": event.model_dump_json(),
    }  # fmt: skip


def test_the_estimate_is_what_the_same_users_would_click_without_exploration(weeks):
    expected = truth(served(1_500, 0.0))
    (found,) = weeks(served(1_500, EPSILON))
    assert found["greedy_value_low"] <= expected <= found["greedy_value_high"]
    assert found["greedy_value_high"] - found["greedy_value_low"] < 0.06
    assert found["greedy_value"] > found["ctr"], "exploration costs clicks"


def test_weeks_of_few_users_are_valued_together_and_none_alone(weeks):
    log = served(100, EPSILON)
    alone, *together = weeks(log, many=4)
    assert not FIGURES & alone.keys(), "25 users are too few"
    assert sum(found.keys() >= FIGURES for found in together) >= 2, "but for what chance does to weights"
    greedy = served(100, 0.0)
    for number, found in enumerate(together, 1):
        if FIGURES & found.keys():
            expected = truth(Log(greedy.answers[25 * (number - 1) : 25 * (number + 1)], []))
            assert found["greedy_value_low"] <= expected <= found["greedy_value_high"]


def test_a_week_of_few_users_has_no_estimate_and_keeps_its_other_figures(weeks):
    log = served(40, EPSILON)
    for answer in log.answers:
        answer["user_id"] %= 20
    log.feedback = [event.model_copy(update={"user_id": event.user_id % 20}) for event in log.feedback]
    (found,) = weeks(log)
    assert not FIGURES & found.keys()
    assert {"ctr", "shown_ndcg", "shown_coverage"} <= found.keys()


def test_where_nothing_was_left_to_chance_it_is_the_click_rate(weeks):
    (found,) = weeks(served(300, 0.0))
    assert found["greedy_value"] == pytest.approx(found["ctr"])


def test_a_log_whose_propensities_are_wrong_has_none(weeks):
    log = served(1_500, EPSILON)
    for answer in log.answers:
        for item in answer["items"]:
            item["propensity"] = float(np.sqrt(item["propensity"]))
    (found,) = weeks(log)
    assert "ctr" in found
    assert not FIGURES & found.keys()
