"""`orrery data`, as a person types it."""

import json
from pathlib import Path

import pytest

import usecases
from cli.main import main
from orrery.preparation import current

ROWS = "TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,amount,TX_FRAUD\n" + "\n".join(
    f"2018-04-{day:02}T08:00:00Z,1,2,{day}.50,{int(day == 3)}" for day in range(1, 13)
)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.csv"
    path.write_text(ROWS)
    return path


def run(*words: object) -> None:
    """The command with a home of its own."""
    with pytest.raises(SystemExit) as ended:
        main(["data", *map(str, words)])
    assert ended.value.code == 0


def fails(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line on stderr that ends with status 1."""
    with pytest.raises(SystemExit) as ended:
        main(["data", *map(str, words)])
    assert ended.value.code == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    return shown.err.splitlines()[-1]


def prepared(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, object]:
    run("prepare", "fraud", *words, "--json")
    return json.loads(capsys.readouterr().out)


def of_file(path: Path) -> tuple[object, ...]:
    return ("--source", "file", "--path", path, "--column", "TX_AMOUNT=amount")


def test_prepare_versions_checkout(home, settings, capsys, mine):
    sample = prepared(capsys, "--sample")
    assert sample["rows"] > 80_000
    assert sample["frauds"] > 0
    own = prepared(capsys, *of_file(mine))
    assert (own["rows"], own["frauds"]) == (12, 1)

    run("versions", "fraud", "--json")
    listed = json.loads(capsys.readouterr().out)
    assert [(row["version"], row["source"], row["current"]) for row in listed] == [
        (own["version"], "file", True),
        (sample["version"], "simulator (sample)", False),
    ]
    run("checkout", "fraud", sample["version"][:6], "--json")
    assert json.loads(capsys.readouterr().out)["version"] == sample["version"]
    assert current("fraud", settings).data_version == sample["version"]


def test_a_person_sees_version_rows_and_frauds(home, capsys, mine):
    run("prepare", "fraud", *of_file(mine))
    shown = capsys.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines()] == ["version", "rows", "frauds"]
    assert "read: 100 %" in shown.err
    run("versions", "fraud")
    assert "file" in capsys.readouterr().out


def test_the_same_again_is_not_made_again_unless_asked(home, capsys):
    run("prepare", "fraud", "--sample")
    assert "simulate" in capsys.readouterr().err
    run("prepare", "fraud", "--sample")
    assert "simulate" not in capsys.readouterr().err
    run("prepare", "fraud", "--sample", "--fresh")
    assert "simulate" in capsys.readouterr().err


def test_before_the_first_version_the_list_says_how_to_make_one(home, capsys):
    run("versions", "fraud")
    assert "orrery data prepare fraud" in capsys.readouterr().out
    run("versions", "fraud", "--json")
    assert json.loads(capsys.readouterr().out) == []


def test_bad_rows_are_refused_in_one_line(home, capsys, mine):
    mine.write_text(ROWS.replace("4.50", "-4.50", 1))
    line = fails(capsys, "prepare", "fraud", *of_file(mine))
    assert line.startswith("orrery: row 5, column TX_AMOUNT: '-4.50' is not an amount from 0")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("prepare", "nope"), f"there are: {', '.join(usecases.names())}"),
        (("versions", "nope"), "there is no use case 'nope'"),
        (("checkout", "nope", "abc"), "there is no use case 'nope'"),
        (("checkout", "fraud", "abc"), "has no version 'abc'; there are: none"),
        (("prepare", "fraud", "--source", "web"), "choose from: simulator, file"),
        (("prepare", "fraud", "--source", "file"), "add --path FILE"),
        (("prepare", "fraud", "--source", "file", "--path", "none.csv"), "there is no file"),
        (("prepare", "fraud", "--path", "none.csv"), "add --source file"),
        (("prepare", "fraud", "--column", "amount"), "write OURS=THEIRS"),
        (("prepare", "fraud", "--column", "=amount"), "write OURS=THEIRS"),
    ],
)
def test_mistakes_end_in_one_line_that_says_what_to_do(home, capsys, words, expected):
    assert expected in fails(capsys, *words)
