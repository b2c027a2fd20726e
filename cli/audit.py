"""`orrery audit`: whether the records of who did what are whole, and what they say."""

import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import emit
from orrery.settings import Settings, settings

app = typer.Typer(help="The records of who did what.", no_args_is_help=True)
ACCESS = "access.jsonl"
"""a use case's own audit log, in its folder under home"""


@app.command()
def verify(as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False) -> None:
    """Check every audit log: exit status 1 names the first record that was edited, removed or cut off.

    Keep the printed `records` and `head` elsewhere: they tell even of a whole log put back to an older copy of it.

    Example: orrery audit verify
    """
    from orrery.adapters.audit_log import AuditBroken

    checked = list(check(settings()))
    emit(checked or "nothing was recorded yet", as_json)
    if broken := [row["problem"] for row in checked if row["problem"]]:
        raise AuditBroken("; ".join(broken))


@app.command()
def show(
    last: Annotated[int, typer.Option(min=1, help="so many records of each log")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """The latest records, oldest first. Pseudonyms only; `verify` says whether they are true.

    Example: orrery audit show --last 5
    """
    from orrery.adapters.audit_log import Lines

    found = [json.loads(line) for path in logs(settings()) for line in deque(Lines(path), maxlen=last)]
    columns = ("at", "actor", "action", "subject", "details")
    rows = [{name: record.get(name) for name in columns} for record in found]
    emit(sorted(rows, key=lambda row: str(row["at"])) or "nothing was recorded yet", as_json)


def logs(configured: Settings) -> list[Path]:
    """Where records lie, or did: the installation's own log, and those of use cases."""
    home = configured.home.absolute()
    known = {path.with_name(ACCESS) for path in home.glob(f"*/{ACCESS}*")}
    return [home / "audit.jsonl", *sorted(known)]


def check(configured: Settings) -> Iterator[dict[str, Any]]:
    """A row for each log: how many records, the last one's hash, and what is wrong with it, if anything is."""
    from orrery.adapters.access_log import verify as verify_access
    from orrery.adapters.audit_log import AuditBroken, AuditLog
    from orrery.adapters.use_case_secret import secret_of

    for path in logs(configured):
        row: dict[str, Any] = {"log": str(path), "records": None, "head": None, "torn_bytes": None, "problem": None}
        try:
            if path.name == ACCESS:
                chain = verify_access(path, secret_of(configured, path.parent.name))
            else:
                chain = AuditLog(configured).verify()
            row |= {"records": chain.records, "head": chain.head, "torn_bytes": len(chain.torn)}
        except AuditBroken as error:
            row["problem"] = str(error)
        yield row
