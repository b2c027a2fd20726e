"""What `make up` looks for first: each lack is said in one line that says what to do."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PREFLIGHT = ROOT / "infra" / "docker" / "preflight"
NEEDED = ("bash", "cat", "df", "tail", "tr", "awk", "grep", "dirname", "env")
DOCKER = """#!/bin/bash
case "$*" in
  info) exit {engine};;
  "info --format {{{{.DockerRootDir}}}}") echo {root};;
  "compose version --short") [[ -n "{compose}" ]] && echo "{compose}";;
  "compose config --quiet") exit 0;;
  "compose ps --services --status running") echo "{running}";;
  "compose config") cat <<'END'
services:
  web:
    ports:
      - mode: ingress
        host_ip: 127.0.0.1
        published: "{port}"
networks:
END
  ;;
esac
"""


@pytest.fixture
def path(tmp_path):
    """A PATH with what the script needs and no docker."""
    for name in NEEDED:
        (tmp_path / name).symlink_to(shutil.which(name))
    return tmp_path


@pytest.fixture
def machine(path):
    """Puts a docker of that kind on the PATH, and looks."""

    def look(**facts):
        known = {"engine": 0, "compose": "2.40.3", "root": "/nowhere", "running": "", "port": 1, **facts}
        (path / "docker").write_text(DOCKER.format(**known))
        (path / "docker").chmod(0o755)
        return look_without(path)

    return look


def look_without(path):
    return subprocess.run([PREFLIGHT], env={"PATH": str(path)}, capture_output=True, text=True, check=False, cwd=ROOT)


def test_a_sound_machine_says_nothing(machine):
    done = machine()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_docker(path):
    began = time.monotonic()
    done = look_without(path)
    assert done.returncode == 1
    assert "no docker on the PATH; install Docker Engine" in done.stderr
    assert "make demo" in done.stderr
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"engine": 1}, "the Docker engine does not answer; start it"),
        ({"compose": ""}, "docker has no Compose v2; install the plugin"),
        ({"compose": "1.29.2"}, "Compose 1.29.2 is too old; install 2.24"),
        ({"compose": "v2.20.0"}, "Compose v2.20.0 is too old; install 2.24"),
    ],
)
def test_what_docker_lacks(machine, facts, said):
    done = machine(**facts)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("version", ["2.24.0", "v2.31.1", "2.100.0", "3.0.0", "v5.1.2", "10.0.1"])
def test_versions_that_will_do(machine, version):
    assert machine(compose=version).returncode == 0


def test_too_little_disk(machine, path, tmp_path):
    (path / "df").unlink()
    (path / "df").write_text("#!/bin/bash\necho ' Avail'\necho '   3G'\n")
    (path / "df").chmod(0o755)
    done = machine(root=tmp_path)
    assert done.returncode == 1
    assert "3 GB of disk are free" in done.stderr
    assert "need 15 GB" in done.stderr


def test_a_port_in_use_names_the_service_and_the_variable(machine):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = machine(port=port)
        assert done.returncode == 1
        assert f"port {port} is in use, and web wants it" in done.stderr
        assert "ORRERY_WEB__PORT" in done.stderr
        assert machine(port=port, running="web").returncode == 0, "it is its own"


def test_the_scripts_can_be_run():
    for name in ("answers", "backup", "preflight", "restore"):
        assert os.access(ROOT / "infra" / "docker" / name, os.X_OK)


@pytest.mark.parametrize("folder", ["", "nowhere"])
def test_what_is_no_backup_is_not_restored(folder, machine, path):
    machine()
    done = subprocess.run(
        [ROOT / "infra" / "docker" / "restore", folder],
        env={"PATH": str(path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "is not a backup; make restore FROM=backups/<moment>" in done.stderr
