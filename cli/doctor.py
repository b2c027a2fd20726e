"""`orrery doctor`: everything a newcomer can have wrong, and how to mend it."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.audit import check
from cli.console import emit
from cli.services import here
from cli.supervisor import SOCKET_PATH_LIMIT, Supervisor, port_free
from orrery.settings import Settings, SettingsRefused, settings

ROOT = Path(__file__).parents[1]
NOTE = ROOT / "COMMIT"
"""in an image: the commit it was built from"""
DISK_BYTES, MEMORY_BYTES = 5 * 2**30, 4 * 2**30
"""what the data, the models and a training take"""


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    state: Literal["ok", "note", "wrong"]
    """a note stops nothing"""
    found: str
    mend: str = ""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="the findings as JSON")] = False,
) -> None:
    """Find what is wrong with this machine, and how to mend it.

    The exit status is 1 when something stops the platform.

    Example: orrery doctor
    """
    findings = examine()
    emit([asdict(finding) for finding in findings], as_json)
    raise typer.Exit(1 if any(finding.state == "wrong" for finding in findings) else 0)


def examine() -> list[Finding]:
    """Everything looked at; with settings that cannot be read, what does not need them."""
    try:
        configured = settings()
    except SettingsRefused as error:
        wrong = Finding("settings", "wrong", str(error), "correct the variable, in the environment or in .env")
        return [wrong, *(finding for look in MACHINE for finding in look())]
    sound = Finding("settings", "ok", f"environment {configured.environment}")
    return [
        sound,
        *(finding for look in MACHINE for finding in look()),
        *(finding for look in INSTALLATION for finding in look(configured)),
    ]


def python() -> Iterator[Finding]:
    """The interpreter the locks were made for."""
    found = ".".join(map(str, sys.version_info[:3]))
    yield _finding("Python", sys.version_info[:2] == (3, 11), found, "install Python 3.11, then `make setup`")


def dependencies() -> Iterator[Finding]:
    """What is installed against the lock it was installed from."""
    role, kind = "trainer" if NOTE.is_file() else "dev", "gpu" if "+cu" in _version("torch") else "cpu"
    lock = ROOT / "requirements" / f"{role}-{kind}.txt"
    wanted = dict(re.findall(r"^([A-Za-z0-9_.\-]+)==([^\s;]+)", lock.read_text(), re.MULTILINE))
    wrong = [name for name, version in wanted.items() if _version(name).partition("+")[0] != version.partition("+")[0]]
    found = f"{len(wanted)} packages as locked" if not wrong else f"not as locked: {', '.join(wrong[:5])}"
    yield _finding("dependencies", not wrong, found, "`make setup` installs the lock")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def room(configured: Settings) -> Iterator[Finding]:
    """Disk and memory."""
    import psutil

    place = next(path for path in (configured.home.absolute(), *configured.home.absolute().parents) if path.exists())
    free, memory = shutil.disk_usage(place).free, psutil.virtual_memory().available
    yield _finding("disk", free >= DISK_BYTES, _gigabytes(free), "free 5 GB, or point ORRERY_HOME to another disk")
    yield _finding("memory", memory >= MEMORY_BYTES, _gigabytes(memory), "close something: training takes 4 GB", "note")


def _gigabytes(count: int) -> str:
    return f"{count / 2**30:.1f} GB free"


def home(configured: Settings) -> Iterator[Finding]:
    """The folder everything is written to."""
    folder = configured.home.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield Finding("home", "wrong", f"{folder}: {error.strerror}", "set ORRERY_HOME to a folder you may write to")
        return
    short = len(str(Supervisor(folder).socket)) <= SOCKET_PATH_LIMIT
    yield _finding("home", short, str(folder), "its path is too long for a socket: set a shorter ORRERY_HOME")


def platform(configured: Settings) -> Iterator[Finding]:
    """The process manager, and the ports of what it runs; nothing where the platform runs elsewhere."""
    if not configured.embedded:
        return
    manager = Supervisor(configured.home)
    if manager.alive():
        down = [state.name for state in manager.states().values() if not state.up]
        found = f"runs; down: {', '.join(down)}" if down else "runs"
        yield _finding("platform", not down, found, f"see {manager.log.parent}, then `orrery up`")
        return
    stale = manager.pidfile.exists() or manager.socket.exists()
    yield _finding(
        "platform", not stale, "left by a killed run" if stale else "not running", "`orrery up` heals it", "note"
    )
    for service in here(configured):
        if service.port:
            free = port_free(service.host, service.port)
            mend = f"stop what listens there, or set {service.setting}"
            yield _finding(f"port {service.port}", free, f"{'free' if free else 'in use'}, for {service.name}", mend)


def tools() -> Iterator[Finding]:
    """Programs beside Python; an image has all it needs."""
    if NOTE.is_file():
        return
    for name, state, why in (
        ("git", "wrong", "install git: a model knows the commit it was trained by"),
        ("prometheus", "note", "optional: without it there are no graphs of the metrics"),
        ("docker", "note", "optional: only for the containers"),
    ):
        path = shutil.which(name)
        yield _finding(name, path is not None, path or "not on the PATH", why, "wrong" if state == "wrong" else "note")


def repository() -> Iterator[Finding]:
    """The checkout, and whether it is the one that is installed."""
    if NOTE.is_file():
        yield Finding("commit", "ok", f"{NOTE.read_text().strip()[:12]}, in an image")
        return
    git = shutil.which("git") or "git"
    asked = [git, "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False) if shutil.which("git") else None  # noqa: S603
    known = done is not None and done.returncode == 0
    found = done.stdout.strip() if done is not None and known else "no commit"
    yield _finding("commit", known, found, "clone the repository, or set ORRERY_BUILD to the commit")


def clock() -> Iterator[Finding]:
    """A clock that is plainly wrong breaks schedules, certificates and label times."""
    released = (ROOT / "requirements").stat().st_mtime
    sane = time.time() >= released - 86_400
    zone = time.strftime("%Y-%m-%d %H:%M %Z")
    yield _finding("clock", sane, zone, "set the clock: files of this checkout are from the future")


def audit(configured: Settings) -> Iterator[Finding]:
    """The records of who changed, and who looked at, what."""
    logs = list(check(configured))
    broken = [row for row in logs if row["problem"]]
    for row in broken:
        yield Finding("audit log", "wrong", row["problem"], f"keep {row['log']} as evidence, and move it away")
    if not broken:
        yield Finding("audit log", "ok", f"{sum(row['records'] for row in logs)} records")


MACHINE: tuple[Callable[[], Iterator[Finding]], ...] = (python, dependencies, tools, repository, clock)
INSTALLATION: tuple[Callable[[Settings], Iterator[Finding]], ...] = (room, home, platform, audit)


def _finding(what: str, good: bool, found: str, mend: str, otherwise: Literal["note", "wrong"] = "wrong") -> Finding:
    return Finding(what, "ok", found) if good else Finding(what, otherwise, found, mend)
