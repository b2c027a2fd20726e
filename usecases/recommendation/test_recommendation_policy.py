"""What is shown of a ranking: rules, diversity, new items, promotions, and chance with its exact probabilities."""

from collections import Counter
from math import prod, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from usecases.recommendation import policy
from usecases.recommendation.items import content_vectors, genre_bits
from usecases.recommendation.policy import Items
from usecases.recommendation.requests import Filters, RecommendationRequest
from usecases.recommendation.rules import DEFAULT_RULES, RuleSet, chosen, hits, rule_set
from usecases.recommendation.scoring import Ranking

SIGMAS = 5


def rules(**changes) -> RuleSet:
    return rule_set({**DEFAULT_RULES, **changes})


def request(name="r", **changes) -> RecommendationRequest:
    return RecommendationRequest(request_id=name, user_id=1, **changes)


def ranking(items: int) -> Ranking:
    return Ranking(np.arange(items), np.linspace(0.9, 0.1, items), np.zeros(items, np.int64))


def assert_frequency(seen: int, of: int, probability: float) -> None:
    assert abs(seen - of * probability) <= SIGMAS * sqrt(of * probability * (1 - probability)) + 1e-9


# --- rules ----------------------------------------------------------------------------------------

NEW = {"item_id": 9, "title": "Nine", "genres": "Drama|Unheard of", "year": 2020}


@pytest.mark.parametrize(
    "changes",
    [
        {"epsilon": 1.01}, {"epsilon": -0.1}, {"epsilon": "0.1"}, {"epsilon": float("nan")}, {"explore_pool": 0},
        {"version": ""}, {"version": None}, {"blocked_items": [-1]}, {"blocked_items": "12"}, {"out_of_stock": [2**24]},
        {"out_of_stock": {"ids": [1]}}, {"new_items": [{"item_id": 1}]}, {"new_items": [NEW, NEW]}, {"new_share": 2},
        {"new_items": [{**NEW, "price": 3}]}, {"promotions": [{"slot": 0, "item_id": 1}]},
        {"promotions": [{"slot": 101, "item_id": 1}]}, {"promotions": [{"slot": 1, "item_id": 1, "share": 0}]},
        {"promotions": [{"slot": 1, "item_id": 1}, {"slot": 2, "item_id": 1}]},
        {"promotions": [{"slot": 1, "item_id": 1, "share": 0.6}, {"slot": 1, "item_id": 2, "share": 0.6}]},
        {"fallback_items": [1.5]}, {"surprise": 1},
    ],
)  # fmt: skip
def test_a_rule_set_that_cannot_be_is_refused(changes):
    with pytest.raises(ValueError, match=r"."):
        hits(request(), {**DEFAULT_RULES, **changes})


def test_a_rule_set_lacks_nothing():
    for name in DEFAULT_RULES:
        with pytest.raises(ValidationError, match=name):
            rule_set({key: value for key, value in DEFAULT_RULES.items() if key != name})


def test_a_rule_set_is_checked_once():
    assert rule_set(DEFAULT_RULES) is rule_set(DEFAULT_RULES)
    assert rules(epsilon=0.2) is not rules(epsilon=0.2)


def test_an_unknown_genre_of_a_new_item_is_other():
    assert rules(new_items=[NEW]).new.bits.tolist() == [genre_bits("Drama|Other")]


def test_rules_fire_on_what_they_name():
    promotion = {"slot": 2, "item_id": 7}
    written = {**DEFAULT_RULES, "blocked_items": [3], "out_of_stock": [3, 4], "promotions": [promotion]}
    assert hits(request(), DEFAULT_RULES) == ()
    assert [hit.rule for hit in hits(request(context={"item_id": 3}), written)] == [
        "blocked_items", "out_of_stock", "promotions",
    ]  # fmt: skip
    assert [hit.rule for hit in hits(request(k=1), written)] == []


# --- what may be shown ----------------------------------------------------------------------------

ITEMS = Items(
    ids=np.arange(5),
    bits=np.array([genre_bits(text) for text in ("Drama", "Comedy|Drama", "Comedy", "", "Horror")]),
    years=np.array([1990, 2000, 2010, 2020, 0]),
)


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"genres_any": ("Drama",)}, [0, 1]),
        ({"genres_any": ("Drama", "Horror")}, [0, 1, 4]),
        ({"genres_none": ("Comedy",)}, [0, 3, 4]),
        ({"genres_any": ("Drama",), "genres_none": ("Comedy",)}, [0]),
        ({"year_from": 2000}, [1, 2, 3]),
        ({"year_to": 2000}, [0, 1]),
        ({"year_from": 1991, "year_to": 2010}, [1, 2]),
    ],
)
def test_filters_leave_what_passes(filters, left):
    conditions = policy.limits(request(filters=Filters(**filters)), rules())
    assert np.flatnonzero(policy.allowed(ITEMS, conditions)).tolist() == left


