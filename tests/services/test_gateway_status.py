"""How use cases stand, as the gateway tells it: from memory, and null with a reason where nobody could say."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from running import ROOT, eventually, gateway, version
from test_gateway_failures import ask

from orrery.adapters.api_keys import ALL_SCOPES, ApiKeys
from orrery.adapters.audit_log import AuditLog
from orrery.adapters.database import open_database
from orrery.adapters.watch_log import WatchLog
from orrery.retraining import REFUSED
from orrery.watching import Quality, Watched
from services.gateway.observer import Observer
from services.gateway.standing import OBJECTIVE

pytest_plugins = ["postgres_server"]
START, DAY = datetime(2018, 9, 1, tzinfo=UTC), timedelta(days=1)
WINDOW = Watched(
    "fraud", START, START + DAY, "1", "drift", 900, 4, sustained=True, reasons=("amounts are larger",),
    quality=Quality(labelled=450, maturity=0.5, lag_seconds=5.0),
)  # fmt: skip


def standing(client):
    answer = client.get("/v1/status")
    assert answer.status_code == 200, answer.text
    [found] = answer.json()["use_cases"]
    return found


def watched(settings):
    engine = open_database(settings.log_url, durable=False)
    WatchLog(engine).write(WINDOW, START + 2 * DAY)
    engine.dispose()


def test_what_is_known_is_told_and_what_is_not_has_a_reason(served):
    for _ in range(3):
        ask(served)
    eventually(lambda: "never watched" in standing(served)["unknown"].get("drift", ""))
    found = standing(served)
    assert (found["use_case"], found["champion"], found["served"], found["source"]) == ("fraud", "1", "1", "registry")
    assert found["champion_seen_at"]
    told = {"answers_five_minutes": 3, "answers": 3, "degraded": 0, "failed": 0}
    answering = [{"version": "1", "variant": "champion", "share": 1.0}]
    assert found["traffic"] == {**told, "answering": answering}
    assert found["slo"] == {"objective": 0.995, "attained": 1.0, "budget_left": 1.0}
    assert found["drift"] is found["label_maturity"] is found["last_release"] is None
    assert set(found["unknown"]) == {"drift", "label_maturity", "last_release"}
    assert "not in the gateway's home" in found["unknown"]["last_release"]


def test_verdicts_of_the_watch_and_of_the_last_release_are_told(configured, key, catalogue, bundles):
    watched(configured)
    audit = AuditLog(configured)
    alert = {"name": "DriftSustained", "summary": "Amounts drift."}
    audit.append("promote", "fraud", {"champion": "1"}, "ada")
    audit.append("retrain started", "fraud", {"cause": "c1", "alert": alert, "reasons": ["1200 labels"]})
    audit.append(REFUSED, "fraud", {"cause": "c1", "reasons": ["ap: 0.5 is less than 0.6"]}, "flow")
    catalogue.register(bundles[0], "1")
    with gateway(configured, key) as client:
        eventually(lambda: version(client) == "1" and standing(client)["last_release"])
        found = standing(client)
        told = found["last_release"]
        assert (told["outcome"], told["version"], told["by"]) == ("refused", None, "flow")
        assert told["cause"] == "DriftSustained: Amounts drift."
        assert told["reasons"] == ["ap: 0.5 is less than 0.6"]
        verdict = {name: found["drift"][name] for name in ("verdict", "sustained", "rows", "reasons")}
        assert verdict == {"verdict": "drift", "sustained": True, "rows": 900, "reasons": ["amounts are larger"]}
        assert datetime.fromisoformat(found["drift"]["last"]) == START + DAY
        assert found["label_maturity"] == 0.5
        assert set(found["unknown"]) == {"slo"}
        audit.append("promote", "fraud", {"champion": "2", "cause": "c1"}, "flow")
        eventually(lambda: standing(client)["last_release"]["outcome"] == "promoted")
        assert standing(client)["last_release"]["reasons"] == ["1200 labels"]
        audit.path.write_text(audit.path.read_text().replace("Amounts", "Nothing"))
        eventually(lambda: standing(client)["last_release"] is None)
        assert "was changed after it was written" in standing(client)["unknown"]["last_release"]


def test_without_catalogue_and_model_nothing_is_invented(configured, key, catalogue):
    catalogue.stop()
    with gateway(configured, key) as client:
        ask(client)
        found = standing(client)
    assert (found["champion"], found["champion_seen_at"], found["served"]) == (None, None, None)
    assert "has not answered" in found["unknown"]["champion"]
    assert "rules answer" in found["unknown"]["served"]
    assert (found["traffic"]["answers"], found["traffic"]["degraded"]) == (1, 1)
    assert found["traffic"]["answering"] == [{"version": None, "variant": "fallback", "share": 1.0}]


def test_a_catalogue_that_goes_leaves_what_it_said_last_and_when(served, catalogue):
    catalogue.stop()
    eventually(lambda: 'dep="catalogue"' in served.get("/metrics").text)
    before = standing(served)
    time.sleep(0.2)
    assert (before["champion"], standing(served)["champion_seen_at"]) == ("1", before["champion_seen_at"])


@pytest.mark.slow
def test_with_everything_dead_it_answers_at_once(configured, catalogue, postgres):
    url = postgres.database()
    configured = configured.model_copy(update={"log": configured.log.model_copy(update={"url": url})})
    engine = open_database(url, durable=False)
    key = ApiKeys(engine).create("test", ALL_SCOPES)[0]
    engine.dispose()
    watched(configured)
    with gateway(configured, key) as client:
        eventually(lambda: standing(client)["drift"])
        postgres.kill()
        catalogue.stop()
        try:
            eventually(lambda: standing(client)["drift"] is None)
            assert "cannot be read" in standing(client)["unknown"]["drift"]
            took = []
            for _ in range(20):
                started = time.monotonic()
                standing(client)
                took.append(time.monotonic() - started)
            assert sorted(took)[10] < 0.1
        finally:
            postgres.start()
        eventually(lambda: standing(client)["drift"])


def test_it_asks_for_a_key_that_may_read(bare):
    assert bare.get("/v1/status", headers={"X-API-Key": "ork_00000000_none"}).status_code == 401


def test_it_is_documented_with_its_types(bare):
    document = bare.get("/openapi.json").json()
    get = document["paths"]["/v1/status"]["get"]
    assert get["responses"]["200"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Status"}
    assert get["security"] == [{"APIKeyHeader": []}]
    assert {"use_case", "champion", "traffic", "slo", "drift", "last_release", "unknown"} <= set(
        document["components"]["schemas"]["Standing"]["properties"]
    )


def test_the_promise_is_that_of_the_alerts():
    rules = yaml.safe_load((Path(ROOT) / "infra/prometheus/slo-rules.yml").read_text())
    burns = [rule["expr"] for group in rules["groups"] for rule in group["rules"] if "Burns" in rule.get("alert", "")]
    assert burns
    assert all(f"* {round(1 - OBJECTIVE, 6)}" in expression for expression in burns)


class Metrics:
    def __init__(self):
        self.counts = {}

    def ends(self):
        return dict(self.counts)


class Stand:
    """What an observer asks of a predictor and of a follower."""

    served = champion = asked_at = None

    def __init__(self):
        self.metrics = Metrics()


def test_the_last_five_minutes_are_those(settings):
    stand, clock = Stand(), [START]
    observer = Observer(
        {"a": stand}, {"a": stand}, WatchLog(open_database("sqlite://", False)), AuditLog(settings), lambda: clock[0]
    )
    for minute in range(20):
        clock[0] = START + timedelta(minutes=minute)
        stand.metrics.counts = {
            ("1", "champion", "ok"): 10.0 * minute,
            ("", "fallback", "fallback"): 5.0,
            ("", "", "error"): 1.0,
        }
        observer.count()
    [told] = observer.status().use_cases
    assert (told.traffic.answers_five_minutes, told.traffic.answers, told.traffic.failed) == (50, 195, 1)
    assert [(each.version, each.share) for each in told.traffic.answering] == [("1", 1.0)]
    assert told.slo.attained == 195 / 196
    assert told.slo.budget_left == pytest.approx(1 - (1 / 196) / 0.005)
