"""Use cases are found, and a broken one stops the start."""

import pytest

import usecases


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """A folder of use cases in which one is broken in the way the test says."""
    (tmp_path / "broken").mkdir()
    monkeypatch.setattr(usecases, "_HERE", tmp_path)
    monkeypatch.setattr(usecases, "__path__", [str(tmp_path)])
    usecases.serving.cache_clear()
    yield tmp_path / "broken" / "serving.py"
    usecases.serving.cache_clear()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nothing_of_that_name", "nothing_of_that_name"),
        ("x = 1", "serving"),
        ("serving = 'not one'", "not a Serving"),
    ],
)
def test_a_broken_use_case_stops_the_start_and_says_where(broken, code, message, monkeypatch):
    broken.write_text(code)
    monkeypatch.delitem(__import__("sys").modules, "usecases.broken.serving", raising=False)
    with pytest.raises(usecases.BrokenUseCase, match=rf"usecases/broken/serving.py.*{message}"):
        usecases.serving("broken")


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(usecases.UnknownUseCase, match="fraud"):
        usecases.serving("fruad")
