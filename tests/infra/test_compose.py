"""The compose file: it agrees with the settings and with what the local runner starts, and is as hard as it says."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.services import here
from orrery.installation import DATABASES, EXPORTER, STORE, Volumes
from orrery.settings import variables

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
TEXT = FILE.read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
HBA = (ROOT / "infra" / "postgres" / "pg_hba.conf").read_text()
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
LOCK = dict(
    line.split()[:2] for line in (ROOT / "infra" / "docker" / "images.lock").read_text().splitlines()
    if line.strip() and not line.startswith("#")
)  # fmt: skip


def test_it_stays_small():
    assert len(TEXT.splitlines()) < 250


def test_every_setting_it_names_exists():
    known = {name for name, _, _ in variables()}
    assert set(re.findall(r"\bORRERY_[A-Z_]+", TEXT)) <= known
    for script in (ROOT / "infra" / "docker").iterdir():
        if script.is_file() and script.name != "preflight":  # it makes a name of a service's
            assert set(re.findall(r"\bORRERY_[A-Z_]+", script.read_text())) <= known, script


def test_it_runs_what_the_local_runner_runs(settings):
    for service in here(settings):
        if service.name in {"prometheus", "alertmanager"}:
            continue  # images of their own
        given = [str(part) for part in SERVICES[service.name]["command"]]
        known = {sys.executable: "python", settings.mlflow.host: "0.0.0.0"}
        local = [known.get(part, part) for part in service.command]
        local = [part.replace(str(settings.home / "mlflow"), "/var/lib/orrery") for part in local]
        assert given[: len(local)] == local, service.name
        assert set(given[len(local) :]) <= {"--with-healthcheck"}, service.name


@pytest.mark.parametrize("files", [[], ["infra/compose.gpu.yml"]], ids=["cpu", "gpu"])
def test_compose_accepts_it(files):
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker compose here")
    chosen = [word for file in ["docker-compose.yml", *files] for word in ("-f", file)]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    done = subprocess.run(
        ["docker", "compose", *chosen, "config", "--quiet"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_the_gpu_file_speaks_of_services_that_exist():
    gpu = yaml.safe_load((ROOT / "infra" / "compose.gpu.yml").read_text())["services"]
    assert set(gpu) == {"worker", "torchserve"}
    for name, service in gpu.items():
        assert service["build"]["args"] == {"TORCH": "gpu"}
        assert "TORCH" in SERVICES[name]["build"]["args"]
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["restart"] == ("no" if name in {"init", "migrate", "bootstrap"} else "unless-stopped")
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert "healthcheck" in service or service["restart"] == "no"
    if service.get("ports"):
        assert "edge" in service["networks"]
    else:
        assert "edge" not in service.get("networks", [])


def test_what_holds_data_is_on_no_network_with_a_way_out():
    assert [name for name, network in COMPOSE["networks"].items() if not network.get("internal")] == ["edge"]
    for name in ("postgres", "redis", "torchserve", "worker"):
        assert "edge" not in SERVICES[name]["networks"]


def test_only_the_worker_reaches_where_torchserve_takes_models():
    server = SERVICES["torchserve"]
    name = server["environment"]["ORRERY_TORCHSERVE__MANAGEMENT_HOST"]
    assert server["networks"] == {"models": {}, "models-management": {"aliases": [name]}}
    on_it = {each for each, service in SERVICES.items() if "models-management" in service.get("networks", [])}
    assert on_it == {"torchserve", "worker", "bootstrap"}
    assert COMPOSE["x-orrery"]["ORRERY_TORCHSERVE__MANAGEMENT_URL"] == f"http://{name}:7081"
    mounted = {each: volume for each, s in SERVICES.items() for volume in s.get("volumes", []) if "models:" in volume}
    assert mounted == {"torchserve": "models:/models:ro", "worker": "models:/models", "bootstrap": "models:/models"}


def test_each_secret_is_mounted_by_its_service_only_and_after_it_was_made():
    made = set()
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            if volume.startswith("secrets-"):
                owner, _, place = volume.removeprefix("secrets-").partition(":")
                made |= {owner} if name == "init" else set()
                assert place == (f"/secrets/{owner}" if name == "init" else "/run/secrets:ro"), name
    assert made == {path.parent.name for path in Volumes().secret_files()}
    assert {f"secrets-{name}" for name in made} <= set(COMPOSE["volumes"])
    for name in ("alertmanager", "grafana", "monitor"):
        assert f"secrets-{name}:/run/secrets:ro" in SERVICES[name]["volumes"]
        assert SERVICES[name]["depends_on"]["init"] == {"condition": "service_completed_successfully"}


def test_alertmanager_reaches_the_monitor_with_the_token_that_both_hold():
    receivers = yaml.safe_load((ROOT / "infra" / "alertmanager" / "alertmanager.yml").read_text())["receivers"]
    [hook] = next(each for each in receivers if each["name"] == "orrery")["webhook_configs"]
    assert hook["url"] == f"{COMPOSE['x-orrery']['ORRERY_MONITOR__URL']}/alerts"
    assert hook["http_config"]["authorization"]["credentials_file"] == "/run/secrets/alerts"
    assert SERVICES["monitor"]["environment"]["ORRERY_MONITOR__TOKEN_FILE"] == "/run/secrets/alerts"
    assert {"control", "data"} == set(SERVICES["monitor"]["networks"])
    assert "control" in SERVICES["alertmanager"]["networks"]


def test_exporters_reach_what_they_watch_with_a_user_of_their_own_and_nothing_that_is_published():
    watched = {"redis-exporter": "redis", "postgres-exporter": "postgres", "host-exporter": None}
    jobs = yaml.safe_load((ROOT / "infra" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    scraped = {job["static_configs"][0]["targets"][0].partition(":")[0] for job in jobs}
    assert set(watched) <= scraped
    for name, of in watched.items():
        networks = set(SERVICES[name]["networks"])
        assert networks == ({"control", "data"} if of else {"control"})
        assert of is None or networks & set(SERVICES[of]["networks"])
        assert not SERVICES[name].get("ports")
    assert SERVICES["host-exporter"]["volumes"] == ["public:/disk:ro"], "it sees neither the host's files nor a secret"
    addresses = SERVICES["redis-exporter"]["command"]
    assert addresses[addresses.index("--redis.addr") + 1] == STORE
    assert addresses[addresses.index("--redis.user") + 1] == EXPORTER
    assert SERVICES["postgres-exporter"]["environment"]["DATA_SOURCE_USER"] == EXPORTER
    assert re.search(rf"^host +postgres +{EXPORTER} +samenet +scram-sha-256$", HBA, re.M)


def test_images_are_pinned_and_their_digests_noted():
    named = {match for service in SERVICES.values() for match in re.findall(r":-([^}]+)}", service["image"])}
    named.add(re.search(r"PYTHON_IMAGE:-([^}]+)}", TEXT)[1])
    assert named
    for image in named:
        assert not image.endswith((":latest", ":main")), image
        assert image in LOCK, f"{image} is not in infra/docker/images.lock"
    for digest in LOCK.values():
        assert digest == "-" or re.fullmatch(r"sha256:[0-9a-f]{64}", digest)


def test_our_images_carry_the_version():
    ours = {service["image"] for service in SERVICES.values() if service["image"].startswith("orrery/")}
    assert {image.split(":")[1] for image in ours} == {VERSION}
    assert COMPOSE["x-build"]["labels"]["org.opencontainers.image.version"] == VERSION


def test_every_database_is_let_in_backed_up_and_restored():
    for name in DATABASES:
        assert re.search(rf"^host +{name} +{name} +samenet +scram-sha-256$", HBA, re.M), name
    for script in ("backup", "restore"):
        text = (ROOT / "infra" / "docker" / script).read_text()
        assert f"for database in {' '.join(DATABASES)}; do" in text, script


def test_no_secret_is_written_in_it():
    for name, service in SERVICES.items():
        for variable in service.get("environment", {}):
            if re.search("PASSWORD|SECRET|TOKEN|KEY", variable):
                assert variable.endswith("_FILE"), f"{name}: {variable}"
