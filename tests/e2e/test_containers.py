"""The platform in containers, told in order: from nothing, through crashes and a lost disk, to nothing. `make e2e`."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from clients import ORRERY, Platform, client_of, until
from stack import GATEWAY, PORTS, ROOT, STEPS_ONCE, Stack, engine

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]
PUBLISHED = {"gateway": 8000, "mlflow": 5000, "prefect": 4200, "prometheus": 9090, "alertmanager": 9093}
WITHIN = {
    "postgres": 5432, "redis": 6379, "monitor": 8001, "worker": 8080, "torchserve": 8080, "redis-exporter": 9121,
    "postgres-exporter": 9187, "host-exporter": 9100,
}  # fmt: skip
SENT = 1_000
figures: dict[str, Any] = {}
"""what was measured on the way; build/e2e/figures.json in the end"""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    if why := engine():
        pytest.skip(f"no container can be run here: {why}")
    stack = Stack.of()
    stack.compose("down", "--volumes", "--remove-orphans")
    began = time.monotonic()
    yield stack
    figures["seconds"] = round(time.monotonic() - began)
    report = ROOT / "build" / "e2e" / "figures.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(figures, indent=1) + "\n")
    stack.compose("down", "--volumes", "--remove-orphans")


@pytest.fixture(scope="module")
def host(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The command on this machine, with a home of its own, against the published ports."""
    home = tmp_path_factory.mktemp("host")
    urls = {
        "ORRERY_GATEWAY__URL": GATEWAY,
        "ORRERY_MLFLOW__URL": f"http://127.0.0.1:{PORTS['MLFLOW']}",
        "ORRERY_PREFECT__URL": f"http://127.0.0.1:{PORTS['PREFECT']}/api",
        "ORRERY_HOME": str(home),
    }
    return Stack({**stack.environment, **urls})


@pytest.fixture
def platform(stack: Stack, tmp_path: Path) -> Iterator[Platform]:
    """A client at the published port, with the first key."""
    with client_of(stack, tmp_path) as platform:
        yield platform


def orrery(where: Stack, *arguments: str, check: bool = True) -> Any:
    return where.run(str(ORRERY), *arguments, check=check)


def prometheus(question: str) -> float:
    answer = httpx.get(f"http://127.0.0.1:{PORTS['PROMETHEUS']}/api/v1/query", params={"query": question}).json()
    return sum(float(each["value"][1]) for each in answer["data"]["result"])


def counted(platform: Platform, number: float) -> bool:
    return prometheus('sum(gateway_predictions_total{use_case="fraud", outcome="ok"})') == number


# --- from nothing ---------------------------------------------------------------------------------


def test_what_this_machine_lacks_is_said_before_anything_is_built(stack):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = Stack.of(ORRERY_PREFECT__PORT=port).run("make", "up", check=False)
    assert done.returncode
    assert f"port {port} is in use, and prefect wants it" in done.stderr
    assert "ORRERY_PREFECT__PORT" in done.stderr
    assert not stack.remains()


def test_a_first_start_that_is_killed_halfway_begins_anew(stack):
    stack.compose("build", "--quiet")
    stack.compose("up", "--detach", "--no-deps", "init")
    stack.compose("up", "--detach", "postgres")
    found = stack.containers()["postgres"]["Name"]
    until(
        lambda: "pgdata" in stack.run("docker", "exec", found, "ls", "/var/lib/postgresql/data", check=False).stdout, 20
    )
    stack.kill("postgres")
    until(lambda: "beginning anew" in stack.compose("logs", "postgres").stdout, 30)


def test_it_comes_up_with_a_champion(stack):
    began = time.monotonic()
    with ThreadPoolExecutor(1) as watching:
        ready = watching.submit(until, lambda: httpx.get(f"{GATEWAY}/readyz").is_success, 300)
        done = stack.run("make", "up")
        figures["up_to_ready_gateway_seconds"] = round(ready.result() - began)
    figures["up_to_first_champion_seconds"] = round(time.monotonic() - began)
    stack.wait_whole()
    assert f"http://127.0.0.1:{PORTS['GATEWAY']}/docs" in done.stdout
    assert f"http://127.0.0.1:{PORTS['PREFECT']}" in done.stdout
    status = json.loads(stack.orrery("status", "--json").stdout)
    assert all(service["healthy"] for service in status["services"])
    (fraud,) = (model for model in status["models"] if model["use_case"] == "fraud")
    assert fraud["champion"] == fraud["served"]
    assert "Promoted" in _runs("release")


