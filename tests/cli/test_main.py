"""The command: quick to list its verbs, one line for an error, a word for a typo."""

import subprocess
import sys
from importlib import import_module

import pytest
import typer

from cli.main import VERBS, main
from orrery.errors import OrreryError

HEAVY = {"pandas", "mlflow", "feast", "prefect", "torch", "sklearn", "numpy", "httpx", "pydantic", "sqlalchemy"}


def test_help_lists_every_verb_and_imports_nothing_heavy():
    listing = """
import sys, cli.main
try:
    cli.main.main(["--help"])
finally:
    print(*sys.modules, sep="\\n", file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=False)

    assert done.returncode == 0
    assert all(f" {name} " in done.stdout for name in VERBS)
    assert not HEAVY & set(done.stderr.split())


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_is_there_and_its_help_has_an_example(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])

    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "Example" in shown or "COMMAND" in shown


def test_an_error_is_one_line_and_exit_1(monkeypatch, capfd):
    def broken() -> None:
        raise OrreryError("the moon is down; put it up")

    monkeypatch.setattr(import_module("cli.platform"), "down", broken)
    with pytest.raises(SystemExit) as ended:
        main(["down"])

    assert ended.value.code == 1
    assert capfd.readouterr().err == "orrery: the moon is down; put it up\n"


def test_wrong_usage_is_exit_2_and_names_what_was_meant(capfd):
    with pytest.raises(SystemExit) as ended:
        main(["statsu"])

    assert ended.value.code == 2
    assert "'status'" in capfd.readouterr().err


def test_version(capfd):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert ended.value.code == 0
    assert capfd.readouterr().out.startswith("orrery ")


def test_groups_keep_their_own_examples():
    for name, verb in VERBS.items():
        target = getattr(import_module(verb.module), verb.attribute)
        commands = target.registered_commands if isinstance(target, typer.Typer) else []
        for command in commands:
            assert f"orrery {name}" in (command.callback.__doc__ or ""), f"orrery {name} {command.name}: no example"
