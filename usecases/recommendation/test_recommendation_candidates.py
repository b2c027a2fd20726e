"""The sources of candidates: closed forms, counts of a history told by hand, an index held to what it stands for."""

import numpy as np
import pandas as pd
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from scipy import sparse

from orrery.usecase import Budget, silent
from usecases.recommendation import candidates, index
from usecases.recommendation.candidates import choose_penalty, fit_ease, fit_factors, fit_markov, likes_of
from usecases.recommendation.factors import Factors, products
from usecases.recommendation.features import POPULAR, pack
from usecases.recommendation.index import indexed
from usecases.recommendation.items import VECTOR
from usecases.recommendation.neighbours import Neighbours

BUDGET = Budget(trials=1, seconds=5, threads=1)


def raw_of(events):
    """Raw rows of (day, user, item, rating)."""
    frame = pd.DataFrame(events, columns=["day", "USER_ID", "ITEM_ID", "RATING"])
    frame["AT"] = (pd.Timestamp("2020-01-01", tz="UTC") + pd.to_timedelta(frame["day"], unit="D")).astype(
        "datetime64[us, UTC]"
    )
    return frame.assign(TITLE="", GENRES="Drama", YEAR=0).sort_values(["AT", "USER_ID", "ITEM_ID"], ignore_index=True)