def _runs(flow: str) -> set[str]:
    """The names of the states of a flow's runs, as Prefect's pages list them."""
    asked = {"flows": {"name": {"any_": [flow]}}}
    found = httpx.post(f"http://127.0.0.1:{PORTS['PREFECT']}/api/flow_runs/filter", json=asked).json()
    return {run["state_name"] for run in found}


# --- what it may and may not --------------------------------------------------------------------


def test_no_container_may_more_than_it_must(stack):
    for service, found in stack.containers().items():
        host, config = found["HostConfig"], found["Config"]
        assert config["User"] not in {"", "0", "root"}, f"{service} runs as root"
        assert host["ReadonlyRootfs"], f"{service} may write to its root file system"
        assert host["CapDrop"] == ["ALL"], service
        assert not host["CapAdd"], service
        assert not host["Privileged"], service
        assert any("no-new-privileges" in option for option in host["SecurityOpt"]), service
        assert host["Memory"], service
        assert host["PidsLimit"], service
        for bindings in (host["PortBindings"] or {}).values():
            assert {each["HostIp"] for each in bindings} == {"127.0.0.1"}, service


def test_no_process_of_a_container_has_a_capability_or_is_root(stack):
    for service in stack.containers().keys() - STEPS_ONCE:
        status = stack.compose("exec", "-T", service, "cat", "/proc/1/status").stdout
        facts = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        assert int(facts["CapEff"], 16) == 0, service
        assert facts["Uid"].split()[0] != "0", service
        assert stack.compose("exec", "-T", service, "touch", "/probe", check=False).returncode, service


def test_no_secret_is_in_an_environment_a_label_or_a_log(stack):
    known = [
        stack.compose("exec", "-T", "worker", "cat", "/run/secrets/redis").stdout,
        stack.orrery("keys", "show").stdout.strip(),
        stack.compose("exec", "-T", "monitor", "cat", "/run/secrets/alerts").stdout,
        stack.compose("exec", "-T", "postgres-exporter", "cat", "/run/secrets/postgres").stdout,
        *json.loads(stack.compose("exec", "-T", "redis-exporter", "cat", "/run/secrets/redis").stdout).values(),
        *(
            line.rsplit(":", 1)[1]
            for service in ("worker", "mlflow", "prefect", "gateway", "monitor")
            for line in stack.compose("exec", "-T", service, "cat", "/run/secrets/pgpass").stdout.split()
        ),
    ]
    said = json.dumps(stack.containers()) + stack.compose("logs").stdout
    assert len(known) == 11
    assert all(len(secret) >= 32 and secret not in said for secret in known)
    modes = stack.compose("exec", "-T", "worker", "stat", "-c", "%a %u", "/run/secrets/pgpass", "/run/secrets/redis")
    assert modes.stdout.split() == ["400", "10001"] * 2
    # Alertmanager's image runs as a user of its own
    assert stack.compose("exec", "-T", "alertmanager", "cat", "/run/secrets/alerts").stdout == known[2]


def test_the_edge_reaches_what_is_published_and_nothing_else(stack):
    networks = {
        name: [network["IPAddress"] for network in found["NetworkSettings"]["Networks"].values()]
        for name, found in stack.containers().items()
    }
    # names and addresses alike: a network that only hides names protects nothing
    targets = [(name, host, port) for name, port in {**PUBLISHED, **WITHIN}.items() for host in (name, *networks[name])]
    ask = (
        "import json, socket, sys\n"
        "def reached(host, port):\n"
        "    try: socket.create_connection((host, port), 1).close()\n"
        "    except OSError: return False\n"
        "    return True\n"
        "print(json.dumps([name for name, host, port in json.loads(sys.argv[1]) if reached(host, port)]))"
    )
    edge = f"{stack.environment['COMPOSE_PROJECT_NAME']}_edge"
    image = stack.containers()["gateway"]["Config"]["Image"]
    done = stack.run("docker", "run", "--rm", "--network", edge, image, "python", "-c", ask, json.dumps(targets))
    assert set(json.loads(done.stdout)) == set(PUBLISHED)


# --- the loop, from outside ------------------------------------------------------------------------


def test_a_use_case_is_trained_through_prefect_from_outside_and_served(stack, host, platform):
    arguments = ("train", "house_prices", "--as-of", "2010-01-01", "--trials", "1", "--json")
    began = time.monotonic()
    verdict = json.loads(orrery(host, *arguments).stdout)
    figures["train_seconds"] = round(time.monotonic() - began)
    assert verdict["verdict"] == "promoted"
    platform.wait(lambda: platform.served("house_prices") == str(verdict["version"]))
    served = platform.client.get("/v1/models").json()["models"]
    assert [model["device"] for model in served if model["use_case"] == "house_prices"] == ["cpu"]


