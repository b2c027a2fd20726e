"""`orrery experiment analyze`, as a person types it."""

import json

import numpy as np
import pandas as pd
import pytest

from cli.main import main


@pytest.fixture
def units(tmp_path):
    """600 units: treatment spends 11 where control spends 10, and clicks no more often."""
    draw = np.random.default_rng(4)
    treated, older = np.tile([False, True], 300), draw.normal(size=600)
    spent = 10 + treated + 2 * older + draw.normal(size=600)
    frame = pd.DataFrame({"variant": np.where(treated, "treatment", "control"), "spent": spent, "older": older})
    frame["clicked"] = np.tile([0, 0, 1, 1], 150)
    path = tmp_path / "units.csv"
    frame.to_csv(path, index=False)
    return path


def run(capfd, path, *words, code=0, metric="spent"):
    """What the command prints, after this exit status."""
    with pytest.raises(SystemExit) as ended:
        main(["experiment", "analyze", str(path), "--variant", "variant", "--metric", metric, *map(str, words)])
    shown = capfd.readouterr()
    assert ended.value.code == code, shown.err
    return shown.out


def refused(capfd, path, *words, metric="spent"):
    """The one line on stderr, with nothing on stdout."""
    with pytest.raises(SystemExit) as ended:
        main(["experiment", "analyze", str(path), "--variant", "variant", "--metric", metric, *map(str, words)])
    shown = capfd.readouterr()
    assert (ended.value.code, shown.out) == (1, "")
    (line,) = shown.err.splitlines()
    return line


def written(tmp_path, *rows, header="variant,spent"):
    path = tmp_path / "mine.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_person_reads_the_verdict(units, capfd):
    shown = run(capfd, units, "--metric", "clicked")
    assert "Sample ratio: chi-square 0, p 1" in shown
    assert "treatment is better: +" in shown
    assert "no difference seen; this test would have seen" in shown
    assert "two-proportion z" in shown
    assert "1 of 2 comparisons show a difference" in shown


def test_a_machine_reads_all_of_it(units, capfd):
    found = json.loads(run(capfd, units, "--metric", "clicked", "--covariate", "older", "--json"))
    assert found["split"]["rows"] == {"control": 300, "treatment": 300}
    assert not found["split"]["mismatch"]
    spent, clicked = found["comparisons"]
    assert spent["significant"]
    assert spent["outcome"]["lift"]["low"] < 1 < spent["outcome"]["lift"]["high"]
    assert spent["cuped"]["reduction"] == pytest.approx(0.75, abs=0.08), "of a variance of about 5, 4 is older's"
    assert spent["raw"]["needed"] > spent["outcome"]["needed"]
    assert not clicked["cuped"]["useful"]
    assert clicked["outcome"]["relative"] is not None


def test_a_useless_covariate_is_said_to_be_useless(units, capfd):
    shown = run(capfd, units, "--metric", "clicked", "--covariate", "older")
    assert "no useful reduction" in shown
    assert "variance -" in shown


def test_a_peek_says_its_mixture_and_source(units, capfd):
    shown = run(capfd, units, "--peek")
    assert "at any look (mSPRT; Johari et al. 2017)" in shown
    assert "tau" in shown
    (one,) = json.loads(run(capfd, units, "--peek", "--json"))["comparisons"]
    assert one["outcome"]["method"] == "mSPRT"
    assert one["outcome"]["tau"] == pytest.approx(0.22, abs=0.03), "0.1 standard deviations"


def test_parquet_says_the_same_as_csv(units, capfd, tmp_path):
    frame = pd.read_csv(units).astype({"clicked": bool})
    frame.to_parquet(tmp_path / "units.parquet")
    said = [
        json.loads(run(capfd, path, "--metric", "clicked", "--json")) for path in (units, tmp_path / "units.parquet")
    ]
    assert said[0].pop("file") != said[1].pop("file")
    assert said[0] == said[1]


def test_true_and_false_are_numbers_and_a_byte_order_mark_is_none(capfd, tmp_path):
    path = written(tmp_path, *["a,True", "a,False", "b,true", "b,FALSE", ""] * 10, header="\ufeffvariant,spent")
    path.write_text(path.read_text().replace("\n\n", "\n") + "\n\n")
    (one,) = json.loads(run(capfd, path, "--json"))["comparisons"]
    assert (one["outcome"]["method"], one["control_mean"]) == ("two-proportion z", 0.5)


def test_what_a_missing_value_means_is_said(capfd, tmp_path):
    """Nothing at once; 0 makes means of (1 + 2 + 0) / 3 and (3 + 5 + 7) / 3; leaving out has 1.5 and 5."""
    rows = ["a,1", "a,2", "a,", "b,3", "b,5", "b,7"] * 20
    assert "20 missing or infinite values, the first in row 4" in refused(capfd, written(tmp_path, *rows))
    found = json.loads(run(capfd, written(tmp_path, *rows), "--missing", "zero", "--json"))
    assert (found["comparisons"][0]["control_mean"], found["left_out"]) == (1, {})
    rows += ["b,inf"] * 20
    found = json.loads(run(capfd, written(tmp_path, *rows), "--missing", "leave-out", "--json"))
    assert (found["comparisons"][0]["control_mean"], found["comparisons"][0]["variant_mean"]) == (1.5, 5)
    assert (found["left_out"], found["split"]["rows"]) == ({"without a value": 40}, {"a": 40, "b": 60})


def test_the_variant_is_in_the_column_of_that_name(units, capfd):
    with pytest.raises(SystemExit) as ended:
        main(["experiment", "analyze", str(units), "--metric", "spent", "--json"])
    assert ended.value.code == 0
    assert json.loads(capfd.readouterr().out)["split"]["rows"] == {"control": 300, "treatment": 300}


