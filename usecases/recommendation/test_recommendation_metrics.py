"""The metrics by hand, under weights, and of groups that nobody is in."""

import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usecases.recommendation.features import NOTHING_TRENDS, History, inputs
from usecases.recommendation.metrics import (
    average_precision,
    coverage,
    diversity,
    head,
    hit,
    measure,
    most_liked,
    ndcg,
    percentile,
    recall,
    resampled,
    surprise,
)
from usecases.recommendation.plots import plots
from usecases.recommendation.protocol import LAST, VISIT, KnownItems

KNOWN = KnownItems(
    ids=np.arange(0, 1_000, 10),
    likes=np.arange(100)[::-1] + 1,
    vectors=np.eye(24, dtype=np.float32)[np.arange(100) % 4],
)
"""ids 0, 10 ... 990, the first ones the most liked, of four kinds of content"""
A, B = 1 / np.log2(2), 1 / np.log2(3)


def queried(*told, seen=()):
    """(user, events before, kind, relevant) as query rows; all have seen the same."""
    users, events, kinds, relevant = zip(*told, strict=True)
    ids = pd.Series([np.array(each, dtype=np.int64) for each in relevant], dtype=object)
    known = pd.Series([KNOWN] * len(told), dtype=object)
    history = History(*(np.full(len(seen), 3, np.int64) for _ in range(4)))
    payload = inputs(replace(history, items=np.array(seen, np.int64)), NOTHING_TRENDS, 4)
    rows = pd.DataFrame({"USER_ID": users, "user_events": events, "KIND": kinds, "RELEVANT": ids, "KNOWN_ITEMS": known})
    return rows.assign(PAYLOAD=pd.Series([payload] * len(told), dtype=object))


def listed(*rows, length=100):
    """Lists of ids as outputs, -1 beyond their ends."""
    table = np.full((len(rows), length), -1.0)
    for place, ids in enumerate(rows):
        table[place, : len(ids)] = ids
    return table


def measured(rows, items, popular=None, ease=None):
    nothing = listed(*([] for _ in items))
    outputs = {
        "items": listed(*items),
        "popular": nothing if popular is None else listed(*popular),
        "ease": nothing if ease is None else listed(*ease),
    }
    return measure(rows, outputs)(np.ones(len(rows)))


# --- one list, by hand --------------------------------------------------------------------------


def test_quality_of_one_list():
    """Of three relevant items the second and the fourth place have one each."""
    got = measured(queried((1, 9, VISIT, [20, 40, 990])), [[10, 20, 30, 40]])
    discounts = 1 / np.log2(np.arange(2, 6))
    assert got["ndcg10"] == got["warm_ndcg10"] == pytest.approx((discounts[1] + discounts[3]) / discounts[:3].sum())
    assert got["recall10"] == pytest.approx(2 / 3)
    assert got["precision10"] == pytest.approx(2 / 10)
    assert got["map10"] == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert got["hit10"] == 1
    assert got["mrr10"] == pytest.approx(1 / 2)


def test_more_is_relevant_than_the_list_can_hold():
    got = measured(queried((1, 0, VISIT, range(0, 300, 10))), [range(0, 1_000, 10)])
    assert {got[name] for name in ("ndcg10", "recall10", "precision10", "map10", "hit10", "mrr10")} == {1.0}
    half = measured(queried((1, 0, VISIT, range(0, 300, 10))), [[*range(500, 1_000, 100), *range(0, 50, 10)]])
    assert half["recall10"] == half["precision10"] == 0.5


def test_only_ten_places_count():
    got = measured(queried((1, 0, VISIT, [100])), [range(0, 200, 10)])
    assert {got[name] for name in ("ndcg10", "recall10", "precision10", "map10", "hit10", "mrr10")} == {0.0}


def test_nothing_is_found_where_nothing_is_listed():
    relevant = [np.array([0, 5]), np.array([7])]
    assert not hit(np.full((2, 3), -1), relevant).any()
    assert hit(np.array([[7, 0, -1], [7, 5, 0]]), relevant).tolist() == [[False, True, False], [True, False, False]]


def test_ranks_of_shorter_lists():
    hits, size = np.array([[True, False], [False, True], [True, True]]), np.array([1, 2, 3])
    np.testing.assert_allclose(ndcg(hits, size), [1, B / (A + B), 1])
    np.testing.assert_allclose(recall(hits, size), [1, 1 / 2, 1])
    np.testing.assert_allclose(average_precision(hits, size), [1, 1 / 4, 1])


# --- groups and baselines -----------------------------------------------------------------------


