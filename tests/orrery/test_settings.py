"""Settings: one reader, no silent misspelling."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orrery.settings import Settings, SettingsRefused, describe, load, variables

ROOT = Path(__file__).parent.parent.parent


def test_a_misspelt_variable_stops_the_start_with_the_nearest_name(monkeypatch):
    monkeypatch.setenv("ORRERY_GATEWAY__PROT", "9000")
    with pytest.raises(SettingsRefused, match="did you mean ORRERY_GATEWAY__PORT"):
        load()


def test_a_misspelt_name_in_the_env_file_stops_the_start_too(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("ORRERY_MLFLOW__HOTS=elsewhere\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsRefused, match="did you mean ORRERY_MLFLOW__HOST"):
        load()


def test_variables_of_others_are_left_alone(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("COMPOSE_PROJECT_NAME=orrery\nORRERY_LOG_LEVEL=DEBUG\n")
    monkeypatch.chdir(tmp_path)
    assert load().log_level == "DEBUG"


def test_a_bad_value_is_named_with_its_variable(monkeypatch):
    monkeypatch.setenv("ORRERY_GATEWAY__PORT", "eighty")
    with pytest.raises(SettingsRefused, match="ORRERY_GATEWAY__PORT"):
        load()


@given(st.sampled_from([name for name, _, _ in variables()]), st.integers(0, 40))
def test_every_misspelling_is_caught(name, position):
    position = len("ORRERY_") + position % (len(name) - len("ORRERY_"))
    wrong = name[:position] + "X" + name[position + 1 :]
    known = {known for known, _, _ in variables()}
    if wrong not in known:
        with pytest.raises(SettingsRefused):
            load({wrong: "1"})


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Settings().home = Path("elsewhere")


def test_every_variable_is_described():
    assert all(meaning for _, _, meaning in variables())


@pytest.mark.parametrize("kind", ["env", "table"])
def test_the_committed_descriptions_are_generated(kind):
    path = ROOT / (".env.example" if kind == "env" else "docs/settings.md")
    assert path.read_text() == describe(kind), "run: python -m orrery.settings"
