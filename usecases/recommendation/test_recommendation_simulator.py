"""Simulated users do what their published taste says, and the log of what they did tells it."""

from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import numpy as np
import pytest

from orrery.off_policy import evaluate
from orrery.usecase import Scored
from usecases.recommendation.counterfactual import (
    NothingExplored,
    TargetRefused,
    off_policy,
    off_policy_rows,
    position_bias,
)
from usecases.recommendation.items import genres_of
from usecases.recommendation.requests import RecommendationFeedback
from usecases.recommendation.scoring import SOURCES
from usecases.recommendation.serving import serving
from usecases.recommendation.simulator import ETA, attraction, click_probability, online, react
from usecases.recommendation.test_recommendation_serving import AT, MODEL, asked, rules

CATALOGUE = MODEL.catalogue
USERS, MANY, K = 200, 3_000, 5
ROW = serving.features({}, asked())


@cache
def outputs_for(user):
    """A ranker that knows half of what the user likes."""
    genres = [genres_of(bits) for bits in CATALOGUE.bits.tolist()]
    pairs = zip(CATALOGUE.ids.tolist(), genres, strict=True)
    likes = np.array([attraction(user, item, names) for item, names in pairs])
    scores = 0.5 * likes + 0.5 * np.random.default_rng(user).random(len(likes))
    order = np.argsort(-scores)[:100]
    sources = np.full((1, 100), SOURCES.index("ease"), float)
    return {"items": CATALOGUE.ids[order][None], "scores": scores[order][None], "sources": sources}


@dataclass
class Log:
    answers: list
    feedback: list


def served(many, epsilon, eta=ETA, prefix="r", k=K, **changes):
    written = rules(epsilon=epsilon, explore_pool=20, **changes)
    log = Log([], [])
    for number in range(many):
        user = number % USERS
        request = asked(f"{prefix}{number}", user_id=user, k=k)
        answer = serving.respond(Scored(request, (), written, {}, ROW, outputs_for(user), MODEL)).model_dump(
            mode="json"
        )
        log.answers.append(answer)
        log.feedback += react(request, answer, eta)
    return log


def truth(log):
    """The expected clicks an item of what was shown."""
    return np.mean([
        click_probability(answer["user_id"], item["item_id"], item["genres"], item["rank"])
        for answer in log.answers
        for item in answer["items"]
    ])  # fmt: skip


@pytest.fixture(scope="module")
def log():
    return served(MANY, 0.3, promotions=[{"slot": 3, "item_id": 500, "share": 0.4}])


def test_a_reaction_can_be_sent_and_is_about_its_answer(log):
    sent = {answer["request_id"]: answer for answer in log.answers}
    for event in log.feedback[:200]:
        assert RecommendationFeedback.model_validate_json(event.model_dump_json()) == event
        assert serving.objection(event, sent[event.request_id]) is None
        assert AT <= event.at <= AT + timedelta(seconds=K)


def test_the_same_request_gets_the_same_clicks(log):
    request = asked("again", user_id=3)
    assert react(request, log.answers[3]) == react(request, log.answers[3])


@pytest.mark.parametrize("rank", [1, 4])
def test_clicks_come_as_often_as_the_published_probability_says(rank):
    item = {"item_id": 7, "rank": rank, "genres": ["Drama"]}
    clicks = [
        event.event
        for number in range(4_000)
        for event in react(asked(f"{number}", user_id=5), {"items": [item]})
    ]  # fmt: skip
    probability = click_probability(5, 7, ["Drama"], rank)
    assert probability == attraction(5, 7, ["Drama"]) * rank**-ETA
    assert clicks.count("impression") == 4_000
    assert abs(clicks.count("click") - 4_000 * probability) < 5 * (4_000 * probability * (1 - probability)) ** 0.5


def test_users_differ_in_taste_and_items_in_quality():
    assert len({attraction(user, 1, ["War"]) for user in range(50)}) == 50
    assert len({attraction(1, item, ["War"]) for item in range(50)}) == 50
    shares = [attraction(user, item, ["War", "Drama"]) for user in range(100) for item in range(100)]
    assert 0.2 < np.mean(shares) < 0.4
    assert 0 < min(shares) < max(shares) < 1