def test_groups_and_paired_differences():
    rows = queried(
        (1, 5, VISIT, [10]), (1, 5, LAST, [20]), (2, 4, VISIT, [10]), (3, 0, VISIT, [30]), (3, 7, LAST, [40])
    )
    items = [[10], [10, 20], [20, 10], [10], [40]]
    popular = [[20, 10], [20], [10], [], [10]]
    ease = [[10], [10, 20], [10], [10, 30], [10, 40]]
    got = measured(rows, items, popular, ease)
    wanted = {
        "ndcg10": (1 + B + 0) / 3, "warm_ndcg10": 1, "cold_ndcg10": (B + 0) / 2, "leave_last_ndcg10": (B + 1) / 2,
        "popular_ndcg10": (B + 1) / 3, "warm_popular_ndcg10": B, "cold_popular_ndcg10": 1 / 2,
        "leave_last_popular_ndcg10": 1 / 2, "ease_ndcg10": (2 + B) / 3, "warm_ease_ndcg10": 1,
        "cold_ease_ndcg10": (1 + B) / 2, "leave_last_ease_ndcg10": B,
        "warm_over_popular": 1 - B, "cold_over_popular": (B - 1) / 2, "last_over_popular": B / 2,
        "warm_over_ease": 0, "last_over_ease": (1 - B) / 2,
        "count_visits": 3, "count_warm": 1, "count_cold": 2, "count_last": 2,
    }  # fmt: skip
    assert {name: got[name] for name in wanted} == pytest.approx(wanted)


def test_what_was_liked_most_is_a_baseline_without_what_was_seen():
    rows = queried((1, 9, VISIT, [30]), (2, 0, VISIT, [20]), seen=[0, 10, 5])
    assert most_liked(rows)[:, :3].tolist() == [[20, 30, 40]] * 2
    assert (most_liked(rows)[:, 97:] == [980 + 10, -1, -1]).all()
    got = measured(rows, [[30], [40]])
    wanted = {"liked_ndcg10": (B + 1) / 2, "warm_over_liked": 1 - B, "cold_over_liked": -1, "visits_over_liked": -B / 2}
    assert {name: got[name] for name in wanted} == pytest.approx(wanted)


def test_of_nobody_there_is_no_mean_and_no_difference():
    rows = queried((1, 0, VISIT, [10]), (2, 3, VISIT, [20]), (2, 3, LAST, [20]))
    got = measured(rows, [[10], [], []], [[20], [], []])
    assert not [name for name in got if name.startswith("warm_") and "over" not in name]
    assert (got["warm_over_popular"], got["warm_over_ease"], got["count_warm"]) == (0, 0, 0)
    assert np.isfinite(list(got.values())).all()
    assert got["cold_over_popular"] == 0.5


def test_a_draw_without_anybody_of_a_group_says_nothing_of_it():
    rows = queried((1, 9, VISIT, [10]), (2, 0, VISIT, [20]), (2, 0, LAST, [20]))
    outputs = dict.fromkeys(("items", "popular", "ease"), listed([10], [20], [20]))
    got = measure(rows, outputs)(np.array([0.0, 1.0, 1.0]))
    assert np.isnan(got["warm_ndcg10"])
    assert np.isnan(got["warm_over_popular"])
    assert (got["count_warm"], got["cold_ndcg10"]) == (0, 1)


def drawn(seed, rows=60, users=12):
    draw = np.random.default_rng(seed)
    told = [
        (
            user,
            draw.integers(0, 12),
            draw.choice([VISIT, LAST]),
            draw.choice(KNOWN.ids[:40], draw.integers(1, 9), False),
        )
        for user in [0, *draw.integers(0, users, rows - 1).tolist()]
    ]
    told[0] = (0, 7, VISIT, [20])
    outputs = {
        name: listed(*(draw.choice(KNOWN.ids[:40], draw.integers(0, 30), False) for _ in told))
        for name in ("items", "popular", "ease")
    }
    return queried(*told), outputs


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_a_user_who_counts_twice_is_two_users(seed):
    rows, outputs = drawn(seed)
    weights = np.random.default_rng(seed).integers(0, 4, 12)[rows["USER_ID"]]
    if weights[0] == 0:
        weights[rows["USER_ID"] == 0] = 1
    again = np.repeat(np.arange(len(rows)), weights)
    counted = measure(rows, outputs)(weights.astype(float))
    copied = measure(rows.iloc[again], {name: of[again] for name, of in outputs.items()})(np.ones(len(again)))
    for name, value in copied.items():
        assert counted[name] == pytest.approx(value, abs=1e-12, nan_ok=True), name


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_bounds_and_identities(seed):
    rows, outputs = drawn(seed)
    got = measure(rows, outputs)(np.ones(len(rows)))
    for name, value in got.items():
        if name.startswith("count_"):
            continue
        unit = "novelty" not in name and "bias" not in name and "over" not in name
        assert (0 <= value <= 1) if unit else np.isfinite(value), name
    assert got["count_warm"] + got["count_cold"] == got["count_visits"]
    assert got["count_visits"] + got["count_last"] == len(rows)
    assert got["ndcg10"] * got["count_visits"] == pytest.approx(
        sum(got.get(f"{group}_ndcg10", 0) * got[f"count_{group}"] for group in ("warm", "cold"))
    )
    assert got["map10"] <= got["recall10"] + 1e-12
    assert got["warm_over_popular"] == pytest.approx(got["warm_ndcg10"] - got["warm_popular_ndcg10"])
    same = measure(rows, dict.fromkeys(outputs, most_liked(rows)))(np.ones(len(rows)))
    assert {value for name, value in same.items() if "_over_" in name} == {0.0}


