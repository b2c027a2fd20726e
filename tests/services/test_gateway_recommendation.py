"""Recommendations over HTTP, from a real bundle and store: nothing seen, the offline lists, what clicks do."""

import subprocess
import sys
from datetime import timedelta

import httpx
import pandas as pd
import pytest
from running import ROOT, configure, eventually, free_port, gateway, version

import usecases
from orrery.adapters.api_keys import ALL_SCOPES, open_keys
from orrery.adapters.model_server import load_model
from orrery.adapters.model_source import LastGood
from orrery.settings import child_environment, load

NAME = "recommendation"
SERVING, MOMENT = usecases.serving(NAME), usecases.training(NAME).replay_from
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Settings with a store and a bundle of the sample, and its raw rows until then."""
    home = tmp_path_factory.mktemp("recommendation")
    filled = load().model_copy(update={"home": home / "filled"})
    code = (  # in a process of its own: Feast makes of prometheus-client something else
        "from benchmarks.load.fitted_bundle import fitted; from orrery.settings import settings;"
        "from orrery.usecase import silent;"
        f"fitted({NAME!r}, settings(), silent, sample=True).to_parquet({str(home / 'raw.parquet')!r})"
    )
    environment = child_environment(load(), {"ORRERY_HOME": str(filled.home), "PYTHONPATH": str(ROOT)})
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True)
    raw = pd.read_parquet(home / "raw.parquet")
    settings = load().model_copy(update={"home": home / "home"})
    settings = configure(settings, free_port(), filled.feature_folder / "online.db")
    filled.models_folder.rename(settings.models_folder)
    return settings, raw[raw["AT"] < MOMENT]


@pytest.fixture(scope="module")
def client(made):
    settings, _ = made
    with gateway(settings, open_keys(settings).create("test", ALL_SCOPES)[0], **{NAME: SERVING}) as client:
        eventually(lambda: version(client) == "1")
        yield client


def ask(client, user, **others) -> dict:
    body = {"user_id": user, "explore": False, "at": MOMENT.isoformat(), **others}
    answer = client.post(f"/v1/{NAME}/predict", json=body)
    assert answer.status_code == httpx.codes.OK, answer.text
    return answer.json()


def shown(answer) -> list[int]:
    return [item["item_id"] for item in answer["items"]]


def tell(client, answer, item, event="click", after=60, **others) -> httpx.Response:
    at = (MOMENT + timedelta(seconds=after)).isoformat()
    body = {"request_id": answer["request_id"], "user_id": answer["user_id"], "item_id": item, "event": event, "at": at}
    return client.post(f"/v1/{NAME}/feedback", json=body | others)


def offline(made, users) -> dict[int, list[int]]:
    """The lists of the evaluation: payloads from the raw rows, scored as the gate scores them."""
    from usecases.recommendation.tables import inputs, with_payload

    settings, raw = made
    rows = pd.DataFrame({"USER_ID": users, "AT": pd.Series([MOMENT] * len(users)).astype("datetime64[us, UTC]")})
    found = LastGood(settings.models_folder / NAME).current()
    assert found is not None
    outputs = SERVING.score(load_model(found[1]), inputs(with_payload(rows, raw)))
    return dict(zip(users, outputs["items"][:, :10].astype(int).tolist(), strict=True))


def test_every_user_gets_the_list_of_the_evaluation_and_nothing_seen(client, made):
    seen = made[1].groupby("USER_ID")["ITEM_ID"].agg(set)
    users = seen.index.tolist()
    expected = offline(made, users)
    for user in users:
        answer = ask(client, user)
        assert not answer["degraded"]
        assert shown(answer) == expected[user]
        assert len(set(shown(answer))) == 10
        assert not seen[user] & set(shown(answer))
        assert [item["propensity"] for item in answer["items"]] == [1.0] * 10


def test_a_click_changes_the_next_answer(client, made):
    user = int(made[1]["USER_ID"].value_counts().index[0])
    before = ask(client, user)
    clicked = shown(before)[3]
    assert tell(client, before, clicked).status_code == httpx.codes.OK
    later = ask(client, user, at=(MOMENT + timedelta(minutes=2)).isoformat())
    assert clicked not in shown(later)
    assert shown(later) != [item for item in shown(before) if item != clicked][: len(shown(later))]


def test_a_stranger_gets_what_is_popular_and_a_taste_after_three_clicks(client):
    stranger = 9_000_001
    first = ask(client, stranger)
    assert len(shown(first)) == 10
    for place, item in enumerate(shown(first)[-3:]):
        assert tell(client, first, item, after=60 + place).status_code == httpx.codes.OK
    second = ask(client, stranger, at=(MOMENT + timedelta(minutes=5)).isoformat(), explain=True)
    assert not set(shown(first)[-3:]) & set(shown(second))
    assert any(item["reason"].startswith("because you liked") for item in second["items"])


def test_the_same_feedback_counts_once_and_each_item_for_itself(client):
    answer = ask(client, 9_000_002)
    one, two = shown(answer)[:2]
    said = [tell(client, answer, item).json()["repeated"] for item in (one, two, one)]
    assert said == [False, False, True]


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"item_id": 16_000_000}, 422, "not shown"),
        ({"request_id": "nobody-asked"}, 404, "no request nobody-asked was answered here"),
        ({"user_id": 1}, 422, "user"),
        ({"at": (MOMENT - timedelta(hours=1)).isoformat()}, 422, "older than its event"),
        ({"at": "2098-01-01T00:00:00Z"}, 422, "more than a day in the future"),
        ({"event": "rating"}, 422, "rating"),
    ],
)
def test_feedback_that_cannot_be_is_refused(client, change, status, words):
    answer = ask(client, 9_000_003)
    refused = tell(client, answer, shown(answer)[0], **change)
    assert refused.status_code == status
    assert words in refused.text


@pytest.mark.parametrize("k", [0, -1, 10**9, "ten", 2.5])
def test_a_number_of_items_that_cannot_be_is_refused_by_its_field(client, k):
    refused = client.post(f"/v1/{NAME}/predict", json={"user_id": 1, "k": k})
    assert refused.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    assert refused.json()["errors"][0]["field"] == "k"


def test_when_nothing_is_left_the_list_is_empty_and_says_why(client):
    answer = ask(client, 9_000_004, filters={"genres_any": ["Western"], "genres_none": ["Western"]})
    assert not answer["items"]
    assert answer["reason"].startswith("nothing left")


def test_filters_leave_what_was_asked_for(client):
    answer = ask(client, 9_000_005, filters={"genres_any": ["Documentary"]}, exclude=[1, 16_000_000])
    assert len(shown(answer)) == 10
    assert all("Documentary" in item["genres"] for item in answer["items"])


def test_without_a_model_there_are_still_items(made, tmp_path):
    settings, raw = made
    bare = load().model_copy(update={"home": tmp_path / "home"})
    bare = configure(bare, free_port(), settings.feature_folder / "online.db")
    user = int(raw["USER_ID"].value_counts().index[0])
    with gateway(bare, open_keys(bare).create("test", ALL_SCOPES)[0], **{NAME: SERVING}) as client:
        answer = ask(client, user)
    assert (answer["degraded"], answer["model_version"]) == (True, None)
    assert answer["reason"].startswith("fallback")
    assert len(shown(answer)) == 10
    assert not set(raw[raw["USER_ID"] == user]["ITEM_ID"]) & set(shown(answer))