def test_replayed_events_are_answered_as_trained_and_counted(stack, host, platform):
    secrets = Path(host.environment["ORRERY_HOME"]) / "secrets"
    secrets.mkdir()
    (secrets / "client.key").write_text(platform.headers["Authorization"].removeprefix("Bearer "))
    orrery(host, "data", "prepare", "fraud")
    before = prometheus('sum(gateway_predictions_total{use_case="fraud", outcome="ok"})')
    window = ("--from", "2018-09-12", "--to", "2018-09-13")
    arguments = ("replay", "fraud", *window, "--rate", "100", "--limit", str(SENT), "--json")
    replayed = json.loads(orrery(host, *arguments).stdout)
    assert (replayed["predictions"], replayed["errors"], replayed["degraded"]) == (SENT, 0, 0)
    figures["replay"] = {name: replayed[name] for name in ("predictions", "errors", "p50_ms", "p99_ms", "rate")}
    compared = json.loads(stack.orrery("parity", "fraud", *window, "--json").stdout)
    assert (compared["rows"], compared["mismatches"]) == (SENT, 0)
    until(lambda: counted(platform, before + SENT), 30)
    traced = json.loads(stack.orrery("lineage", replayed["telling_prediction"], "--json").stdout)
    assert len(traced["model"]["git_commit"]) >= 40
    assert traced["training"]["data_version"]


def test_it_goes_on_after_a_restart_of_gateway_and_store(stack, platform):
    before = platform.served()
    stack.compose("restart", "gateway", "redis")
    platform.wait(lambda: platform.served() == before, 60)
    platform.wait(lambda: not platform.predict().json()["degraded"])


@pytest.mark.parametrize("service", ["postgres", "redis", "mlflow", "prefect", "worker"])
def test_killed_it_comes_back_and_no_client_sees_an_error(stack, platform, service):
    started = stack.containers()[service]["State"]["StartedAt"]
    with platform.load(rate=20) as load:
        platform.wait(lambda: len(load.answered) >= 40)
        stack.kill(service)
        until(lambda: stack.containers()[service]["State"]["StartedAt"] != started, 60)
        figures.setdefault("whole_again_seconds", {})[service] = round(stack.wait_whole(120), 1)
        platform.wait(lambda: not platform.predict().json()["degraded"], 60)
        after = len(load.answered)
        platform.wait(lambda: len(load.answered) >= after + 40)
    assert not load.failed
    degraded = [answer for answer in load.answered if answer["degraded"]]
    figures.setdefault("degraded", {})[service] = f"{len(degraded)} of {len(load.answered)}"
    assert not degraded or service in {"postgres", "redis"}, "these are not on the path of a prediction"
    lost = [each for each in load.answered if not platform.logged(each)]
    assert not lost


def test_after_all_that_events_are_still_answered_as_trained(stack, host):
    """Those of before get their first answers again; the store still knows what it knew."""
    window = ("--from", "2018-09-12", "--to", "2018-09-13")
    arguments = ("replay", "fraud", *window, "--rate", "100", "--limit", str(SENT + 500), "--json")
    replayed = json.loads(orrery(host, *arguments).stdout)
    assert (replayed["errors"], replayed["degraded"]) == (0, 0)
    compared = json.loads(stack.orrery("parity", "fraud", *window, "--json").stdout)
    assert (compared["rows"], compared["mismatches"]) == (SENT + 500, 0)


# --- what is lost and found ------------------------------------------------------------------------


def golden(platform: Platform) -> list[dict[str, Any]]:
    """Ten answers about customers and terminals with a past, to requests that are in no log."""
    bodies = [
        {"transaction_id": 9_700_000 + each, "customer_id": 10 + 40 * each, "terminal_id": 20 + 70 * each,
         "amount": 15.0 + 61 * each, "tx_datetime": f"2018-09-13T{each:02}:30:00Z"}
        for each in range(10)
    ]  # fmt: skip
    kept = ("score", "decision", "reasons", "novelty", "model_version", "feature_status", "degraded")
    answers = [platform.client.post("/v1/fraud/predict", json=body).raise_for_status().json() for body in bodies]
    return [{name: answer[name] for name in kept} for answer in answers]