@pytest.fixture(scope="module")
def likes():
    """60 users who like items near a place of their own among 40."""
    draw = np.random.default_rng(3)
    events = [
        (day, user, int(10 * ((draw.normal(user, 4) + 0.0) % 40 // 1)), 5.0) for user in range(60) for day in range(12)
    ]
    return likes_of(raw_of(events))


def test_likes_are_counted_as_they_were_given():
    likes = likes_of(
        raw_of([(0, 7, 30, 5.0), (365, 7, 20, 4.0), (365, 9, 30, 3.5), (730, 9, 20, 4.5), (730, 9, 20, 5.0)])
    )
    catalogue = likes.catalogue
    assert catalogue.ids.tolist() == [20, 30]
    assert catalogue.likes.tolist() == [3, 1]
    assert catalogue.days.tolist() == [365, 730]
    np.testing.assert_allclose(catalogue.lately, [2.5, 0.25])
    assert catalogue.place(np.array([[30, 25], [20, 99]])).tolist() == [[1, -1], [0, -1]]
    np.testing.assert_array_equal(likes.matrix().toarray(), [[1, 1], [1, 0]])


def test_ease_is_the_ridge_regression_of_each_item_on_the_others(likes):
    penalty, matrix = 3.0, likes.matrix().toarray().astype(np.float64)
    ease = fit_ease(likes, penalty, BUDGET, kept=10**6)
    known = ease.rows
    assert (matrix[:, known].sum(axis=0) >= candidates.LEAST_LIKES).all()
    for place in known[::5]:
        others = known[known != place]
        inputs = matrix[:, others]
        expected = np.linalg.solve(inputs.T @ inputs + penalty * np.eye(len(others)), inputs.T @ matrix[:, place])
        column = np.array([ease.spread(np.array([other]), np.ones(1))[place] for other in others])
        np.testing.assert_allclose(column, expected, atol=1e-6)
        assert ease.spread(np.array([place]), np.ones(1))[place] == 0


def test_of_the_weights_of_an_item_the_largest_are_kept(likes):
    whole, few = (fit_ease(likes, 3.0, BUDGET, kept=kept) for kept in (10**6, 5))
    assert few.weights.shape == (len(whole.rows), 5)
    np.testing.assert_array_equal(np.sort(few.weights, axis=1), np.sort(whole.weights, axis=1)[:, -5:])


def test_an_item_that_few_like_has_no_neighbours():
    likes = likes_of(raw_of([(0, 1, 1, 5.0), (1, 1, 2, 5.0)]))
    ease = fit_ease(likes, 1.0, BUDGET)
    assert ease.spread(np.array([0, 1]), np.ones(2)).tolist() == [0, 0]
    assert ease.strongest(np.array([0]), np.ones(1), np.array([1])).tolist() == [-1]


def test_the_penalty_with_the_best_lists_is_chosen(likes, monkeypatch):
    """To predict the fourth item of each user from three: neither hardly nor far too much regularised."""
    monkeypatch.setattr(candidates, "PENALTIES", (1e-4, 10.0, 1e7))
    nobody = (np.zeros(51), (np.full(POPULAR, -1), np.zeros(POPULAR)), np.zeros(VECTOR))
    baskets = [likes.catalogue.ids[likes.places[likes.users == user]][:4] for user in range(60)]
    rows = [pack(*nobody, (basket[:3], np.full(3, 5.0), np.arange(3.0))) for basket in baskets]
    queries = pd.DataFrame({"PAYLOAD": rows, "RELEVANT": [basket[3:] for basket in baskets]})
    penalty, tried = choose_penalty([(likes, queries)], BUDGET, silent)
    assert tried[f"ease_ndcg10_penalty_{penalty:g}"] == max(tried.values()) > 0.2
    assert len(set(tried.values())) == 3


def test_users_are_folded_in_as_the_solver_would(likes):
    factors = fit_factors(likes, BUDGET)
    model = AlternatingLeastSquares(
        factors=candidates.DIMENSIONS, regularization=factors.regularization, alpha=factors.confidence, num_threads=1
    )
    model.item_factors, model.user_factors = factors.vectors, np.zeros((1, candidates.DIMENSIONS), np.float32)
    liked = np.array([1, 5, 9])
    row = sparse.csr_matrix((np.ones(3, np.float32), ([0] * 3, liked)), shape=(1, len(factors.vectors)))
    np.testing.assert_allclose(factors.taste(liked, np.ones(3)), model.recalculate_user(0, row), rtol=1e-3, atol=1e-5)
    assert not factors.taste(liked[:0], np.ones(0)).any()
    np.testing.assert_allclose(
        factors.taste(np.append(liked, 3), np.array([1, 1, 1, 0])), factors.taste(liked, np.ones(3)), atol=1e-12
    )


def test_transitions_are_counted_with_decay_and_left_to_popularity():
    events = [(0, 1, 10, 5.0), (1, 1, 20, 5.0), (2, 1, 99, 1.0), (3, 1, 30, 5.0), (0, 2, 10, 4.0), (1, 2, 20, 4.0)]
    markov = fit_markov(likes_of(raw_of(events)))
    weights = {place: markov.spread(np.array([place]), np.ones(1)) for place in range(4)}
    total = 2 + candidates._GAP
    np.testing.assert_allclose(weights[0][[1, 2]] * (total + candidates._SHRINKAGE), [2, candidates._GAP], rtol=1e-6)
    np.testing.assert_allclose(weights[1][2] * (1 + candidates._SHRINKAGE), 1, rtol=1e-6)
    assert not weights[2].any()
    assert not weights[3].any()
    lacking = markov.lacking(np.array([0, 2]), np.array([1.0, 0.5]))
    np.testing.assert_allclose(lacking, 1 - total / (total + candidates._SHRINKAGE) + 0.5, rtol=1e-6)


def test_the_strongest_neighbour_is_weighted():
    table = Neighbours(5, np.array([0, 1]), np.array([[2, 3], [2, 4]]), np.float32([[0.5, 0.1], [0.4, 0.2]]))
    places, of = np.array([0, 1, 4]), np.array([2, 3, 4, 0])
    assert table.strongest(places, np.ones(3), of).tolist() == [0, 0, 1, -1]
    assert table.strongest(places, np.array([0.1, 1, 1]), of).tolist() == [1, 0, 1, -1]


class Folder:
    """A bundle, as far as factors look into it."""

    def __init__(self, path):
        self.path, self.manifest = path.joinpath, self
        self.files = {file.name for file in path.iterdir()}

    def array(self, file):
        return np.load(self.path(file))


@pytest.fixture(scope="module")
def many():
    draw = np.random.default_rng(5)
    vectors = (draw.normal(size=(3_000, 16)) * draw.gamma(2, size=(3_000, 1))).astype(np.float32)
    return Factors(vectors, 10.0, 1.0), draw.normal(size=(40, 16))


def test_a_small_catalogue_is_looked_at_whole(many):
    factors, tastes = many
    assert indexed(factors, tastes) == (factors, None)


def test_an_index_finds_what_looking_at_all_finds_and_survives_the_disk(many, tmp_path):
    factors, tastes = many
    quick, recall = indexed(factors, tastes, most_exact=1_000)
    assert recall >= index.LEAST_RECALL
    quick.save(tmp_path)
    restored = Factors.load(Folder(tmp_path), **factors.learned)
    everything = np.ones(3_000, bool)
    for taste in tastes:
        exact = products(factors.vectors.astype(np.float64), taste)
        best = np.argsort(-exact)[:100]
        found = restored.scores(taste, everything, 100, 20)
        np.testing.assert_array_equal(found, quick.scores(taste, everything, 100, 20))
        assert np.isin(best, np.flatnonzero(found)).mean() > 0.9
        named = np.flatnonzero(found)
        np.testing.assert_allclose(found[named], exact[named], rtol=1e-9)


def test_an_index_that_other_limits_empty_is_not_asked(many):
    factors, tastes = many
    quick, _ = indexed(factors, tastes, most_exact=1_000)
    few = np.zeros(3_000, bool)
    few[:150] = True
    got = quick.scores(tastes[0], few, 100, 0)
    np.testing.assert_array_equal(got, factors.scores(tastes[0], few, 100, 0))


def test_an_index_that_misses_too_much_is_not_kept(many, monkeypatch):
    monkeypatch.setattr(index, "EXPANSION_SEARCH", 1)
    monkeypatch.setattr(index, "_EXPANSION_ADD", 1)
    monkeypatch.setattr(index, "_CONNECTIVITY", 2)
    factors, tastes = many
    kept, recall = indexed(factors, tastes, most_exact=1_000)
    assert recall < index.LEAST_RECALL
    assert kept.index is None
