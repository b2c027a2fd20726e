"""Evidently's pages of all sorts of windows: they come, and no row can be found in them."""

import re
import sys
from datetime import UTC, datetime

import numpy as np
import pytest

from orrery.adapters.evidently_reports import DRIFT, SUMMARY, Asked, NothingToReport, ReportTooLarge, write_reports
from orrery.reference import Rows

pytestmark = pytest.mark.slow
NAMES = ("amount", "flag")
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
DRAW = np.random.default_rng(5)


def rows(number: int, seed: int = 0) -> Rows:
    """Amounts to the cent, a flag, a probability, and labels that it is right about."""
    draw = np.random.default_rng(seed)
    amounts, scores = draw.lognormal(4, 1, number), draw.beta(1, 3, number)
    inputs = np.column_stack([amounts.round(2) + 0.001, draw.random(number) < 0.3]).astype(np.float64)
    return Rows(inputs, scores, (draw.random(number) < scores).astype(np.float64))


def with_amounts(found: Rows, amounts) -> Rows:
    return Rows(np.column_stack([amounts, found.inputs[:, 1]]), found.scores, found.labels)


@pytest.fixture
def pages(tmp_path):
    """Writes the reports; returns name -> HTML."""

    def written(window, reference=None, task="classification", most=20_000_000):
        found = write_reports(Asked(NAMES, "score", task, window, reference, NOON), tmp_path, most)
        return {page.stem: page.read_text() for page in found.pages}

    return written


def numbers(html: str) -> set[str]:
    return set(re.findall(r"-?\d+\.\d+(?:e-?\d+)?", html))


def test_what_a_window_with_labels_gets(pages):
    found = pages(rows(500), rows(400, seed=1))
    assert list(found) == [DRIFT, SUMMARY, "classification"]
    assert "Precision" in found["classification"]
    assert all("amount" in found[name] for name in (DRIFT, SUMMARY))


@pytest.mark.parametrize("number", [3, 40, 500])
def test_no_exact_value_of_a_row_is_in_the_pages(pages, number):
    window, reference = rows(number), rows(400, seed=1)
    found = pages(window, reference)
    seen = set.union(*map(numbers, found.values()))
    for values in (window.inputs[:, 0], window.scores, reference.inputs[:, 0], reference.scores):
        assert not {repr(float(value)) for value in values} & seen


def test_few_values_are_shown_shuffled_column_by_column():
    from orrery.adapters.evidently_reports import _columns

    window = Rows(np.column_stack([np.arange(50.0), np.arange(50.0)]), np.arange(50.0), np.zeros(50))
    table = _columns(Asked(NAMES, "score", None, window, None, NOON), window)
    assert sorted(table["amount"]) == list(range(50))
    assert (table["amount"] == table["flag"]).mean() < 0.2
    assert (table["amount"] == table["score"]).mean() < 0.2


@pytest.mark.parametrize(
    ("amounts", "drift"),
    [
        (np.full(60, np.nan), True),
        (np.full(60, 7.0), True),
        (np.where(np.arange(60) < 5, np.inf, 3.0), True),
        (np.where(np.arange(60) < 55, np.nan, 3.25), True),
        (np.full(60, 1e300), True),
        (np.full(60, np.inf), True),
    ],
    ids=["missing", "constant", "infinite", "mostly missing", "huge", "all infinite"],
)
def test_odd_columns_are_reported_on_either_side(pages, amounts, drift):
    usual = rows(60)
    for window, reference in ((with_amounts(usual, amounts), usual), (usual, with_amounts(usual, amounts))):
        found = pages(window, reference)
        assert (DRIFT in found) is drift
        assert "amount" in found[SUMMARY]


def test_one_row_is_reported_and_none_is_refused(pages):
    assert {DRIFT, SUMMARY} <= set(pages(rows(1), rows(50, seed=1)))
    with pytest.raises(NothingToReport, match="no answer of a model"):
        pages(rows(0), rows(50, seed=1))


def test_without_a_reference_there_is_no_drift(pages):
    assert list(pages(rows(100))) == [SUMMARY, "classification"]


def test_labels_of_one_class_or_none_or_no_task_make_no_quality_report(pages):
    known, reference = rows(100), rows(100, seed=1)
    for labels in (np.zeros(100), np.full(100, np.nan)):
        assert list(pages(Rows(known.inputs, known.scores, labels), reference)) == [DRIFT, SUMMARY]
    assert list(pages(known, reference, task=None)) == [DRIFT, SUMMARY]
    without = Rows(reference.inputs, reference.scores, np.full(100, np.nan))
    assert list(pages(known, without)) == [DRIFT, SUMMARY, "classification"]


def test_an_estimate_is_measured_as_a_regression(pages):
    def estimated(seed):
        found = rows(200, seed)
        truth = found.inputs[:, 0]
        return Rows(found.inputs, truth * 1.1, np.where(np.arange(200) < 150, truth, np.nan))

    window = estimated(0)
    found = pages(window, estimated(1), task="regression")
    assert "Mean Absolute Percentage Error" in found["regression"]
    assert not {repr(float(value)) for value in [*window.scores, *window.labels]} & numbers(found["regression"])


def test_a_page_that_is_too_large_is_refused(pages):
    with pytest.raises(ReportTooLarge, match="ORRERY_WATCH__REPORT_MB"):
        pages(rows(50), rows(50), most=1_000)


def test_nothing_is_told_to_evidently(pages):
    pages(rows(50))
    assert not [name for name in sys.modules if name.startswith("evidently") and "telemetry" in name]
