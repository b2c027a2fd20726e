"""The README's story of recommendations, told by the running platform: after `make demo`, `make story`."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
SUMMARY = Path(__file__).parent.parent.parent / "build" / "demo" / "summary.json"
LATER = datetime(2016, 12, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def events(platform):
    """Everything that the data set knows, all of it before `LATER`."""
    from orrery.preparation import current

    return pd.read_parquet(current("recommendation", platform.settings).path)


def ask(platform, user, **others):
    """An answer by the model; a busy machine now and then reads the store too late, and is asked again."""
    body = {"user_id": user, "explore": False, "at": LATER.isoformat(), **others}
    for _ in range(3):
        answer = platform.client.post("/v1/recommendation/predict", json=body).json()
        if not answer["degraded"]:
            return answer
    pytest.fail(f"three degraded answers in a row: {answer['degraded_reason']}")


def shown(answer):
    return [item["item_id"] for item in answer["items"]]


def test_the_demo_tells_the_truth_of_recommendations():
    told = json.loads(SUMMARY.read_text())["use_cases"]["recommendation"]
    test, served = told["test"], told["served"]
    assert told["gate"] == "passed"
    assert {"ndcg10", "recall10", "coverage10", "popular_ndcg10", "ease_ndcg10"} <= set(test)
    assert min(test["warm_over_popular"], test["cold_over_popular"], test["last_over_popular"]) >= 0
    assert served["errors"] == 0
    assert 0 < served["ctr"] < 1
    assert told["parity"]["rows"] >= 2_000
    assert told["parity"]["mismatches"] == 0


def test_what_was_answered_between_simulated_clicks_is_computed_again(platform, verdict):
    """Clicks are in the store and in no data set; with what was served, every answer is as offline."""
    window = ["--from", "2016-06-01", "--to", "2016-12-01"]
    found = verdict(platform.orrery("parity", "recommendation", *window, "--served", "--json"))
    assert found["rows"] >= 3_000
    assert found["mismatches"] == 0


def test_nobody_is_shown_what_he_has_seen(platform, events):
    seen = events.groupby("USER_ID")["ITEM_ID"].agg(set)
    for user, items in seen.items():
        answer = ask(platform, user)
        assert len(shown(answer)) == 10
        if answer["feature_status"]["user_history"] == "present":
            known = items & set(events[events["AT"] < "2016-06-01"]["ITEM_ID"])
            assert not known & set(shown(answer))


def test_a_click_changes_the_next_answer(platform):
    before = ask(platform, 15)
    clicked = shown(before)[0]
    told = {"user_id": 15, "item_id": clicked, "request_id": before["request_id"], "event": "click"}
    told["at"] = LATER.replace(minute=1).isoformat()
    assert platform.client.post("/v1/recommendation/feedback", json=told).is_success
    after = ask(platform, 15, at=LATER.replace(minute=2).isoformat())
    assert clicked not in shown(after)


def test_another_policy_is_valued_from_the_log(platform, verdict):
    """The demo's simulated clients clicked on what an exploring policy showed them."""
    window = ["--use-case", "recommendation", "--from", "2016-06-01", "--to", "2016-12-01"]
    done = platform.orrery("experiment", "off-policy", *window, "--target", "greedy", "--json")
    assert done.returncode in (0, 3), done.stderr
    found = verdict(done)
    assert found["rows"] > 1_000
    assert bool(found["unusable"]) == (done.returncode == 3)