def test_figures_of_what_was_served(log):
    figures = online([*log.answers, log.answers[0]], log.feedback)
    assert figures["impressions"] == MANY * K
    assert figures["ctr"] == pytest.approx(truth(log), abs=0.01)
    assert figures["clicks"] == round(figures["ctr"] * figures["impressions"])
    assert figures["explored_share"] == pytest.approx(0.3 * 19 / 20 * (1 - 0.4 / K), abs=0.01)
    assert figures["promoted_share"] == pytest.approx(0.4 / K, abs=0.01)
    assert figures["fallback_share"] == 0.0
    assert 0.5 < figures["coverage"] <= 1.0
    assert not any(online([], []).values())


def test_better_rankers_earn_more_clicks(log):
    assert truth(served(400, 0.0)) > truth(served(400, 1.0)) + 0.03


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.6])
def test_off_policy_evaluation_finds_what_another_policy_would_earn(log, epsilon):
    expected = truth(served(MANY, epsilon, promotions=[{"slot": 3, "item_id": 500, "share": 0.4}]))
    found = evaluate(**off_policy(log.answers, log.feedback, f"epsilon={epsilon}"), resamples=300)
    assert not found.unusable
    assert not found.warnings
    for estimate in (found.estimates.ips, found.estimates.snips, found.estimates.dm, found.estimates.dr):
        assert estimate.value.low <= expected <= estimate.value.high
        assert estimate.value.high - estimate.value.low < 0.06
    assert found.on_policy.low <= truth(log) <= found.on_policy.high


POOL, NO_POOL = {"best_score": 0.9, "pool_score": 0.5}, {"best_score": None, "pool_score": None}


def test_probabilities_are_those_of_the_list_down_to_the_item():
    items = [
        {"item_id": 7, "rank": 1, "score": 0.9, **POOL, "propensity": 0.8, "pool": 2, "explored": False},
        {
            "item_id": 8,
            "rank": 2,
            "score": None,
            **NO_POOL,
            "propensity": 0.3,
            "pool": 1,
            "explored": False,
        },  # a promotion
        {"item_id": 9, "rank": 3, "score": 0.2, **POOL, "propensity": 0.1, "pool": 4, "explored": True},
    ]
    answer = {"request_id": "r", "user_id": 1, "items": items, "policy": {"epsilon": 0.4}}
    click = RecommendationFeedback(request_id="r", user_id=1, item_id=8, event="click", at=AT)
    rated = RecommendationFeedback(request_id="r", user_id=1, item_id=7, event="rating", rating=5.0, at=AT)
    rows = off_policy_rows([answer, answer], [click, rated], 0.2)
    assert rows["reward"].tolist() == [0, 1, 0]
    assert rows["score"].tolist() == [0.9, 0.0, 0.2]
    assert rows["propensity"] == pytest.approx([0.8, 0.24, 0.024])
    assert rows["target"] == pytest.approx([0.9, 0.27, 0.0135])
    assert off_policy_rows([answer], [], 0.0)["target"] == pytest.approx([1.0, 0.3, 0.0])


@pytest.mark.parametrize("target", ["", "epsilon=", "epsilon=1.2", "epsilon=nan", "best"])
def test_a_policy_that_there_is_not_is_refused(target):
    with pytest.raises(TargetRefused, match="greedy, or epsilon=SHARE"):
        off_policy([], [], target)


def test_the_policy_that_logged_has_weights_of_one(log):
    rows = off_policy_rows(log.answers, log.feedback, 0.3)
    np.testing.assert_allclose(rows["target"], rows["propensity"])
    assert rows["rank"].tolist()[: 2 * K] == [*range(1, K + 1), *range(1, K + 1)]


def test_a_log_without_exploration_says_nothing_of_an_exploring_policy():
    quiet = served(400, 0.0, prefix="quiet")
    rows = off_policy_rows(quiet.answers, quiet.feedback, 0.5)
    found = evaluate(rows["reward"], rows["propensity"], rows["target"], cluster=rows["user_id"], resamples=100)
    assert found.unusable or found.warnings


@pytest.mark.slow
@pytest.mark.parametrize("eta", [0.4, 1.0])
def test_a_planted_position_bias_is_recovered(eta):
    """At rank 20 chance draws from far enough down for that to look like bias, if nobody corrects it."""
    planted = served(1_500, 1.0, eta=eta, prefix=f"eta-{eta}-", k=20)
    found = position_bias(planted.answers, planted.feedback)
    assert found.low <= eta <= found.high
    assert found.high - found.low < 0.08


def test_what_was_not_explored_tells_no_position_bias():
    quiet = served(10, 0.0)
    with pytest.raises(NothingExplored, match="raise epsilon"):
        position_bias(quiet.answers, quiet.feedback)
