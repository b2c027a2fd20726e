"""What a user is shown: never what must not be, always an answer, and the same one to the same request."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from orrery.usecase import Asked, Key, Scored, Stored
from usecases.recommendation import scoring
from usecases.recommendation.catalogue import Catalogue
from usecases.recommendation.features import FEATURES, LIKED, history_of, inputs, micros, trending_of, unpack
from usecases.recommendation.items import GENRES, content_vectors, genre_bits, genres_of
from usecases.recommendation.requests import Filters, RecommendationFeedback, RecommendationRequest
from usecases.recommendation.rules import DEFAULT_RULES
from usecases.recommendation.scoring import SOURCES, Ranking
from usecases.recommendation.serving import serving

AT = datetime(2016, 9, 1, 20, tzinfo=UTC)
ITEMS = 300
TRENDING = Key("trending", 1)


class Model:
    """Ranks by the content of what a user liked, and a little by popularity; knows `ITEMS` items, ids 10, 20, ..."""

    manifest = SimpleNamespace(learned={"ranker": {"name": "blend"}})

    def __init__(self, items=ITEMS):
        draw = np.random.default_rng(3)
        bits = 1 << draw.integers(0, 20, items) | 1 << draw.integers(0, 20, items)
        years, likes = draw.integers(1950, 2016, items), draw.integers(0, 500, items)
        zero = np.zeros(items, np.float32)
        titles = [f"Film {number}" for number in range(items)]
        ids = np.arange(1, items + 1) * 10
        self.catalogue = Catalogue(ids, titles, bits, years, likes=likes, lately=zero, days=zero)

    def derived(self, _name, _make):
        return self.catalogue


MODEL = Model()


def rank(model, row, allowed=None):
    catalogue, before = model.catalogue, unpack(row[None])
    places = catalogue.place(before.items[0])
    liked = places[(places >= 0) & (before.ratings[0] >= LIKED)]
    match = catalogue.vectors @ (catalogue.vectors[liked].sum(axis=0) + before.context[0])
    scores = 1 / (1 + np.exp(-match - catalogue.likes / 500))
    open_ = np.ones(len(scores), bool) if allowed is None else allowed.copy()
    open_[places[places >= 0]] = False
    order = np.lexsort((catalogue.ids, -scores))
    order = order[open_[order]][:200]
    return Ranking(catalogue.ids[order], scores[order], catalogue.ids[order] // 10 % len(SOURCES))


def because(model, row, items):
    before = unpack(row[None])
    liked = before.items[0][(before.ratings[0] >= LIKED) & (before.items[0] >= 0)]
    return np.full(len(items), liked[-1] if len(liked) else -1)


def score(model, rows):
    found = [rank(model, row) for row in rows]

    def listed(name, fill):
        return np.array([np.resize(np.append(getattr(one, name)[:100], [fill] * 100), 100) for one in found], float)

    return {"score": listed("scores", 0)[:, 0], "items": listed("items", -1), "scores": listed("scores", 0),
            "sources": listed("sources", -1)}  # fmt: skip


@pytest.fixture(autouse=True)
def ranker(monkeypatch):
    monkeypatch.setattr(scoring, "rank", rank)
    monkeypatch.setattr(scoring, "because", because)


def asked(name="r", **changes):
    return RecommendationRequest(**{"request_id": name, "user_id": 1, "at": AT, **changes})


def stored(items=(), ratings=None, trending=(), user=1):
    """A store in which the user had those events, an hour apart, and all users those likes."""
    times = micros(AT) - np.arange(len(items), 0, -1) * 3_600_000_000
    places = MODEL.catalogue.place(np.array(items, np.int64))
    history = {
        "times": times, "items": np.array(items, np.int64), "ratings": np.array(ratings or [5.0] * len(items)),
        "genres": np.where(places >= 0, MODEL.catalogue.bits[places], 0),
    }  # fmt: skip
    likes = {"times": micros(AT) - np.arange(len(trending), 0, -1), "items": np.array(trending, np.int64)}
    return {Key("user_history", user): Stored(history, AT, "present"), TRENDING: Stored(likes, AT, "present")}


def respond(request, store=None, rules=None, model=MODEL):
    store = store or {}
    row = serving.features(store, request)
    return serving.respond(Scored(request, (), rules or DEFAULT_RULES, store, row, score(model, row[None]), model))


def shown(answer):
    return [item.item_id for item in answer.items]


def rules(**changes):
    return {**DEFAULT_RULES, **changes}


# --- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"k": 0}, {"k": -1}, {"k": 10**9}, {"k": "10"}, {"k": True}, {"k": 1.5}, {"user_id": -1}, {"user_id": "1"},
        {"request_id": ""}, {"request_id": "x" * 65}, {"request_id": "a b"}, {"request_id": "a\n"},
        {"request_id": None},
        {"context": {"genres": ["Dramma"]}}, {"context": {"genres": ["Drama"] * 6}}, {"context": {"item_id": 2**24}},
        {"exclude": [1] * 501}, {"exclude": [-1]}, {"filters": {"genre": ["Drama"]}}, {"filters": {"year_from": 0}},
        {"diversity": 1.1}, {"diversity": -0.1}, {"at": "2016-09-01T20:00:00"}, {"at": "9999-12-31T23:59:59-12:00"},
        {"surprise": 1}, {"explore": 1},
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(changes):
    body = {"user_id": 1, **changes}
    with pytest.raises(ValidationError) as refused:
        RecommendationRequest.model_validate_json(json.dumps(body))
    assert refused.value.errors()[0]["loc"][0] == next(iter(changes))


def test_a_request_needs_no_more_than_a_user():
    first, second = (RecommendationRequest.model_validate_json('{"user_id": 1}') for _ in range(2))
    assert first.request_id != second.request_id
    assert first.at.tzinfo is UTC
    assert (first.k, first.diversity, first.explore, first.explain) == (10, 0.0, True, False)


def test_moments_become_utc():
    request = RecommendationRequest.model_validate_json('{"user_id": 1, "at": "2016-09-01T22:00:00+02:00"}')
    assert request.at == AT
    assert request.at.tzinfo is UTC


@pytest.mark.parametrize(
    "changes",
    [
        {"event": "rating"}, {"event": "click", "rating": 4.0}, {"event": "look"}, {"event": "rating", "rating": 0.0},
        {"event": "rating", "rating": 5.5},
    ],
)  # fmt: skip
def test_a_rating_and_nothing_else_has_a_value(changes):
    with pytest.raises(ValidationError):
        RecommendationFeedback(user_id=1, item_id=2, at=AT, **changes)


# --- features -------------------------------------------------------------------------------------


def test_inputs_are_those_of_the_stored_rows():
    store = stored([10, 20, 30], [5.0, 2.0, 4.5], trending=[40, 40, 50])
    row = serving.features(store, asked(context={"genres": ("Comedy", "War")}))
    values = dict(zip(FEATURES, row, strict=False))
    assert (values["user_events"], values["user_likes"], values["trending_likes"]) == (3, 2, 3)
    assert [name for name in FEATURES if name.startswith("asked_") and values[name]] == ["asked_comedy", "asked_war"]
    before = unpack(row[None])
    assert before.items[0].tolist() == [10, 20, 30]
    assert before.popular_ids[0, :3].tolist() == [40, 50, -1]


def test_what_the_user_looks_at_ends_the_history_and_gives_the_context():
    vector = content_vectors(np.array([genre_bits("War")]), np.array([1999]))[0]
    request = asked(context={"item_id": 70})
    content = serving.keys(request)[-1]
    assert content == Key("item_vectors", 70)
    before = unpack(
        serving.features({**stored([10]), content: Stored({"vector": vector}, AT, "present")}, request)[None]
    )
    assert before.items[0].tolist() == [10, 70]
    np.testing.assert_array_equal(before.context[0], vector)
    unknown = unpack(serving.features({content: Stored({}, None, "missing")}, request)[None])
    assert unknown.items[0].tolist() == [70]
    assert not unknown.context.any()


def test_a_plain_request_shows_what_was_ranked_offline():
    store = stored([10, 20, 30])
    row = inputs(history_of(store[Key("user_history", 1)].values), trending_of(store[TRENDING].values), micros(AT))
    ranked = rank(MODEL, row).items[:100].tolist()
    assert shown(respond(asked(k=100, explore=False), store)) == ranked
    assert shown(respond(asked(k=100), store, rules(epsilon=0.0))) == ranked


def test_a_plain_request_is_ranked_once(monkeypatch):
    monkeypatch.setattr(scoring, "rank", None)
    assert len(respond(asked(k=20), stored([10, 20])).items) == 20
    assert len(respond(asked(k=20, exclude=(15,)), stored([10, 20])).items) == 20


# --- what must never be shown -----------------------------------------------------------------------

IDS = st.sampled_from([*(number * 10 for number in range(1, ITEMS + 1)), 5, 9_001, 9_002, 9_003])
SOME = st.lists(IDS, max_size=40)
NEW = [
    {"item_id": 9_001, "title": "New one", "genres": "Drama|War", "year": 2016},
    {"item_id": 9_002, "title": "New two", "genres": "Comedy", "year": 2016},
    {"item_id": 9_003, "title": "New three", "genres": "", "year": 0},
]
GENRE_SETS = st.lists(st.sampled_from(GENRES), max_size=4).map(tuple)
FILTERS = st.builds(
    Filters,
    genres_any=GENRE_SETS,
    genres_none=GENRE_SETS,
    year_from=st.none() | st.integers(1940, 2020),
    year_to=st.none() | st.integers(1940, 2020),
)


@st.composite
def situations(draw):
    promoted = draw(
        st.lists(st.tuples(st.integers(1, 100), IDS), max_size=4, unique_by=(lambda p: p[0], lambda p: p[1]))
    )
    written = rules(
        blocked_items=draw(SOME), out_of_stock=draw(SOME), epsilon=draw(st.sampled_from([0.0, 0.3, 1.0])),
        new_items=draw(st.lists(st.sampled_from(NEW), unique_by=lambda item: item["item_id"])),
        new_share=draw(st.sampled_from([0.0, 0.1, 1.0])), fallback_items=draw(SOME),
        promotions=[{"slot": slot, "item_id": item} for slot, item in promoted],
    )  # fmt: skip
    request = asked(
        f"request-{draw(st.integers(0, 10**6))}", k=draw(st.integers(1, 100)), exclude=tuple(draw(SOME)),
        filters=draw(st.just(Filters()) | FILTERS), diversity=draw(st.sampled_from([0.0, 0.4])),
        context={"item_id": draw(st.none() | IDS)}, explain=draw(st.booleans()),
    )  # fmt: skip
    seen = draw(st.lists(IDS, max_size=60, unique=True))
    return written, request, stored(seen, trending=draw(SOME)), seen


def assert_none_forbidden(answer, written, request, seen):
    items = shown(answer)
    assert len(items) == len(set(items)) <= request.k
    assert [item.rank for item in answer.items] == list(range(1, len(items) + 1))
    hidden = {*seen, *request.exclude, *written["blocked_items"], *written["out_of_stock"], request.context.item_id}
    assert not hidden & set(items)
    about = {item["item_id"]: (genre_bits(item["genres"]), item["year"]) for item in written["new_items"]}
    catalogue = MODEL.catalogue
    about |= {int(i): (int(b), int(y)) for i, b, y in zip(catalogue.ids, catalogue.bits, catalogue.years, strict=True)}
    filters = request.filters
    for item in answer.items:
        if filters == Filters():
            continue
        bits, year = about[item.item_id]
        assert not filters.genres_any or set(genres_of(bits)) & set(filters.genres_any)
        assert not set(genres_of(bits)) & set(filters.genres_none)
        assert filters.year_from is None or year >= filters.year_from
        assert filters.year_to is None or 0 < year <= filters.year_to


@settings(max_examples=150, deadline=None)
@given(situations())
def test_nothing_forbidden_is_ever_shown(situation):
    written, request, store, seen = situation
    answer = respond(request, store, written)
    assert_none_forbidden(answer, written, request, seen)
    assert (answer.reason is None) == bool(answer.items)
    assert all(0 < item.propensity <= 1 for item in answer.items)
    for model in (MODEL, None):
        fallen = serving.fallback(Asked(request, (), written, store), model)
        assert_none_forbidden(fallen, written, request, seen)


@settings(max_examples=150, deadline=None)
@given(situations())
def test_a_list_is_short_only_where_nothing_else_may_be_shown(situation):
    written, request, store, seen = situation
    answer = respond(request, store, written)
    catalogue, filters = MODEL.catalogue, request.filters
    hidden = [
        *seen,
        *request.exclude,
        *written["blocked_items"],
        *written["out_of_stock"],
        request.context.item_id or -1,
    ]
    wanted, unwanted = (genre_bits("|".join(names)) for names in (filters.genres_any, filters.genres_none))
    possible = ~np.isin(catalogue.ids, hidden) & ((catalogue.bits & unwanted) == 0)
    possible &= ((catalogue.bits & wanted) != 0) if wanted else True
    possible &= (catalogue.years >= (filters.year_from or 0)) & (catalogue.years <= (filters.year_to or 9999))
    assert len(answer.items) >= min(request.k, np.count_nonzero(possible))


def test_filters_that_exclude_each_other_leave_an_empty_list_that_says_so():
    answer = respond(asked(filters=Filters(genres_any=("Drama",), genres_none=("Drama",))), stored([10]))
    assert answer.items == ()
    assert answer.reason.startswith("nothing left: 300 items, genres_any left ")
    assert "genres_none left 0" in answer.reason
    assert not answer.degraded


def test_who_has_seen_all_gets_nothing_and_is_told():
    small = Model(5)
    answer = respond(asked(), stored([10, 20, 30, 40, 50]), model=small)
    assert answer.reason == "nothing left: 5 items, unseen left 0"


# --- the answer -------------------------------------------------------------------------------------


def test_the_same_request_has_the_same_answer():
    written = rules(new_items=NEW, promotions=[{"slot": 2, "item_id": 500, "share": 0.5}])
    for number in range(20):
        first, again = (respond(asked(f"{number}", explain=True), stored([10, 20]), written) for _ in range(2))
        assert first == again
    others = {tuple(shown(respond(asked(f"{number}"), stored([10, 20]), written))) for number in range(20)}
    assert len(others) > 5


def test_an_answer_says_how_it_was_made():
    answer = respond(asked("a"), stored([10]), rules(version="7", epsilon=0.2))
    assert (answer.policy.rules, answer.policy.ranker, answer.policy.epsilon, answer.policy.catalogue) == (
        "7", "blend", 0.2, ITEMS,
    )  # fmt: skip
    assert respond(asked("a", explore=False), stored([10])).policy.epsilon == 0.0
    ranked = rank(MODEL, serving.features(stored([10]), asked("a")))
    scores = dict(zip(ranked.items.tolist(), ranked.scores.round(6).tolist(), strict=True))
    sources = dict(zip(ranked.items.tolist(), ranked.sources.tolist(), strict=True))
    for item in answer.items:
        assert (item.score, item.source) == (scores[item.item_id], SOURCES[sources[item.item_id]])
    assert answer.items[0].title.startswith("Film")
    assert answer.items[0].title.endswith(f"({MODEL.catalogue.years[MODEL.catalogue.place(answer.items[0].item_id)]})")


def test_reasons_name_what_was_liked_when_asked_for():
    plain = respond(asked(explore=False), stored([10, 20]))
    assert not [item.reason for item in plain.items if "because" in item.reason]
    told = respond(asked(explore=False, explain=True), stored([10, 20]))
    words = {item.source: item.reason for item in told.items}
    assert words["ease"] == f"because you liked Film 1 ({MODEL.catalogue.years[1]})"
    assert words["popular"] == "popular in the last 30 days"
    looking = respond(asked(explore=False, explain=True, context={"item_id": 30}), stored([10, 20]))
    assert {item.source: item.reason for item in looking.items}["ease"] == "like what you are looking at"
    explored = [item for item in respond(asked(k=100), stored([10]), rules(epsilon=1.0)).items if item.explored]
    assert {item.reason for item in explored} == {"something different"}
    assert all(len(item.reason) < 80 for item in (*told.items, *looking.items))


def test_a_new_item_is_served_without_a_new_model():
    catalogue = MODEL.catalogue
    war = [int(item) for item, bits in zip(catalogue.ids, catalogue.bits, strict=True) if "War" in genres_of(bits)]
    written = rules(new_items=[*NEW, {"item_id": 9_004, "title": "New war", "genres": "War", "year": 1983}])
    answers = [respond(asked(f"{number}"), stored(war[:8]), written) for number in range(10)]
    fits = [[item for item in answer.items if item.source == "new" and not item.explored] for answer in answers]
    assert {item.item_id for items in fits for item in items} == {9_004}
    assert max(map(len, fits)) == 1
    assert (fits[0][0].title, fits[0][0].genres, fits[0][0].score) == ("New war (1983)", ("War",), None)


def test_chance_finds_a_new_item_that_fits_nobody():
    answers = [respond(asked(f"{number}"), {}, rules(new_items=NEW, epsilon=0.5)) for number in range(60)]
    new = [item for answer in answers for item in answer.items if item.source == "new"]
    assert {item.item_id for item in new} == {9_001, 9_002, 9_003}
    assert all(item.explored for item in new)


def test_promotions_stand_in_their_slots_and_are_flagged():
    promotions = [{"slot": 1, "item_id": 500}, {"slot": 4, "item_id": 9_001}, {"slot": 5, "item_id": 5}]
    answer = respond(asked(), stored([10]), rules(promotions=promotions, new_items=NEW))
    flagged = {item.rank: (item.item_id, item.source, item.reason) for item in answer.items if item.promoted}
    assert flagged == {1: (500, "promotion", "promoted"), 4: (9_001, "promotion", "promoted")}  # nobody knows item 5
    assert len(answer.items) == 10
    action = next(int(i) for i, bits in zip(MODEL.catalogue.ids, MODEL.catalogue.bits, strict=True) if bits & 1)
    wrong = [{"item_id": action, "title": "", "genres": "War"}]  # the catalogue knows better
    written = rules(promotions=[{"slot": 1, "item_id": action}], new_items=wrong)
    assert not respond(asked(filters=Filters(genres_none=("Action",))), {}, written).items[0].promoted
    seen = respond(asked(), stored([500]), rules(promotions=promotions, blocked_items=[9_001], new_items=NEW))
    assert not [item for item in seen.items if item.promoted]


# --- learning -------------------------------------------------------------------------------------


def told(event="click", item=20, request_id="r", after=60, **changes):
    at = AT + timedelta(seconds=after)
    return RecommendationFeedback(request_id=request_id, user_id=1, item_id=item, event=event, at=at, **changes)


def taught(store, *events):
    for event in events:
        profiles = {
            key: Stored({"genres": genre_bits("War")}, AT, "present")
            for key in serving.keys(event)
            if key.view == "item_profile"
        }
        updates = serving.learn_label(event, None, store | profiles)
        store = store | {update.key: Stored(update.values, update.event_time, "present") for update in updates}
    return store


def events_of(store):
    values = store[Key("user_history", 1)].values
    return list(zip(values["items"].tolist(), values["ratings"].tolist(), strict=True))


def test_a_click_changes_the_next_answer():
    before = stored([10])
    first = respond(asked("first", explore=False), before)
    clicked = first.items[3].item_id
    after = taught(before, told(item=clicked, request_id="first"))
    second = respond(asked("second", explore=False, at=AT + timedelta(seconds=61)), after)
    assert clicked not in shown(second)
    assert shown(second) != [item for item in shown(first) if item != clicked] + shown(second)[-1:]


def test_feedback_becomes_history():
    store = taught({}, told("click", 20), told("rating", 30, rating=2.0), told("purchase", 40), told("impression", 50))
    assert events_of(store) == [(20, LIKED), (30, 2.0), (40, 5.0)]
    assert store[TRENDING].values["items"].tolist() == [20, 40]
    assert store[Key("user_history", 1)].values["genres"].tolist() == [genre_bits("War")] * 3
    assert store[TRENDING].event_time == AT + timedelta(seconds=60)


def test_the_same_feedback_counts_once():
    store = taught({}, told(), told(), told(after=61))
    assert len(events_of(store)) == len(store[TRENDING].values["items"]) == 2


def test_an_item_without_a_profile_is_learned_too():
    (history, _) = serving.learn_label(told(item=9_001), None, {})
    assert history.values["genres"].tolist() == [0]
    assert serving.learn(asked(), {}) == ()


def test_stored_times_never_go_back():
    late = AT + timedelta(days=9)
    store = {Key("user_history", 1): Stored({}, late, "present"), TRENDING: Stored({}, late, "present")}
    assert {update.event_time for update in serving.learn_label(told(), None, store)} == {late}


def test_labels_and_their_subjects():
    events = [
        told("impression"),
        told("click"),
        told("purchase"),
        told("rating", rating=4.0),
        told("rating", rating=3.5),
    ]
    assert [serving.label(event) for event in events] == [0, 1, 1, 1, 0]
    subjects = ["impression:20", "click:20", "purchase:20", "rating:20:4", "rating:20:3.5"]
    assert [serving.subject(event) for event in events] == subjects, "a corrected rating is not a repeated one"
    assert serving.label_arrival(events[0]) == AT + timedelta(seconds=60)


def test_what_happened_elsewhere_has_a_name_of_its_own():
    first, again, other = (told(request_id=None, after=after) for after in (1, 1, 2))
    assert serving.identity(first) == serving.identity(again) != serving.identity(other)
    with pytest.raises(ValidationError):
        asked(serving.identity(first))
    assert serving.objection(first, None) is None


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (told(item=20), None),
        (told("impression", item=20), None),
        (told("click", item=99), "item 99 was not shown"),
        (told("impression", item=99), "item 99 was not shown"),
        (told("rating", item=99, rating=3.0), None),
        (told("purchase", item=99), None),
    ],
)
def test_only_what_was_shown_can_be_clicked(event, words):
    objection = serving.objection(event, {"user_id": 1, "items": [{"item_id": 20}]})
    assert objection is None if words is None else words in objection


def test_feedback_is_about_a_request_that_was_made_for_that_user():
    assert "was answered here" in serving.objection(told(), None)
    assert "not made for user 1" in serving.objection(told(), {"user_id": 2, "items": [{"item_id": 20}]})


# --- without a model --------------------------------------------------------------------------------


def fall(request, store=None, model=None, **changes):
    return serving.fallback(Asked(request, (), rules(**changes), store or {}), model)


def test_without_a_model_what_is_popular_now_is_shown():
    answer = fall(asked(k=3), stored([10], trending=[20, 30, 30, 10, 40, 50]), blocked_items=[20])
    assert (shown(answer), answer.reason, answer.degraded) == ([30, 50, 40], "fallback", True)
    assert answer.items[0].reason == "popular in the last 30 days"


def test_the_catalogue_fills_the_list_and_gives_titles():
    answer = fall(asked(k=100), stored([10], trending=[20, 30]), MODEL)
    assert len(answer.items) == 100
    assert {item.item_id: item.source for item in answer.items[:2]} == {20: "popular", 30: "popular"}
    likes = MODEL.catalogue.likes[MODEL.catalogue.place(np.array(shown(answer)[2:]))].tolist()
    assert likes == sorted(likes, reverse=True)
    assert answer.items[0].title.startswith("Film")


def test_a_fallback_keeps_filters_where_it_can_and_says_where_not():
    request = asked(filters=Filters(genres_any=("War",)))
    answer = fall(request, stored(trending=[20, 30]), MODEL)
    assert answer.items
    assert all("War" in item.genres for item in answer.items)
    nothing = fall(request, stored(trending=[20, 30]))
    assert nothing.items == ()
    assert nothing.reason == "fallback, nothing left: there is no catalogue to filter by"


def test_without_anything_the_rules_list_is_shown_or_nothing_and_why():
    assert shown(fall(asked(), fallback_items=[3, 1, 2], out_of_stock=[1])) == [3, 2]
    nothing = fall(asked())
    assert nothing.items == ()
    assert nothing.reason.startswith("fallback, nothing left: there is no model")
    assert fall(asked(), fallback_items=[3], blocked_items=[3]).reason.endswith("blocked_items left 0, unseen left 0")


def test_old_likes_are_not_popular_now():
    store = stored(trending=[20])
    assert shown(fall(asked(at=AT + timedelta(days=29)), store)) == [20]
    assert shown(fall(asked(at=AT + timedelta(days=31)), store)) == []