# --- beside being right -------------------------------------------------------------------------


def test_novelty_is_the_surprise_at_what_is_shown():
    few = KnownItems(np.array([1, 2, 3]), np.array([6, 2, 0]), np.zeros((3, 24), np.float32))
    np.testing.assert_allclose(surprise(few), -np.log2(np.array([7, 3, 1, 1]) / 12))
    got = measured(queried((1, 0, VISIT, [10])), [[0, 990]])
    likes = np.append(KNOWN.likes + 1, 1)
    assert got["novelty10"] == pytest.approx(-(np.log2(101 / likes.sum()) + np.log2(2 / likes.sum())) / 2)


def test_diversity_is_the_mean_of_the_pairs():
    slanted = np.array([[1, 0], [0, 1], [0.6, 0.8], [0, 0]], np.float32)
    shown = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 1]], dtype=bool)
    wanted = [1 - (0 + 0.6 + 0.8) / 3, 1, 1]
    np.testing.assert_allclose(diversity(np.stack([slanted] * 3), shown), wanted, atol=1e-6)
    assert measured(queried((1, 0, VISIT, [10])), [[0, 40, 80]])["diversity10"] == pytest.approx(0)  # one kind
    assert measured(queried((1, 0, VISIT, [10])), [[0, 10, 20, 30]])["diversity10"] == pytest.approx(1)
    assert "diversity10" not in measured(queried((1, 0, VISIT, [10])), [[0]])


def test_popularity_bias_is_how_much_more_popular_the_shown_are_than_the_liked():
    few = KnownItems(np.array([1, 2, 3, 4]), np.array([5, 2, 2, 0]), np.zeros((4, 24), np.float32))
    assert percentile(few).tolist() == [7 / 8, 4 / 8, 4 / 8, 1 / 8, 1 / 8]
    got = measured(queried((1, 0, VISIT, [980, 990])), [[0, 10]])
    assert got["popularity_bias10"] == pytest.approx(0.98)


def test_what_is_shown_is_judged_of_visits():
    rows = queried((1, 0, VISIT, [10]), (2, 0, LAST, [990]))
    of_both, of_one = (measured(rows.iloc[:count], [[0, 10], [980, 990]][:count]) for count in (2, 1))
    for name in ("novelty10", "diversity10", "popularity_bias10", "head_recall10", "coverage10"):
        assert of_both[name] == of_one[name]
    assert "tail_recall10" not in of_both


def test_head_and_tail():
    """The head is ids 0 to 190; a new item belongs to the tail."""
    assert head(KNOWN).tolist() == [True] * 20 + [False] * 81
    got = measured(queried((1, 0, VISIT, [0, 190, 200, 5]), (2, 0, VISIT, [10])), [[0, 5], [20]])
    assert got["head_recall10"] == pytest.approx((1 / 2 + 0) / 2)
    assert got["tail_recall10"] == pytest.approx(1 / 2)


def test_coverage_counts_items_of_rows_that_count():
    rows = queried((1, 0, VISIT, [10]), (2, 0, VISIT, [10]))
    covered = coverage(rows, np.array([[0, 10, -1], [10, 20, 5]]))
    assert covered(np.array([1.0, 1.0])) == 3 / 100
    assert covered(np.array([0.0, 2.0])) == 2 / 100
    assert measured(rows, [range(0, 990, 10), []])["coverage10"] == 10 / 100


# --- as a release uses them ---------------------------------------------------------------------


def test_names_fit_the_tracking_server():
    rows, outputs = drawn(0)
    names = measure(rows, outputs)(np.ones(len(rows)))
    assert all(name.replace("_", "").isalnum() and name.isascii() for name in names)


def test_users_are_drawn_whole():
    weights = resampled(np.array([7, 7, 9, 4]), draws=300)
    assert weights.shape == (300, 4)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 0] + weights[:, 2] + weights[:, 3] == 3).all()
    assert weights.mean(axis=0) == pytest.approx(1, abs=0.2)


def test_two_hundred_draws_take_a_moment():
    rows, outputs = drawn(1, rows=3_000, users=500)
    prepared = measure(rows, outputs)
    began = time.perf_counter()
    for weights in resampled(rows["USER_ID"].to_numpy(), draws=200):
        prepared(weights)
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize("kinds", [(VISIT, LAST), (VISIT,)])
def test_pictures_are_drawn(tmp_path, kinds):
    rows, outputs = drawn(2)
    kept = rows["KIND"].isin(kinds).to_numpy()
    found = plots(rows[kept], {name: of[kept] for name, of in outputs.items()}, tmp_path / "plots")
    assert set(found) == {"ndcg_by_group", "recall_by_length", "popularity"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in found.values())
