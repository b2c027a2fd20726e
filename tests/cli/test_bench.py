"""`orrery bench`: finds what can be run, runs it, and says what failed."""

import pytest

from cli import bench as bench_module
from cli.main import main

RUNS = '"""Measures one thing."""\nimport sys\nif __name__ == "__main__":\n    print(sys.argv[1:])\n'
FAILS = '"""Measures another."""\nif __name__ == "__main__":\n    raise SystemExit(3)\n'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    home = tmp_path / "benchmarks"
    home.mkdir()
    texts = {"__init__": "", "gateway": RUNS, "one_thing": RUNS, "other": FAILS, "part": '"""A part."""\n'}
    for name, text in texts.items():
        (home / f"{name}.py").write_text(text)
    monkeypatch.setattr(bench_module, "ROOT", tmp_path)


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *arguments])
    return ended.value.code


def test_without_a_name_they_are_listed(folder, capfd):
    assert _run() == 0
    assert capfd.readouterr().out.split("\n")[:3] == [
        "gateway          Measures one thing.",
        "one-thing        Measures one thing.",
        "other            Measures another.",
    ]


def test_one_is_run_with_its_flag(folder, capfd):
    assert _run("one-thing", "--json") == 0
    assert "['--json']" in capfd.readouterr().out


def test_the_gateway_is_measured_with_a_use_case(folder, capfd):
    assert _run("gateway", "--use-case", "other") == 0
    assert "['--use-case', 'other']" in capfd.readouterr().out
    assert _run("one-thing", "--use-case", "other") == 2


def test_all_go_on_after_a_failure_and_say_which(folder, capfd):
    assert _run("all") == 1
    said = capfd.readouterr()
    assert "[]" in said.out
    assert "failed: other" in said.err


def test_an_unknown_name(folder, capfd):
    assert _run("nothing") == 1
    assert "there are: gateway, one-thing, other" in capfd.readouterr().err
