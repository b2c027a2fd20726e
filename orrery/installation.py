"""What a platform in containers has before its first service starts: secrets, and a note of what wrote its volumes.

`python -m orrery.installation` is the one-shot `init` of docker-compose.yml. It prints no secret and needs no rights.
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from orrery.adapters.redis_acl import users
from orrery.errors import OrreryError

DATABASES = ("feast", "mlflow", "orrery", "prefect")
"""each with a user of the same name, who reaches nothing else"""
EXPORTER = "exporter"
"""the user of Postgres and of Redis who reads how they are, and no data"""
SERVICES: Mapping[str, tuple[str, ...]] = {
    "gateway": ("orrery",),
    "mlflow": ("mlflow",),
    "monitor": ("orrery",),
    "prefect": ("prefect",),
    "worker": ("feast", "orrery"),
}
"""service -> the databases whose passwords it holds"""
REDIS_USERS: Mapping[str, str] = {"gateway": "gateway", "redis-exporter": EXPORTER, "worker": "worker"}
"""service -> its user of Redis"""
STORE = "redis://redis:6379"
"""the key in the file that the exporter of Redis takes its password from"""
ALERTS: Mapping[str, int] = {"alertmanager": 0o444, "monitor": 0o400}
"""who shares the token of alerts -> the mode of its file; Alertmanager's image runs as a user of its own"""
MEMORY_BYTES, DISK_BYTES = 6 * 2**30, 10 * 2**30
"""what a training beside all services takes; what data, models and logs of some weeks take"""
_ITERATIONS = 4096
_ROLE = """\
SELECT 'CREATE ROLE {name} LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}')\\gexec
ALTER ROLE {name} PASSWORD '{verifier}';
SELECT 'CREATE DATABASE {name} OWNER {name} ENCODING ''UTF8'' LOCALE ''C.UTF-8'' TEMPLATE template0'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{name}')\\gexec
REVOKE ALL ON DATABASE {name} FROM PUBLIC;
"""
_WATCHER = """\
SELECT 'CREATE ROLE {name} LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}')\\gexec
ALTER ROLE {name} CONNECTION LIMIT 3 PASSWORD '{verifier}';
GRANT pg_monitor TO {name};
"""


class SecretsLost(OrreryError):
    """Data are there that were written with secrets which are not."""


class OtherVersion(OrreryError):
    """The volumes were written by another version."""


class TooSmall(OrreryError):
    """The machine lacks memory or disk."""


@dataclass(frozen=True)
class Volumes:
    """Where `init` sees the volumes."""

    secrets: Path = Path("/secrets")
    """a folder a service, each a volume that only this service mounts"""
    public: Path = Path("/run/orrery")
    """what Postgres and Redis must know: no password, only what one is checked with"""
    postgres: Path = Path("/volumes/postgres")
    """read-only: whether there are data"""

    @property
    def note(self) -> Path:
        return self.public / "installation.json"

    def secret_files(self) -> list[Path]:
        """Every file that holds a secret."""
        shared = {"pgpass": SERVICES, "redis": REDIS_USERS, "alerts": ALERTS}
        files = [self.secrets / service / name for name, services in shared.items() for service in services]
        return [*files, self.secrets / "grafana" / "admin", self.secrets / "postgres-exporter" / "postgres"]

    @property
    def hold_data(self) -> bool:
        """A first start that was cut off before Postgres was ready has nothing to lose."""
        return (self.postgres / "initialized").exists()


def prepare(volumes: Volumes, here: Mapping[str, str]) -> str:
    """Make what is missing; returns what was done. `here`: component -> version, as it would run now.

    Raises SecretsLost or OtherVersion before anything is written.
    """
    if volumes.note.exists():
        _refuse_other(json.loads(volumes.note.read_text()), here)
    missing = [path for path in volumes.secret_files() if not path.exists()]
    if not missing and volumes.note.exists():
        return f"the installation of Orrery {here['orrery']} is complete"
    if volumes.hold_data:
        lost = ", ".join(f"{path.parent.name}/{path.name}" for path in missing) or volumes.note.name
        raise SecretsLost(
            f"data are there, but not {lost}; `make renew` makes new secrets for the data that are there, "
            "`docker compose down --volumes` deletes the data"
        )
    renew(volumes, here)
    return f"secrets made for Orrery {here['orrery']}"