def test_a_backup_brings_back_the_same_answers(stack, platform, tmp_path):
    folder = tmp_path / "backup"
    kept = platform.predict().json()
    models = json.loads(stack.orrery("models", "fraud", "--json").stdout)
    began = time.monotonic()
    stack.run("infra/docker/backup", str(folder))
    figures["backup"] = {
        "seconds": round(time.monotonic() - began),
        "megabytes": sum(path.stat().st_size for path in folder.iterdir()) // 2**20,
    }
    before = golden(platform)
    stack.compose("down", "--volumes")
    assert not stack.remains()

    began = time.monotonic()
    stack.run("make", "restore", f"FROM={folder}")
    stack.wait_whole(180)
    figures["restore_seconds"] = round(time.monotonic() - began)
    key = stack.orrery("keys", "show").stdout.strip()
    assert key not in platform.headers["Authorization"]
    # the clients' keys are hashes in the database: they still open
    platform.wait(lambda: platform.served() is not None, 60)
    assert golden(platform) == before
    assert not any(answer["degraded"] for answer in before)
    assert json.loads(stack.orrery("models", "fraud", "--json").stdout) == models
    assert platform.logged(kept)
    doctor = json.loads(stack.orrery("doctor", "--json", check=False).stdout)
    assert [each["state"] for each in doctor if each["what"] == "audit log"] == ["ok"]

    refused = stack.run("make", "restore", f"FROM={folder}", check=False)
    assert "there are data already" in refused.stderr


def test_lost_secrets_are_said_and_renewed(stack, platform):
    stack.compose("down")
    stack.run("docker", "volume", "rm", f"{stack.environment['COMPOSE_PROJECT_NAME']}_secrets-gateway")
    assert stack.compose("up", "--detach", check=False).returncode
    assert "data are there, but not gateway/pgpass" in stack.compose("logs", "init").stdout
    stack.run("make", "renew")
    stack.wait_whole(120)
    platform.wait(lambda: not platform.predict().json()["degraded"])


def test_volumes_of_another_version_are_refused_and_upgraded(stack, platform):
    note = {"orrery": "0.0.9", "postgres": json.loads(_note(stack, "cat"))["postgres"]}
    _note(stack, f"rm -f {NOTE}; echo '{json.dumps(note)}' >")
    assert stack.compose("up", "--detach", check=False).returncode
    said = stack.compose("logs", "init").stdout
    assert "written by Orrery 0.0.9" in said
    assert "make upgrade" in said
    _note(stack, f"""rm -f {NOTE}; echo '{json.dumps(note | {"postgres": "9"})}' >""")
    assert stack.compose("up", "--detach", check=False).returncode
    assert "hold PostgreSQL 9" in stack.compose("logs", "init").stdout
    assert not platform.predict().json()["degraded"], "what runs goes on"
    _note(stack, f"rm -f {NOTE}; echo '{json.dumps(note)}' >")
    before = set((ROOT / "backups").glob("*"))
    stack.compose("down")  # as one that was stopped before the new version came
    stack.run("make", "upgrade")
    stack.wait_whole(120)
    for folder in set((ROOT / "backups").glob("*")) - before:
        stack.run("rm", "-r", str(folder))
    assert json.loads(_note(stack, "cat"))["orrery"] != "0.0.9"
    platform.wait(lambda: not platform.predict().json()["degraded"])


NOTE = "/run/orrery/installation.json"


def _note(stack: Stack, command: str) -> str:
    return stack.compose(
        "run", "--rm", "--no-deps", "-T", "--entrypoint", "sh", "init", "-c", f"{command} {NOTE}"
    ).stdout


def test_the_memory_of_all_of_it(stack):
    asked = ["docker", "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}"]
    used = dict(line.split(" / ")[0].split(" ", 1) for line in stack.run(*asked).stdout.splitlines())
    services = {found["Name"].removeprefix("/"): service for service, found in stack.containers().items()}
    mine = {services[name]: _megabytes(text) for name, text in used.items() if name in services}
    figures["memory_megabytes"] = {**mine, "all": round(sum(mine.values()))}
    assert sum(mine.values()) < 4096


def _megabytes(text: str) -> float:
    units = {"GiB": 1024.0, "MiB": 1.0, "KiB": 1 / 1024, "B": 1 / 2**20}
    unit = next(unit for unit in units if text.endswith(unit))
    return round(float(text.removesuffix(unit)) * units[unit], 1)


def test_down_leaves_nothing(stack):
    stack.compose("down", "--volumes")
    assert not stack.remains()
