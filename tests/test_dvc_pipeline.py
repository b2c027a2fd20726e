"""dvc.yaml: DVC accepts it, its files are there, and its commands are ones that `orrery` knows."""

import shlex
from pathlib import Path

import pytest
import yaml

from cli.main import main

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def test_dvc_accepts_the_file():
    from dvc.schema import COMPILED_MULTI_STAGE_SCHEMA

    COMPILED_MULTI_STAGE_SCHEMA(yaml.safe_load((ROOT / "dvc.yaml").read_text()))


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_depends_on_is_there(stage):
    assert all((ROOT / path).is_file() for path in STAGES[stage]["deps"])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_a_command_there_is(stage, capsys):
    words = shlex.split(STAGES[stage]["cmd"])
    asked = words[words.index("orrery") + 1 : words.index(">")]
    with pytest.raises(SystemExit) as ended:
        main([*asked, "--help"])
    assert ended.value.code == 0
    assert "Example: orrery data" in capsys.readouterr().out
