"""The platform in containers watches itself: `make e2e`.

The loop closes without hands, every panel of every dashboard has something to show, and of each of five real faults a
webhook is told within two minutes.
"""

import itertools
import json
import statistics
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import dashboards
import httpx
import pytest
from clients import Asked, Platform, client_of, until
from infra.test_prometheus import RULES, metrics_named, rules_of
from loops import CHANGED, TIMELINE, assert_closed
from stack import PORTS, ROOT, Stack, engine

import usecases

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1_200)]
MLFLOW, PREFECT, PROMETHEUS = (f"http://127.0.0.1:{PORTS[name]}" for name in ("MLFLOW", "PREFECT", "PROMETHEUS"))
WITHIN = 120.0
QUIET, MANY = "house_prices", 220
"""a use case that the loop asked nothing of, whose few slow answers count, and more of them than the rule asks for"""
SINK = """
import http.server, json, time
class Sink(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        for alert in json.loads(self.rfile.read(int(self.headers["Content-Length"])))["alerts"]:
            print(json.dumps({"at": time.time(), **alert}), flush=True)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", 8080), Sink).serve_forever()
"""
"""a receiver of one's own, as the setting of the pager names it"""
figures: dict[str, Any] = {}
"""seconds from each fault to the webhook, and the like; build/e2e/watched.json in the end"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if why := engine():
        pytest.skip(f"no container can be run here: {why}")
    pager = tmp_path_factory.mktemp("pager") / "url"
    pager.write_text("http://sink:8080/alerts\n")
    pager.chmod(0o644)
    # no looks and no releases but those that the loop and the faults ask for
    stack = Stack.of(
        ORRERY_ALERTMANAGER__PAGER_FILE=str(pager), ORRERY_PREFECT__SCHEDULES="false", ORRERY_WATCH__REPORTS="0",
        ORRERY_TRAINING__FIRST="imaging", ORRERY_RETRAIN__COOLDOWN_MINUTES="1", ORRERY_RETRAIN__LABELS="3000",
    )  # fmt: skip
    sink = f"{stack.environment['COMPOSE_PROJECT_NAME']}-sink"
    remove(stack, sink)
    try:
        stack.run("make", "up")
        stack.wait_whole()
        network, image = f"{stack.environment['COMPOSE_PROJECT_NAME']}_control", "orrery/monitor:0.1.0"
        name = ("--name", sink, "--network", network, "--network-alias", "sink")
        stack.run("docker", "run", "--detach", *name, image, "python", "-u", "-c", SINK)
        yield stack
    finally:
        remove(stack, sink)
    report = ROOT / "build" / "e2e" / "watched.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(figures, indent=1) + "\n")


def remove(stack: Stack, sink: str) -> None:
    stack.run("docker", "rm", "--force", sink, check=False)
    stack.compose("down", "--volumes", "--remove-orphans")


@pytest.fixture(scope="module")
def platform(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with client_of(stack, tmp_path_factory.mktemp("client")) as platform:
        yield platform


class Fault:
    """What was just broken, and the alert that must be told of it."""

    def __init__(self, stack: Stack, alert: str) -> None:
        self.stack, self.alert, self.began = stack, alert, time.time()

    def told(self) -> dict[str, Any] | None:
        """What came to the webhook since."""
        said = self.stack.run("docker", "logs", f"{self.stack.environment['COMPOSE_PROJECT_NAME']}-sink").stdout
        heard = [json.loads(line) for line in said.splitlines()]
        return next(
            (
                each for each in heard
                if each["labels"]["alertname"] == self.alert and each["status"] == "firing" and each["at"] > self.began
            ),
            None,
        )  # fmt: skip

    def wait(self) -> None:
        """Until the webhook was told, in time, and with a runbook that is there."""
        until(self.told, WITHIN - (time.time() - self.began), lambda: self.alert)
        found = self.told()
        assert found is not None
        figures[self.alert] = round(found["at"] - self.began, 1)
        assert figures[self.alert] <= WITHIN
        assert datetime.fromisoformat(found["startsAt"][:19]).timestamp() > 0
        assert (ROOT / found["annotations"]["runbook"]).is_file()


def test_a_changed_world_leads_to_a_better_champion_in_containers_too(stack: Stack) -> None:
    told = stack.orrery("loop", *CHANGED, "--out", "/tmp/loop", "--json").stdout
    TIMELINE.parent.mkdir(parents=True, exist_ok=True)
    TIMELINE.write_text(told)
    assert_closed(json.loads(told))


def test_no_panel_of_a_dashboard_is_empty_after_the_loop(stack: Stack, platform: Platform) -> None:
    with platform.load(rate=2, make=platform.film) as load:  # the loop asks nothing of the model server
        platform.wait(lambda: len(load.answered) >= 20, 60)
        assert not load.failed
        until(lambda: not dashboards.empty(PROMETHEUS), 90, lambda: f"these are empty: {dashboards.empty(PROMETHEUS)}")


def test_every_metric_that_rules_and_dashboards_name_is_scraped(stack: Stack) -> None:
    rules = [rule for path in RULES for rule in rules_of(path)]
    shown = [target["expr"] for _, panel in dashboards.shown() for target in panel["targets"]]
    asked = [rule["expr"] for rule in rules] + shown
    named = (
        set().union(*map(metrics_named, asked)) - {rule["record"] for rule in rules if "record" in rule} - {"ALERTS"}
    )
    assert len(named) > 60
    until(lambda: named <= scraped(), 60, lambda: f"never scraped: {named - scraped()}")


def scraped() -> set[str]:
    families = httpx.get(f"{PROMETHEUS}/api/v1/metadata").json()["data"]
    names = set(httpx.get(f"{PROMETHEUS}/api/v1/label/__name__/values").json()["data"])
    for family, (about, *_) in families.items():
        suffixes = ("_bucket", "_sum", "_count") if about["type"] == "histogram" else ("",)
        names |= {f"{family}{suffix}" for suffix in suffixes}
    return names


def test_torchserve_killed_its_twin_answers_and_it_comes_back(stack: Stack, platform: Platform) -> None:
    with platform.load(rate=2, make=platform.film) as load:
        platform.wait(lambda: len(load.answered) >= 10)
        stack.kill("torchserve")
        platform.wait(lambda: any(answer["degraded"] for answer in load.answered))
        figures["torchserve_whole_again"] = round(stack.wait_whole(120), 1)
        platform.wait(lambda: not load.answered[-1]["degraded"], 60)
    assert not load.failed
    assert all(answer["model_version"] for answer in load.answered)
    degraded = [answer for answer in load.answered if answer["degraded"]]
    figures["torchserve_degraded"] = f"{len(degraded)} of {len(load.answered)}"
    assert not [each for each in load.answered if not platform.logged(each)]


@pytest.fixture(scope="module")
def stopped_watch(stack: Stack) -> Fault:
    """A drift job that has looked, and looks no more; it is told while other faults are."""
    # from now on a look is promised every five seconds
    promised = Stack({**stack.environment, "ORRERY_WATCH__SECONDS": "5"})
    promised.compose("up", "--detach", "--no-deps", "--wait", "monitor")
    looked_at("fraud")
    stack.compose("kill", "worker")
    return Fault(stack, "DriftJobStale")


def test_a_model_promoted_by_hand_is_told(stack: Stack, stopped_watch: Fault) -> None:
    champion, bad = behind("champion"), ungated("fraud")
    point("champion", bad)
    Fault(stack, "ChampionNotGated").wait()
    point("champion", champion["version"])


def looked_at(use_case: str) -> None:
    """One run of the drift job, by Prefect and its worker."""
    found = httpx.get(f"{PREFECT}/api/deployments/name/watch/{use_case}").raise_for_status().json()
    made = httpx.post(f"{PREFECT}/api/deployments/{found['id']}/create_flow_run", json={"state": {"type": "SCHEDULED"}})
    run = f"{PREFECT}/api/flow_runs/{made.raise_for_status().json()['id']}"
    until(lambda: httpx.get(run).json()["state_type"] == "COMPLETED", 120, lambda: f"a look at {use_case}")


def mlflow(method: str, path: str, **said: Any) -> Any:
    return httpx.request(method, f"{MLFLOW}/api/2.0/mlflow/{path}", timeout=30, **said).raise_for_status().json()


def behind(alias: str) -> dict[str, Any]:
    found: dict[str, Any] = mlflow("GET", "registered-models/alias", params={"name": "fraud", "alias": alias})
    version: dict[str, Any] = found["model_version"]
    return version


def ungated(use_case: str) -> str:
    """A version that somebody made of a run in MLflow's own way: whole, and judged by nobody."""
    known = behind("champion")
    tags = [tag for tag in known["tags"] if tag["key"] == "digest"]
    body = {"name": use_case, "source": known["source"], "run_id": known["run_id"], "tags": tags}
    return str(mlflow("POST", "model-versions/create", json=body)["model_version"]["version"])


