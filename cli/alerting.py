"""Alertmanager's configuration on this machine, and the token that it shows to the monitor."""

import os
import secrets
from pathlib import Path

from orrery.settings import Settings

SOURCE = Path(__file__).parents[1] / "infra" / "alertmanager" / "alertmanager.yml"
RECEIVER = "orrery"


def write_alertmanager(configured: Settings) -> None:
    """Alertmanager's configuration under home, with the addresses of these settings."""
    import yaml

    written = yaml.safe_load(SOURCE.read_text())
    [receiver] = [each for each in written["receivers"] if each["name"] == RECEIVER]
    for hook in receiver["webhook_configs"]:
        hook["url"] = f"{configured.monitor_url}/alerts"
        hook["http_config"]["authorization"]["credentials_file"] = str(ensure_token(configured))
    target = configured.home / "alertmanager"
    target.mkdir(parents=True, exist_ok=True)
    (target / "alertmanager.yml").write_text(yaml.safe_dump(written, sort_keys=False))


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