def renew(volumes: Volumes, here: Mapping[str, str]) -> None:
    """New secrets for every service, and what Postgres and Redis check them with; the note comes last."""
    passwords = {name: secrets.token_urlsafe(32) for name in (*DATABASES, EXPORTER)}
    for service, names in SERVICES.items():
        lines = [f"*:*:{name}:{name}:{passwords[name]}\n" for name in names]
        _write(volumes.secrets / service / "pgpass", "".join(lines), 0o400)
    _write(volumes.secrets / "postgres-exporter" / "postgres", passwords[EXPORTER], 0o400)
    store = {user: secrets.token_urlsafe(32) for user in REDIS_USERS.values()}
    for service, user in REDIS_USERS.items():
        text = json.dumps({STORE: store[user]}) if user == EXPORTER else store[user]
        _write(volumes.secrets / service / "redis", text, 0o400)
    token = secrets.token_urlsafe(32)
    for service, mode in ALERTS.items():
        _write(volumes.secrets / service / "alerts", token, mode)
    _write(volumes.secrets / "grafana" / "admin", secrets.token_urlsafe(24), 0o400)
    _write(volumes.public / "roles.sql", roles(passwords), 0o444)
    _write(volumes.public / "users.acl", users(**store), 0o444)
    _write(volumes.note, json.dumps(dict(here), indent=1), 0o444)


def upgrade(volumes: Volumes, here: Mapping[str, str]) -> None:
    """Take over volumes of an older Orrery: services migrate their own databases. Raises OtherVersion for Postgres."""
    if not volumes.note.exists():
        raise OtherVersion("there is no installation to upgrade; `make up` makes one")
    known = json.loads(volumes.note.read_text())
    _refuse_other({**known, "orrery": here["orrery"]}, here)
    _write(volumes.note, json.dumps(dict(here), indent=1), 0o444)


def _refuse_other(known: Mapping[str, str], here: Mapping[str, str]) -> None:
    if known["postgres"] != here["postgres"]:
        raise OtherVersion(
            f"the volumes hold PostgreSQL {known['postgres']}, this is {here['postgres']}: with the image they were "
            "written by `make backup`, then `docker compose down --volumes` and, with this one, `make restore`"
        )
    if known["orrery"] != here["orrery"]:
        raise OtherVersion(
            f"the volumes were written by Orrery {known['orrery']}, this is {here['orrery']}; `make upgrade` takes a "
            "backup and then brings them up to this version"
        )


def roles(passwords: Mapping[str, str]) -> str:
    """SQL that makes each user and its database, or gives the user a new password; it holds no password."""
    return "".join(
        (_WATCHER if name == EXPORTER else _ROLE).format(name=name, verifier=verifier(password))
        for name, password in passwords.items()
    )


def verifier(password: str, salt: bytes | None = None) -> str:
    """What PostgreSQL keeps of a password (SCRAM-SHA-256, RFC 5803): it checks one and is none."""
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    shown = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return "SCRAM-SHA-256${}:{}${}:{}".format(_ITERATIONS, *shown)


def _write(path: Path, text: str, mode: int) -> None:
    """The old content or the new one, never a part, and never readable by more than it says."""
    scratch = path.with_name(f".{path.name}")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.chmod(mode)  # whatever the umask
    scratch.replace(path)


def check_room(memory: int, disk: int) -> None:
    """Raises TooSmall, saying how much is needed. Bytes."""
    for what, there, needed in (("memory", memory, MEMORY_BYTES), ("disk", disk, DISK_BYTES)):
        if there < needed:
            raise TooSmall(
                f"{there / 2**30:.1f} GB of {what} here, and the platform needs {needed / 2**30:.0f} GB: "
                "give Docker more"
            )


def _memory() -> int:
    found = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.M)
    return int(found[1]) * 1024 if found else 0


def major(image: str) -> str:
    """PostgreSQL's major version by an image's name, such as postgres:17.6-bookworm; its data fit that one only."""
    found = re.search(r":\D*(\d+)[^/]*$", image)
    return found[1] if found else "unknown"


def main(arguments: Iterable[str] | None = None, volumes: Volumes = Volumes()) -> int:
    """`prepare` by default; `renew` and `upgrade` when a person asks for it."""
    parser = argparse.ArgumentParser(prog="init", description=__doc__)
    parser.add_argument("verb", nargs="?", choices=("prepare", "renew", "upgrade"), default="prepare")
    parser.add_argument("--postgres-image", required=True)
    asked = parser.parse_args(None if arguments is None else list(arguments))
    here = {"orrery": version("orrery"), "postgres": major(asked.postgres_image)}
    try:
        if asked.verb == "prepare":
            check_room(_memory(), shutil.disk_usage(volumes.public).free)
            said = prepare(volumes, here)
        else:
            {"renew": renew, "upgrade": upgrade}[asked.verb](volumes, here)
            said = f"{asked.verb}: done"
    except OrreryError as error:
        sys.stderr.write(f"init: {error}\n")
        return 1
    sys.stdout.write(f"init: {said}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