def point(alias: str, version: str) -> None:
    mlflow("POST", "registered-models/alias", json={"name": "fraud", "alias": alias, "version": version})


def test_answers_that_come_slowly_are_told(stack: Stack, platform: Platform) -> None:
    example, numbers = usecases.serving(QUIET).example, itertools.count(1_000_000)

    def sale() -> Asked:
        said = example.model_copy(update={"sale_id": next(numbers)})
        return f"/v1/{QUIET}/predict", {"json": said.model_dump(mode="json")}

    with platform.load(rate=40, make=sale) as load:
        platform.wait(lambda: len(load.answered) > MANY, 60)
    slow = Fault(stack, "PredictionsSlow")
    starve(stack, stack.containers()["gateway"]["Id"], platform)
    with platform.load(rate=3, make=sale):
        slow.wait()


def starve(stack: Stack, gateway: str, platform: Platform) -> None:
    """Take the gateway's share of the processor away until it answers late, as a greedy neighbour does."""
    for share in (0.1, 0.05, 0.03, 0.02):
        stack.run("docker", "update", "--cpus", str(share), gateway)
        waits = [platform.predict().elapsed.total_seconds() for _ in range(6)]
        if statistics.median(waits) > 0.3:
            return
    raise AssertionError(f"it answers within {statistics.median(waits):.2f} s all the same")


def test_a_drift_job_that_stops_is_told(stopped_watch: Fault) -> None:
    stopped_watch.wait()


def test_a_gateway_that_is_killed_and_a_store_that_stops_are_told(stack: Stack) -> None:
    stack.compose("kill", "gateway")  # as one that does not come back; a crash is mended within seconds
    down = Fault(stack, "GatewayDown")
    stack.compose("stop", "redis")
    store = Fault(stack, "StoreDown")
    down.wait()
    store.wait()
