"""`orrery experiment off-policy`, as a person types it."""

import json

import numpy as np
import pandas as pd
import pytest

from cli.main import main

COLUMNS = ("--reward", "clicked", "--propensity", "p", "--target", "q")
MODEL = ("--model-logged", "m", "--model-target", "m_q")


@pytest.fixture
def log(tmp_path):
    """900 rows of 300 users: of two actions the log tries each half of the time, the target mostly the better one."""
    draw = np.random.default_rng(5)
    better = np.tile([True, False], 450)
    frame = pd.DataFrame(
        {"user": np.arange(900) // 3, "clicked": draw.binomial(1, np.where(better, 0.6, 0.3)), "p": 0.5}
    )
    frame["q"] = np.where(better, 0.9, 0.1)
    frame["m"], frame["m_q"] = np.where(better, 0.6, 0.3), 0.9 * 0.6 + 0.1 * 0.3
    path = tmp_path / "log.csv"
    frame.to_csv(path, index=False)
    return path


def run(capfd, path, *words, code=0):
    """What the command prints, after this exit status."""
    with pytest.raises(SystemExit) as ended:
        main(["experiment", "off-policy", str(path), *COLUMNS, *map(str, words)])
    shown = capfd.readouterr()
    assert ended.value.code == code, shown.err
    return shown.out if code != 1 else shown.err


def test_a_person_reads_the_verdict(log, capfd):
    shown = run(capfd, log, *MODEL, "--cluster", "user")
    assert "on-policy mean" in shown
    for name in ("IPS", "SNIPS", "DM", "DR"):
        assert f"\n{name} " in shown
    assert "effective sample size" in shown
    assert "should be 1" in shown
    assert "DR says of the target policy, against the one that logged: better: +0.1" in shown
    assert "warning" not in shown


def test_a_machine_reads_all_of_it(log, capfd):
    found = json.loads(run(capfd, log, *MODEL, "--cluster", "user", "--json"))
    assert (found["rows"], found["clusters"], found["unusable"]) == (900, 300, [])
    assert found["estimates"]["dr"]["value"]["value"] == pytest.approx(0.57, abs=0.05)
    assert found["estimates"]["dm"]["value"] == {"value": pytest.approx(0.57), "low": pytest.approx(0.57),
                                                 "high": pytest.approx(0.57)}  # fmt: skip
    assert found["weights"]["mean"]["low"] < 1 < found["weights"]["mean"]["high"]
    plain = json.loads(run(capfd, log, "--json"))["estimates"]
    assert (plain["dm"], plain["dr"]) == (None, None)
    assert plain["snips"]["value"]["value"] == pytest.approx(found["estimates"]["snips"]["value"]["value"])


def test_parquet_says_the_same_as_csv(log, capfd, tmp_path):
    pd.read_csv(log).astype({"clicked": bool}).to_parquet(tmp_path / "log.parquet")
    said = [json.loads(run(capfd, path, *MODEL, "--json")) for path in (log, tmp_path / "log.parquet")]
    assert said[0].pop("file") != said[1].pop("file")
    assert said[0] == said[1]


def test_what_is_unusable_ends_with_status_3(log, capfd, tmp_path):
    path, plot = tmp_path / "short.csv", tmp_path / "plot.png"
    pd.read_csv(log).head(60).to_csv(path, index=False)
    shown = run(capfd, path, "--plot", plot, code=3)
    assert "unusable: the effective sample size is" in shown
    assert "of 60 rows, below 100" in shown
    assert "SNIPS" not in shown
    assert not plot.exists()
    found = json.loads(run(capfd, path, "--json", code=3))
    assert (found["estimates"], found["unusable"][0]["rule"]) == (None, "few effective rows")


def test_without_support_there_are_no_weights_to_show(log, capfd, tmp_path):
    path = tmp_path / "greedy.csv"
    pd.read_csv(log).assign(p=lambda rows: np.where(rows.index == 6, 0, rows.p)).to_csv(path, index=False)
    shown = run(capfd, path, code=3)
    assert "unusable: in 1 rows, the first is row 8, the target policy may do what had no chance" in shown
    assert "effective sample size" not in shown


def test_wrong_propensities_are_warned_of(log, capfd, tmp_path):
    path = tmp_path / "wrong.csv"
    pd.read_csv(log).assign(p=0.8).to_csv(path, index=False)
    shown = run(capfd, path)
    assert "the propensities are wrong" in shown
    assert "the weights put it in doubt" in shown


@pytest.mark.parametrize("words", [(), MODEL])
def test_the_plot_is_a_png(log, capfd, tmp_path, words):
    plot = tmp_path / "new" / "values.png"
    assert json.loads(run(capfd, log, *words, "--plot", plot, "--json"))["plot"] == str(plot)
    assert plot.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert "is not a .png file" in run(capfd, log, "--plot", tmp_path / "values.svg", code=1)


@pytest.mark.parametrize(
    ("changed", "words", "says"),
    [
        ({"p": 1.5}, (), "propensity is 1.5 in row 3; what was done had a probability in (0, 1]"),
        ({"p": -1}, (), "propensity is -1 in row 3"),
        ({"q": 2}, (), "target is 2 in row 3; a probability lies in [0, 1]"),
        ({"clicked": ""}, (), "reward is nan in row 3, the first of 1 rows"),
        ({"clicked": "yes"}, (), "clicked is not numeric: row 3 has 'yes'"),
        ({"m": ""}, MODEL, "model_logged is nan in row 3"),
        ({"user": ""}, ("--cluster", "user"), "user is missing in 1 rows, the first is row 3"),
        ({}, MODEL[:2], "give both, or neither"),
        ({}, ("--cluster", "usr"), "has no column usr; the nearest is user"),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_row(log, capfd, changed, words, says):
    frame = pd.read_csv(log).astype(object)
    for name, value in changed.items():
        frame.loc[1, name] = value
    frame.to_csv(log, index=False)
    line = run(capfd, log, *words, code=1)
    assert says in line
    assert line.count("\n") == 1
