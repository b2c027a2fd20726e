"""The secret of a use case in this installation: what its pseudonyms and its access log are made with."""

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from orrery.settings import Settings

_FILE = "pseudonyms.key"
_BYTES = 32


def secret_of(settings: Settings, use_case: str) -> bytes:
    """32 bytes, the same at every start; the installation's own secret is made when it is first asked for."""
    return hmac.digest(_installation(settings.secrets_folder / _FILE), use_case.encode(), hashlib.sha256)


def _installation(path: Path) -> bytes:
    """The secret in `path`. Two processes that make it at once agree on one."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o400), "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(fresh, path)
        fresh.unlink()
    return path.read_bytes()