def test_a_contradiction_says_which_condition_left_how_many():
    asked = request(filters=Filters(genres_any=("Drama",), year_from=2005, year_to=1995), exclude=(0,))
    conditions = policy.limits(asked, rules(blocked_items=[3], out_of_stock=[99]))
    assert policy.nothing_left(ITEMS, conditions) == (
        "nothing left: 5 items, blocked_items left 4, out_of_stock left 4, exclude left 3, genres_any left 1, "
        "year_from left 0, year_to left 0"
    )


# --- diversity ------------------------------------------------------------------------------------


def vectors(seed: int, items: int):
    draw = np.random.default_rng(seed)
    return content_vectors(
        draw.integers(1, 2**19, items) & draw.integers(1, 2**19, items), draw.integers(1950, 2020, items)
    )


def likeness(found: Ranking, content, k: int) -> float:
    """The mean cosine of all pairs among the first k."""
    first = content[found.items[:k]]
    return ((first @ first.T).sum() - np.trace(first @ first.T)) / (k * (k - 1))


def test_diversity_is_felt_on_average():
    pairs = [(vectors(seed, 60), ranking(60)) for seed in range(50)]
    alike = [
        np.mean([likeness(policy.diversified(before, content, share, 10), content, 10) for content, before in pairs])
        for share in (0.0, 0.2, 0.5, 1.0)
    ]
    assert alike == sorted(alike, reverse=True)
    assert alike[-1] < 0.7 * alike[0]


@given(seed=st.integers(0, 10_000), items=st.integers(0, 40), k=st.integers(1, 50), share=st.floats(0, 1))
def test_diversity_loses_and_adds_nothing(seed, items, k, share):
    after = policy.diversified(ranking(items), vectors(seed, items), share, k)
    assert sorted(after.items.tolist()) == list(range(items))
    assert after.items[:1].tolist() == ranking(items).items[:1].tolist()
    if not share:
        assert after.items.tolist() == list(range(items))


def test_the_second_item_trades_score_for_difference():
    content = np.eye(3)[[0, 0, 1]]
    before = Ranking(np.arange(3), np.array([1.0, 0.9, 0.0]), np.zeros(3, np.int64))
    assert policy.diversified(before, content, 0.4, 3).items.tolist() == [0, 1, 2]  # 0.54 - 0.4 against 0
    assert policy.diversified(before, content, 0.5, 3).items.tolist() == [0, 2, 1]  # 0.45 - 0.5 against 0


# --- new items ------------------------------------------------------------------------------------


def placed_new(fits, share=0.2, pool=4, k=10):
    new = np.arange(100, 100 + len(fits)), np.array(fits)
    fit = np.linspace(0.9, 0.0, 10)
    return policy.with_new(ranking(20), fit, new, rules(new_share=share, explore_pool=pool), k).items.tolist()


def test_a_new_item_stands_where_it_fits():
    assert placed_new([0.95]).index(100) == 0
    assert placed_new([0.9]).index(100) == 1
    assert placed_new([0.55]).index(100) == 4
    assert placed_new([-0.1]).index(100) == 10


def test_new_items_take_no_more_than_their_share():
    assert sum(item >= 100 for item in placed_new([0.95] * 8)[:10]) == 2
    assert sum(item >= 100 for item in placed_new([0.95] * 8, share=0.0)[:10]) == 0
    assert sum(item >= 100 for item in placed_new([0.95] * 8, share=0.19)[:10]) == 1


def test_other_new_items_wait_for_chance_behind_the_list():
    found = placed_new([0.1, 0.95, 0.3, 0.95, 0.2, 0.25, 0.0])
    assert found[:2] == [101, 103]
    assert found[12:14] == [102, 105]
    assert len(found) == 24


# --- promotions -----------------------------------------------------------------------------------


def test_promotions_have_their_shares_and_keep_them():
    shared = rules(promotions=[{"slot": 2, "item_id": 7, "share": 0.3}, {"slot": 2, "item_id": 8, "share": 0.5}])
    many = 20_000
    drawn = [chosen(f"request-{n}", shared, lambda _: True)[2] for n in range(many)]
    assert drawn == [chosen(f"request-{n}", shared, lambda _: True)[2] for n in range(many)]
    counted = Counter((promotion.item_id if promotion else None, chance) for promotion, chance in drawn)
    assert {(item, round(chance, 9)) for item, chance in counted} == {(7, 0.3), (8, 0.5), (None, 0.2)}
    for (_, chance), seen in counted.items():
        assert_frequency(seen, many, chance)


