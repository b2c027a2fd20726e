"""What the watch says of lists: nothing while they are as they were, and what became of them where they are not."""

import re
import sys
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrery.adapters.evidently_ranking import Lists
from orrery.adapters.evidently_reports import Asked, write_reports
from orrery.reference import Rows
from usecases.recommendation.requests import RecommendationFeedback
from usecases.recommendation.test_recommendation_serving import MODEL
from usecases.recommendation.test_recommendation_simulator import served
from usecases.recommendation.watched import impressions, measures, popularity, shown

AT = datetime(2016, 9, 1, tzinfo=UTC)
ITEMS, WINDOWS = 200, 300


def lists(draw, users, *, power=1.0, unknown=0.1, new=0.3):
    """Ten different items a user, the first of 200 likelier; what they know of items and how many are new."""
    weights = np.arange(1, ITEMS + 1) ** -power
    top = np.argsort(-(np.log(weights) + draw.gumbel(size=(users, ITEMS))), axis=1)[:, :10]
    return {
        "top": top.astype(float),
        "standing": top / ITEMS,
        "unknown": draw.binomial(20, unknown, size=users) / 20,
        "user_events": np.where(draw.random(users) < new, 0, 9),
    }


def drifted(found):
    return {each.feature for each in found if each.drifted}


def test_stationary_weeks_seldom_alarm():
    draw = np.random.default_rng(1)
    alarms = sum(bool(drifted(measures(lists(draw, 20), lists(draw, 60)))) for _ in range(WINDOWS))
    sys.stdout.write(f"{alarms} of {WINDOWS} stationary weeks alarm\n")
    assert alarms <= 5, "four measures, each one in a thousand; more than five come once in 800 times"


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"power": 3.0}, {"listed_popularity", "listed_coverage"}),
        ({"power": 0.1}, {"listed_popularity"}),
        ({"unknown": 0.5}, {"seen_items"}),
        ({"new": 0.9}, {"users"}),
        ({"unknown": 0.0, "new": 0.0}, set()),
    ],
)
def test_a_changed_week_is_seen_for_what_it_is(change, seen):
    draw = np.random.default_rng(2)
    assert drifted(measures(lists(draw, 50, **change), lists(draw, 150))) == seen


def test_a_window_that_lacks_one_of_the_values_is_not_measured():
    draw = np.random.default_rng(2)
    window, reference = lists(draw, 20), lists(draw, 60)
    for name in window:
        assert measures({each: window[each] for each in window if each != name}, reference) == ()


def test_lists_that_end_early_and_a_week_of_one_user_are_no_error():
    draw = np.random.default_rng(3)
    short = lists(draw, 1)
    short["top"][:, 4:] = short["standing"][:, 4:] = -1
    found = measures(short, lists(draw, 30))
    assert all(np.isfinite([each.value, each.threshold]).all() for each in found)
    assert not drifted(found)


def answer(request, items):
    return {
        "request_id": request, "degraded": False, "policy": {"catalogue": 8},
        "items": [
            {"item_id": item, "rank": rank, "explored": False, "promoted": False, "source": "ease"}
            for rank, item in enumerate(items, 1)
        ],
    }  # fmt: skip


def told(request, item, event="click"):
    return RecommendationFeedback(request_id=request, user_id=1, item_id=item, event=event, at=AT)


def test_what_was_shown_is_worth_what_was_taken_and_where_it_stood():
    answers = [answer("a", [1, 2, 3]), answer("b", [1, 2, 3]), answer("c", [4, 5, 6])]
    feedback = [told("a", 1), told("b", 3, "purchase"), told("c", 4, "impression"), told("a", 1), told("a", 9)]
    found = shown(answers, feedback)
    assert found["ctr"] == pytest.approx(2 / 9)
    assert found["shown_coverage"] == 6 / 8
    assert found["shown_ndcg"] == pytest.approx((1 + 0.5) / 2)


def test_what_cannot_be_said_is_left_out():
    assert shown([], []) == {}
    assert shown([answer("a", [])], []) == {}
    assert shown([answer("a", [1])], []) == {"ctr": 0.0, "shown_coverage": 1 / 8}


@given(st.lists(st.integers(1, 10), unique=True, min_size=1))
def test_the_list_whose_first_items_are_taken_is_the_best(taken):
    feedback = [told("a", item) for item in taken]
    best = shown([answer("a", sorted(range(1, 11), key=lambda item: item not in taken))], feedback)["shown_ndcg"]
    assert shown([answer("a", range(1, 11))], feedback)["shown_ndcg"] <= best == pytest.approx(1.0)


def test_each_answer_is_a_list_of_its_own_and_a_sent_again_one_is_none():
    answers = [answer("a", [1, 2]), answer("b", [1, 3]), answer("b", [1, 3])]
    found = impressions(answers, [told("b", 3), told("a", 2, "impression"), told("a", 9)])
    rows = zip(found.lists.tolist(), found.ranks.tolist(), found.items.tolist(), found.taken.tolist(), strict=True)
    assert list(rows) == [("a", 1, 1, False), ("a", 2, 2, False), ("b", 1, 1, False), ("b", 2, 3, True)]
    nothing = impressions([], [])
    assert {len(each) for each in vars(nothing).values()} == {0}


def test_what_is_popular_is_read_from_the_bundle_that_answered(tmp_path):
    MODEL.catalogue.save(tmp_path)
    items, likes = popularity(tmp_path)
    np.testing.assert_array_equal(items, MODEL.catalogue.ids)
    np.testing.assert_array_equal(likes, MODEL.catalogue.likes)


@pytest.mark.slow
def test_the_page_says_of_lists_what_the_watch_says_and_names_nobody(tmp_path):
    def large(number):
        return 9_000_000 + 7 * number

    log = served(150, 0.1, prefix="asked-of-", k=10)
    for each in log.answers:
        each["user_id"] = large(each["user_id"])
        each["items"] = [item | {"item_id": large(item["item_id"])} for item in each["items"]]
    feedback = [event.model_copy(update={"item_id": large(event.item_id)}) for event in log.feedback]
    watched = shown(log.answers, feedback)
    lists = Lists(impressions(log.answers, feedback), (large(MODEL.catalogue.ids), MODEL.catalogue.likes))
    rows = Rows(np.zeros((9, 1)), np.arange(9.0), np.ones(9))
    found = write_reports(Asked(("x",), "score", None, rows, None, AT, lists), tmp_path, 20_000_000)

    said = {each["metric_name"].partition("(")[0]: each["value"] for each in found.found[-1].dict()["metrics"]}
    assert list(said["NDCG"]["value"].values())[-1] == pytest.approx(watched["shown_ndcg"])
    assert list(said["PrecisionTopK"]["value"].values())[-1] == pytest.approx(watched["ctr"])
    page = (tmp_path / "ranking.html").read_text()
    assert f"{watched['shown_coverage']:.4f}".rstrip("0") in re.findall(r"\d\.\d+", page)
    known = {str(large(number)) for number in (*range(200), *MODEL.catalogue.ids.tolist())}
    assert not known & set(re.findall(r"\d+", page))
    assert "asked-of-" not in page
