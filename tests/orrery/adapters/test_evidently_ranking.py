"""Evidently's page on lists: its figures are those of the lists as they were shown, and nobody's list is in it."""

import json
import re
import time
from datetime import UTC, datetime

import numpy as np
import pytest

from orrery.adapters.evidently_ranking import Lists, ranking_report
from orrery.adapters.evidently_reports import RANKING, SUMMARY, Asked, write_reports
from orrery.reference import Rows
from orrery.watching import Impressions

pytestmark = pytest.mark.slow
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
WINDOW = Rows(np.arange(20.0)[:, None], np.arange(20.0) / 20, np.full(20, np.nan))


def impressions(lists, draw=None):
    """List -> its items, best first, and whether each was taken; rows in the order given, or in one drawn."""
    rows = [(name, rank, *pair) for name, pairs in lists.items() for rank, pair in enumerate(pairs, 1)]
    order = np.arange(len(rows)) if draw is None else draw.permutation(len(rows))
    names, ranks, items, taken = (np.array(column)[order] for column in zip(*rows, strict=True))
    return Impressions(names, items, ranks, taken.astype(bool))


@pytest.fixture
def page(tmp_path):
    """Writes the reports; returns the HTML of the one on lists, what Evidently keeps of it, and its figures at k."""

    def written(shown, popularity=None):
        asked = Asked(("x",), "score", None, WINDOW, None, NOON, Lists(shown, popularity))
        found = write_reports(asked, tmp_path, 20_000_000)
        assert [each.stem for each in found.pages] == [SUMMARY, RANKING]
        kept = found.found[1]
        figures = {}
        for metric in kept.dict()["metrics"]:
            name, value = metric["metric_name"].partition("(")[0], metric["value"]
            figures[name] = value if isinstance(value, float) else list(value["value"].values())
        return found.pages[1].read_text(), kept.dump_dict(), figures

    return written


LISTS = {
    "a": [(10, 1), (11, 0), (12, 1), (13, 0)],
    "b": [(11, 0), (10, 1)],
    "c": [(14, 0), (15, 0), (10, 0), (11, 0)],
    "d": [(12, 1)],
}


def test_figures_are_those_of_the_lists_whatever_their_lengths(page):
    known = np.array([10, 11, 12, 13, 16, 17]), np.array([9, 4, 4, 1, 0, 2])
    text, _, found = page(impressions(LISTS, np.random.default_rng(1)), known)
    discounts = 1 / np.log2(np.arange(2, 6))
    ndcg = [discounts[[0, 2]].sum() / discounts[:2].sum(), discounts[1] / discounts[0], 1.0]
    assert found["NDCG"][-1] == pytest.approx(np.mean(ndcg))
    assert found["MAP"] == pytest.approx([np.mean([each, late, 1]) for each, late in
                                          ((1 / 2, 0), (1 / 2, 1 / 2), (5 / 6, 1 / 2), (5 / 6, 1 / 2))])  # fmt: skip
    assert found["MRR"][-1] == pytest.approx(np.mean([1, 1 / 2, 1]))
    assert found["PrecisionTopK"] == pytest.approx([2 / 4, 3 / 8, 4 / 12, 4 / 16]), "of all lists"
    assert found["HitRate"] == pytest.approx([2 / 4, 3 / 4, 3 / 4, 3 / 4]), "of all lists"
    assert found["RecallTopK"][:3] == pytest.approx([(1 / 2 + 0 + 1) / 3, (1 / 2 + 1 + 1) / 3, 1])

    popular = {item: (times + 1) / 10 for item, times in zip(*known, strict=True)}
    known_of = [[popular[item] for item, _ in pairs if item in popular] for pairs in LISTS.values()]
    assert found["PopularityBiasMetric"] == pytest.approx(np.mean([np.mean(each) for each in known_of]))
    counts, n = np.array([1, 1, 1, 2, 3, 3]), 6
    gini = ((2 * np.arange(1, n + 1) - n - 1) * counts).sum() / ((n - 1) * counts.sum())
    assert {f"{4 / 6:.4f}".rstrip("0"), f"{gini:.4f}".rstrip("0")} <= set(re.findall(r"\d\.\d+", text))


def test_no_id_is_in_the_page_nor_in_what_evidently_keeps(page):
    draw = np.random.default_rng(2)
    items = 8_100_000 + draw.permutation(90_000)[:300]
    lists = {f"request-{name}-7": [(item, draw.random() < 0.3) for item in draw.permutation(items)[:10]]
             for name in range(40)}  # fmt: skip
    text, kept, _ = page(impressions(lists), (items, draw.integers(0, 500, len(items))))
    for said in (text, json.dumps(kept, default=str)):
        assert not {str(item) for item in items} & set(re.findall(r"\d+", said))
        assert "request-" not in said


def test_the_numbers_in_place_of_ids_are_others_for_each_page():
    shown = impressions({"a": [(item, item % 3 == 0) for item in range(100)]})
    one, other = (ranking_report(Lists(shown)).rows["item"].to_numpy() for _ in range(2))
    assert sorted(one) == sorted(other) == list(range(100))
    assert (one != other).any()


def test_without_anything_taken_there_is_no_page():
    assert ranking_report(Lists(impressions({"a": [(1, 0), (2, 0)]}))) is None
    empty = np.array([])
    assert ranking_report(Lists(Impressions(empty, empty, empty, empty.astype(bool)))) is None


@pytest.mark.parametrize(
    ("lists", "known"),
    [
        ({"a": [(1, 1)]}, ([1], [4])),
        ({"a": [(1, 1)], "b": [(1, 0)]}, ([1], [4])),
        ({"a": [(1, 1), (2, 0)]}, ([3, 4], [4, 1])),
        ({"a": [(1, 1), (2, 0)]}, ([1, 2], [0, 0])),
        ({"a": [(1, 1)], "b": [(number, 0) for number in range(100)]}, ([1, 2], [3, 10**7])),
        ({"a": [(1, 1), (2, 1)]}, None),
    ],
    ids=["one item", "one item twice", "unknown items", "items nobody took", "one long list", "no popularity"],
)
def test_odd_lists_have_their_page(page, lists, known):
    _, _, found = page(impressions(lists), known and tuple(np.array(each) for each in known))
    assert all(np.isfinite(value).all() for value in found.values())


def test_of_many_lists_some_are_reported_on_and_soon(page):
    draw, many = np.random.default_rng(3), 60_000
    lists, ranks = np.repeat(np.arange(many), 10), np.tile(np.arange(1, 11), many)
    shown = Impressions(lists, draw.integers(0, 50_000, len(lists)), ranks, draw.random(len(lists)) < 0.2)
    known = np.arange(50_000), draw.integers(0, 3_000, 50_000)
    assert len(ranking_report(Lists(shown, known)).rows) == 200_000
    begun = time.perf_counter()
    _, _, found = page(shown, known)
    assert time.perf_counter() - begun < 60
    assert found["PrecisionTopK"][-1] == pytest.approx(0.2, abs=0.01)