def test_slots_are_drawn_apart():
    both = rules(promotions=[{"slot": slot, "item_id": slot, "share": 0.5} for slot in (1, 2)])
    drawn = Counter(
        tuple(promotion is not None for promotion, _ in chosen(f"{n}", both, lambda _: True).values())
        for n in range(20_000)
    )
    for seen in drawn.values():
        assert_frequency(seen, 20_000, 0.25)


def test_what_may_not_be_shown_leaves_its_share_to_the_ranker():
    shared = rules(promotions=[{"slot": 2, "item_id": 7, "share": 0.3}, {"slot": 2, "item_id": 8, "share": 0.5}])
    drawn = {chosen(f"{n}", shared, lambda item: item == 8)[2] for n in range(200)}
    assert {(promotion and promotion.item_id, chance) for promotion, chance in drawn} == {(8, 0.5), (None, 0.5)}


def test_a_slot_beyond_the_list_is_not_drawn_for():
    promotions = [{"slot": slot, "item_id": 100 + slot} for slot in (1, 4, 6)] + [{"slot": 5, "item_id": 0}]
    written = rules(promotions=promotions, epsilon=0.0)
    drawn = chosen("r", written, lambda _: True)
    assert sorted(policy.reachable(drawn, 5, ranking(20))) == [1, 4, 5]
    assert sorted(policy.reachable(drawn, 10, ranking(20))) == [1, 4, 5, 6]
    assert sorted(policy.reachable(drawn, 10, ranking(2))) == [1]  # item 0 may be promoted and is one of the two


# --- chance ---------------------------------------------------------------------------------------


def lists(many, ranked, written, **about):
    """Of many requests: the list of each with its probability as the product of its propensities."""
    found = Counter()
    probability = {}
    for number in range(many):
        asked = request(f"request-{number}", **about)
        slots = policy.reachable(chosen(asked.request_id, written, lambda _: True), asked.k, ranking(ranked))
        left = policy.without(ranking(ranked), slots)
        places = policy.placed(asked, written, len(left.items), slots)
        name = tuple(-place.promotion.item_id if place.promotion else int(left.items[place.at]) for place in places)
        found[name] += 1
        probability[name] = prod(place.propensity for place in places)
    return found, probability


@pytest.mark.parametrize(
    ("ranked", "about", "changes"),
    [
        (5, {"k": 3}, {"epsilon": 0.5, "explore_pool": 3}),
        (3, {"k": 3}, {"epsilon": 1.0, "explore_pool": 50}),
        (4, {"k": 3}, {"epsilon": 0.4, "explore_pool": 2, "promotions": [{"slot": 2, "item_id": 3, "share": 0.3}]}),
    ],
)
def test_propensities_are_the_frequencies_of_lists(ranked, about, changes):
    many = 6_000
    found, probability = lists(many, ranked, rules(**changes), **about)
    assert sum(probability.values()) == pytest.approx(1.0)
    for name, seen in found.items():
        assert_frequency(seen, many, probability[name])


def test_of_every_rank_the_propensities_sum_to_one():
    written = rules(epsilon=0.3, explore_pool=7)
    places = {}
    for number in range(3_000):
        first = policy.placed(request(f"{number}", k=1), written, 20, {})[0]
        places[first.at] = first.propensity
    assert sorted(places) == list(range(7))
    assert sum(places.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(("explore", "epsilon"), [(False, 0.5), (True, 0.0)])
def test_without_exploration_nothing_is_left_to_chance(explore, epsilon):
    places = policy.placed(request(k=20, explore=explore), rules(epsilon=epsilon), 50, {})
    assert [place.at for place in places] == list(range(20))
    assert {(place.propensity, place.explored) for place in places} == {(1.0, False)}


@given(name=st.from_regex(r"[A-Za-z0-9_.:-]{1,64}", fullmatch=True), ranked=st.integers(0, 60), k=st.integers(1, 100))
def test_the_same_request_draws_the_same_and_nothing_twice(name, ranked, k):
    first, again = (policy.placed(request(name, k=k), rules(epsilon=0.5), ranked, {}) for _ in range(2))
    assert first == again
    assert len({place.at for place in first}) == len(first) == min(k, ranked)
    assert all(0 < place.propensity <= 1 for place in first)
