"""`orrery keys`: API keys of the gateway, and the one that the command itself uses."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import emit, results, say
from orrery.errors import OrreryError
from orrery.settings import Settings, settings

if TYPE_CHECKING:
    from orrery.adapters.api_keys import ApiKey

app = typer.Typer(help="API keys of the gateway.", no_args_is_help=True)
FIRST = "first"
"""name of the key that `orrery up` makes"""


class NoClientKey(OrreryError):
    """The command has no key to show to the gateway."""


def client_key_path(configured: Settings) -> Path:
    """Where the command's own key lies, readable by its owner only."""
    return configured.secrets_folder / "client.key"


def client_key(configured: Settings) -> str:
    """The key that the command shows to the gateway. Raises NoClientKey."""
    path = client_key_path(configured)
    if not path.is_file():
        raise NoClientKey(f"there is no key at {path}; `orrery up` makes one, or put one of yours there")
    return path.read_text().strip()


def ensure_client_key(configured: Settings) -> str | None:
    """Make the first key, unless the command has a living one. Returns its text only when it is new."""
    from orrery.adapters.api_keys import ALL_SCOPES, open_keys

    keys, path = open_keys(configured), client_key_path(configured)
    living = {f"ork_{key.key_id}_" for key in keys.list() if key.revoked_at is None}
    if path.is_file() and path.read_text().startswith(tuple(living)):
        return None
    text, _ = keys.create(FIRST, ALL_SCOPES)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
    return text


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="who uses it")],
    scope: Annotated[
        list[str] | None, typer.Option(help="predict:*, predict:<use case>, feedback:..., read, admin; may be repeated")
    ] = None,
) -> None:
    """Make a key. Its text is shown this once; only a hash is kept.

    Example: orrery keys create checkout --scope predict:* --scope feedback:*
    """
    from orrery.adapters.api_keys import open_keys

    text, key = open_keys(settings()).create(name, scope or ("predict:*", "feedback:*"))
    say(f"key {key.key_id} of {name}, for {', '.join(sorted(key.scopes))}; it is shown this once:")
    results().print(text, markup=False)


@app.command("list")
def list_keys(as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False) -> None:
    """Every key there is, revoked ones too.

    Example: orrery keys list
    """
    from orrery.adapters.api_keys import open_keys

    emit([_row(key) for key in open_keys(settings()).list()], as_json)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="the eight digits after `ork_`")]) -> None:
    """End a key; gateways refuse it within seconds.

    Example: orrery keys revoke 3f9a01bc
    """
    from orrery.adapters.api_keys import open_keys

    open_keys(settings()).revoke(key_id)
    say(f"key {key_id} is revoked")


@app.command()
def show() -> None:
    """The key that this command uses: for a client of your own on this machine.

    Example: curl -H "Authorization: Bearer $(orrery keys show)" http://127.0.0.1:8000/v1/models
    """
    results().print(client_key(settings()), markup=False)


def _row(key: "ApiKey") -> dict[str, object]:
    return {
        "key": key.key_id,
        "name": key.name,
        "scopes": ", ".join(sorted(key.scopes)),
        "created": f"{key.created_at:%Y-%m-%d %H:%M}",
        "revoked": f"{key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else None,
    }