def test_a_mismatch_ends_with_status_3(units, capfd, tmp_path):
    plot = tmp_path / "lifts.png"
    shown = run(capfd, units, "--expected", "control=0.6,treatment=0.4", "--plot", plot, code=3)
    assert "nothing else may be believed" in shown
    assert "better" not in shown
    assert not plot.exists()
    found = json.loads(run(capfd, units, "--expected", "control=0.6,treatment=0.4", "--json", code=3))
    assert found["comparisons"] == []


@pytest.mark.parametrize("words", [(), ("--metric", "clicked", "--peek"), ("--control", "treatment")])
def test_the_plot_is_a_png(units, capfd, tmp_path, words):
    plot = tmp_path / "new" / "lifts.png"
    assert json.loads(run(capfd, units, "--plot", plot, "--json", *words))["plot"] == str(plot)
    assert plot.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_plot_of_what_has_no_percent_is_in_units(capfd, tmp_path):
    path, plot = written(tmp_path, *["a,1", "a,-1", "b$,2", "b$,0"] * 10), tmp_path / "lifts.png"
    (one,) = json.loads(run(capfd, path, "--plot", plot, "--json"))["comparisons"]
    assert one["outcome"]["relative"] is None
    assert plot.stat().st_size > 1000


def test_a_plot_that_cannot_be_written_is_refused(units, capfd, tmp_path):
    assert "is not a .png file" in refused(capfd, units, "--plot", tmp_path / "lifts.pdf")
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(capfd, units, "--plot", tmp_path / "file" / "lifts.png")


def test_files_that_are_no_tables_are_refused(capfd, tmp_path):
    assert "there is no file" in refused(capfd, tmp_path / "none.csv")
    assert "there is no file" in refused(capfd, tmp_path)
    for name, content, says in (
        ("a.json", b"{}", "only .csv and .parquet files are read"),
        ("a.csv", "variant,spent\nä,1\n".encode("latin-1"), "is not UTF-8 (byte 14)"),
        ("b.csv", b"variant,spent\n" + b"a,1\n" * 30_000 + b"\xe4,1\n", "cannot be read as csv"),
        ("c.csv", b"", "has no column variant; it is empty"),
        ("d.csv", b"variant,spent\n", "has no rows"),
        ("e.csv", b"variant,spent\n\n\n", "has no rows"),
        ("f.csv", b"variant,spent\na,1\nb,2,3\n", "cannot be read as csv"),
        ("g.csv", b"variant,variant,spent\na,a,1\n", "has the column variant more than once"),
        ("h.parquet", b"PAR1 and no more", "cannot be read as parquet"),
        ("i.parquet", b"", "cannot be read as parquet"),
    ):
        (tmp_path / name).write_bytes(content)
        assert says in refused(capfd, tmp_path / name), name


def test_a_missing_column_gets_the_nearest_name(units, capfd):
    assert "has no column spend; the nearest is spent" in refused(capfd, units, metric="spend")
    assert "has no column odler; the nearest is older" in refused(capfd, units, "--covariate", "odler")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (("a,1", "b,much", "b,2"), "spent is not numeric: row 3 has 'much'"),
        (("a,1", "a,2", "b,", "b,nan", "b,3"), "2 missing or infinite values, the first in row 4"),
        (("a,1", "a,inf", "b,2", "b,3"), "1 missing or infinite values, the first in row 3"),
        (("a,1", ",2", "b,2"), "variant is missing in 1 rows, the first is row 3"),
        (("a,1", "a,2"), "the only variant is a"),
        (("a,1", "a,2", "b,3"), "variant b has fewer than 2 rows"),
        (("a,1", "a,1", "b,1", "b,1"), "spent is constant, 1"),
        (tuple(f"v{number},1" for number in range(21)), "21 variants are more than 20"),
    ],
)
def test_rows_that_allow_no_test_are_refused(capfd, tmp_path, rows, says):
    assert says in refused(capfd, written(tmp_path, *rows))


def test_parquet_columns_of_other_kinds_are_refused(capfd, tmp_path):
    path = tmp_path / "units.parquet"
    frame = pd.DataFrame({"variant": ["a", None, "b"], "spent": pd.to_datetime(["2024-01-01"] * 3)})
    frame.to_parquet(path)
    assert "variant is missing in 1 rows, the first is row 2" in refused(capfd, path)
    frame.assign(variant=["a", "a", "b"]).to_parquet(path)
    assert "spent is not numeric: row 1 has '2024-01-01" in refused(capfd, path)
    frame.assign(variant=["a", "a", "b"], spent=[1, None, 2]).to_parquet(path)
    assert "variant b has fewer than 2 rows" in refused(capfd, path)
    pd.DataFrame({"variant": ["a", "a", "b", "b"], "spent": [1, None, 2, 3]}).to_parquet(path)
    assert "1 missing or infinite values, the first in row 2" in refused(capfd, path)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--alpha", 0), "alpha 0 is not between 0 and 1"),
        (("--alpha", 1.5), "alpha 1.5 is not"),
        (("--control", "old"), "there is no variant old"),
        (("--expected", "control"), "write NAME=SHARE"),
        (("--expected", "control=half,treatment=0.5"), "write NAME=SHARE"),
        (("--expected", "control=0.5,treatment=0.4"), "sum to 0.9"),
        (("--expected", "control=0.5,treated=0.5"), "differ in treated, treatment"),
        (("--covariate", "spent"), "the covariate is spent itself"),
        (("--covariate", "variant"), "variant is not numeric: row 2 has 'control'"),
    ],
)
def test_questions_that_make_no_sense_are_refused(units, capfd, words, says):
    assert says in refused(capfd, units, *words)
