"""Alertmanager's configuration on this machine, and the token that it shows to the monitor."""

import os
import secrets
from pathlib import Path

from orrery.errors import OrreryError
from orrery.settings import Settings

SOURCE = Path(__file__).parents[1] / "infra" / "alertmanager" / "alertmanager.yml"
PEOPLE, RECEIVER = "ui", "orrery"


class NoPager(OrreryError):
    """The file that should name a webhook for alerts does not."""


def write_alertmanager(configured: Settings) -> None:
    """Alertmanager's configuration under home, with the addresses of these settings."""
    import yaml

    written = yaml.safe_load(SOURCE.read_text())
    [receiver] = [each for each in written["receivers"] if each["name"] == RECEIVER]
    for hook in receiver["webhook_configs"]:
        hook["url"] = f"{configured.monitor_url}/alerts"
        hook["http_config"]["authorization"]["credentials_file"] = str(ensure_token(configured))
    if configured.alertmanager.pager_file:
        [people] = [each for each in written["receivers"] if each["name"] == PEOPLE]
        people["webhook_configs"] = [{"url": _pager(Path(configured.alertmanager.pager_file))}]
    target = configured.home / "alertmanager"
    target.mkdir(parents=True, exist_ok=True)
    file = target / "alertmanager.yml"
    file.touch()
    file.chmod(0o600)  # such a URL lets anybody who knows it write
    file.write_text(yaml.safe_dump(written, sort_keys=False))


def _pager(path: Path) -> str:
    """The URL in the file. Raises NoPager."""
    try:
        url = path.read_text().partition("\n")[0].strip()
    except OSError as error:
        raise NoPager(f"ORRERY_ALERTMANAGER__PAGER_FILE: {error}; write the URL of a webhook into it") from error
    if not url.startswith(("http://", "https://")):
        raise NoPager(f"ORRERY_ALERTMANAGER__PAGER_FILE: {path} holds no URL that begins with http:// or https://")
    return url


def ensure_token(configured: Settings) -> Path:
    """The file of the token, for its owner only; made unless there is one."""
    path = configured.alerts_token
    if path.is_file() and path.read_text().strip():
        return path
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(32))
    fresh.replace(path)
    return path
