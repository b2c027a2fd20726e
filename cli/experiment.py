"""`orrery experiment`: judge an A/B test from a file with one row a unit."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orrery.errors import OrreryError

if TYPE_CHECKING:
    import pandas as pd

    from orrery.experiments import Analysis, Comparison
    from orrery.usecase import Array

app = typer.Typer(help="Judge an A/B test.", no_args_is_help=True)
MISMATCH_STATUS = 3
_MISSING = ["", "nan", "na", "n/a", "null", "none", "<na>"]
_BETTER, _WORSE, _GREY, _INK, _PALE = "#3d8b57", "#c8503c", "#9aa2ad", "#30343b", "#d9dde3"


class TableRefused(OrreryError):
    """The file is not a table with these columns."""


class PlotRefused(OrreryError):
    """The plot cannot be written there."""


@app.callback()
def experiment() -> None:
    """Judge an A/B test.

    Example: orrery experiment analyze units.csv --variant variant --metric converted
    """


@app.command()
def analyze(
    file: Annotated[Path, typer.Argument(help="A CSV or Parquet file, one row a unit (a user, not a click).")],
    variant: Annotated[str, typer.Option(help="The column that names each unit's variant.")],
    metric: Annotated[list[str], typer.Option(help="A column to compare, more is better; may be repeated.")],
    covariate: Annotated[str, typer.Option(help="A column from before the experiment: CUPED.")] = "",
    expected: Annotated[str, typer.Option(metavar="NAME=SHARE,...", help="Planned shares; equal by default.")] = "",
    control: Annotated[str, typer.Option(help="By default `control`, else the first by name.")] = "",
    alpha: Annotated[float, typer.Option(help="How often a test without an effect may raise an alarm.")] = 0.05,
    peek: Annotated[bool, typer.Option("--peek", help="An answer that may be looked at on any day (mSPRT).")] = False,
    plot: Annotated[Path | None, typer.Option(help="A PNG of the lifts with their intervals.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what an A/B test shows: the split, lifts with intervals, power, and a verdict in words.

    With --covariate the verdict is CUPED's. P-values are adjusted for the number of comparisons by Holm's method;
    power counts at 80 %. Exit status 3: the split is not the planned one, so nothing else may be believed.

    Example: orrery experiment analyze units.csv --variant variant --metric converted --metric revenue --peek
    """
    from cli.console import emit
    from orrery import experiments

    if plot and plot.suffix != ".png":
        raise PlotRefused(f"{plot} is not a .png file; plots are PNG only")
    shares, metrics = _shares(expected), list(dict.fromkeys(metric))
    frame = _read(file, [variant, *metrics, *([covariate] if covariate else [])])
    found = experiments.analyze(
        _variants(variant, frame[variant]),
        {name: _numbers(name, frame[name]) for name in metrics},
        covariate=_numbers(covariate, frame[covariate]) if covariate else None,
        expected=shares, control=control, alpha=alpha, peek=peek, first_row=int(frame.index[0]),
    )  # fmt: skip
    drawn = _draw(found, plot) if plot and found.comparisons else None
    if as_json:
        emit({"file": file, **vars(found), "plot": drawn}, as_json=True)
    else:
        _show(found, drawn)
    raise typer.Exit(MISMATCH_STATUS if found.split.mismatch else 0)


def _shares(text: str) -> dict[str, float] | None:
    """`control=0.5,treatment=0.5` -> its numbers."""
    from orrery.experiments import SharesRefused

    shares: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, share = part.rpartition("=")
        try:
            shares[name.strip()] = float(share)
        except ValueError as error:
            raise SharesRefused(f"--expected has {part!r}; write NAME=SHARE, as control=0.5,treatment=0.5") from error
    return shares or None


def _read(path: Path, names: list[str]) -> "pd.DataFrame":
    """These columns, cells of a CSV as text; the index numbers the rows, the header of a CSV counted as row 1."""
    from pyarrow import ArrowException

    readers = {".csv": _read_csv, ".parquet": _read_parquet}
    if not path.is_file():
        raise TableRefused(f"there is no file {path}; check its name")
    if path.suffix not in readers:
        raise TableRefused(f"{path}: only {' and '.join(readers)} files are read; convert it to one of these")
    try:
        frame = readers[path.suffix](path, list(dict.fromkeys(names)))
    except UnicodeDecodeError as error:
        raise TableRefused(f"{path} is not UTF-8 (byte {error.start}); save it as CSV in UTF-8") from error
    except (ArrowException, OSError, csv.Error) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TableRefused(f"{path} cannot be read as {path.suffix[1:]}: {line}; write it again") from error
    if frame.empty:
        raise TableRefused(f"{path} has no rows; check that it was written to its end")
    return frame


def _read_csv(path: Path, names: list[str]) -> "pd.DataFrame":
    import numpy as np
    from pyarrow import csv as arrow_csv
    from pyarrow import string

    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file), [])
    _require(path, names, header)
    table = arrow_csv.read_csv(
        path,
        read_options=arrow_csv.ReadOptions(use_threads=False),  # else its errors lack the row
        parse_options=arrow_csv.ParseOptions(ignore_empty_lines=False),  # they count as rows
        convert_options=arrow_csv.ConvertOptions(
            include_columns=names, column_types=dict.fromkeys(header, string()), strings_can_be_null=False
        ),
    )
    frame: pd.DataFrame = table.to_pandas()
    written = np.flatnonzero((frame != "").any(axis=1))
    frame.index += 2
    return frame.iloc[: written[-1] + 1 if len(written) else 0]


def _read_parquet(path: Path, names: list[str]) -> "pd.DataFrame":
    import pandas as pd
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        _require(path, names, file.schema_arrow.names)
        frame: pd.DataFrame = file.read(columns=names).to_pandas(ignore_metadata=True)
    return frame.set_axis(pd.RangeIndex(1, 1 + len(frame)))


def _require(path: Path, names: list[str], header: list[str]) -> None:
    from difflib import get_close_matches

    for name in names:
        if name not in header:
            near = get_close_matches(name, header, n=1, cutoff=0.0)
            raise TableRefused(
                f"{path} has no column {name}; " + (f"the nearest is {near[0]}" if near else "it is empty")
            )
        if header.count(name) > 1:
            raise TableRefused(f"{path} has the column {name} more than once; rename one")


def _variants(name: str, cells: "pd.Series[Any]") -> "Array":
    from orrery.experiments import VariantsRefused

    text = cells.astype(str).str.strip()
    if (missing := cells.isna() | (text == "")).any():
        raise VariantsRefused(
            f"{name} is missing in {missing.sum():,} rows, the first is row {missing.idxmax()}; say which variant "
            "these units saw, or leave them out"
        )
    return text.to_numpy(str)


def _numbers(name: str, cells: "pd.Series[Any]") -> "Array":
    """Cells as float64, missing ones NaN; true and false count as 1 and 0."""
    import pandas as pd

    from orrery.experiments import MetricRefused

    if cells.dtype.kind in "biuf":
        return cells.to_numpy("float64", na_value=float("nan"))
    text = cells.astype(str).str.strip().str.lower()
    missing = text.isin(_MISSING)
    numbers = pd.to_numeric(text.mask(missing).replace({"true": "1", "false": "0"}), errors="coerce")
    if (wrong := numbers.isna() & ~missing).any():
        place = int(wrong.argmax())
        raise MetricRefused(
            f"{name} is not numeric: row {cells.index[place]} has {str(cells.iloc[place])[:40]!r}; name another column"
        )
    return numbers.to_numpy("float64")


def _show(found: "Analysis", drawn: Path | None) -> None:
    from cli.console import emit

    split, total = found.split, sum(found.split.rows.values())
    rows = [
        {"variant": name, "rows": count, "share": count / total, "expected": split.expected[name]}
        for name, count in split.rows.items()
    ]
    emit(rows, as_json=False, title=f"Sample ratio: chi-square {split.chi_square:.4g}, p {split.p_value:.4g}")
    if found.comparisons:
        kind = ", at any look (mSPRT; Johari et al. 2017)" if found.peek else ""
        emit([_line(one) for one in found.comparisons], False, f"{100 * (1 - found.alpha):g} % intervals{kind}")
        emit([_words(one) for one in found.comparisons], as_json=False)
    emit({"verdict": found.verdict, **({"plot": drawn} if drawn else {})}, as_json=False)


def _line(one: "Comparison") -> dict[str, object]:
    result, cuped = one.outcome, one.cuped
    lift = f"{result.lift.value:+.4g} [{result.lift.low:+.4g}, {result.lift.high:+.4g}]"
    line = {"metric": one.metric, "variant": one.variant, "mean": one.variant_mean, one.control: one.control_mean}
    line |= {"lift": lift, "p": result.p_value, "p (Holm)": one.p_adjusted, "80 % power for": result.detectable}
    line |= {"rows for this lift": f"{result.needed:,}" if result.needed else None, "test": result.method}
    if result.tau:
        line |= {"tau": result.tau}
    if cuped:
        line |= {"CUPED": f"variance -{100 * cuped.reduction:.1f} %" if cuped.useful else "no useful reduction"}
    return line


def _words(one: "Comparison") -> dict[str, object]:
    from orrery.experiments import interval_words

    relative = interval_words(one.outcome) if one.outcome.relative else None
    return {"metric": one.metric, "variant": one.variant, "relative lift": relative, "verdict": one.verdict}


def _draw(found: "Analysis", path: Path) -> Path:
    """One row of axes a metric: percent of the control, or units of the metric where that cannot be said."""
    from matplotlib.figure import Figure

    metrics = list(dict.fromkeys(one.metric for one in found.comparisons))
    height = 1.1 * len(metrics) + 0.32 * len(found.comparisons) + 0.4
    figure = Figure(figsize=(7.2, height), layout="constrained")
    sizes = [1 + sum(one.metric == name for one in found.comparisons) for name in metrics]
    for axes, name in zip(
        figure.subplots(len(metrics), squeeze=False, height_ratios=sizes)[:, 0], metrics, strict=True
    ):
        _draw_metric(axes, name, [one for one in found.comparisons if one.metric == name])
    title = f"Lift over {found.control}, {100 * (1 - found.alpha):g} % intervals"
    figure.suptitle(title.replace("$", r"\$"), fontsize=12, fontweight="bold", color=_INK)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise PlotRefused(f"{path} cannot be written: {error.strerror}; choose another place") from error
    return path


def _draw_metric(axes: Any, name: str, found: "list[Comparison]") -> None:
    percent = all(one.outcome.relative for one in found)
    for place, one in enumerate(reversed(found)):
        part, scale = (one.outcome.relative, 100) if percent else (one.outcome.lift, 1)
        assert part is not None
        colour = (_BETTER if part.value > 0 else _WORSE) if one.significant else _GREY
        reach = [[scale * (part.value - part.low)], [scale * (part.high - part.value)]]
        axes.errorbar(scale * part.value, place, xerr=reach, fmt="o", color=colour, capsize=4, linewidth=1.8)
    axes.axvline(0, color=_INK, linewidth=1)
    axes.set_yticks(range(len(found)), [one.variant.replace("$", r"\$") for one in reversed(found)])
    axes.set_ylim(-0.6, len(found) - 0.4)
    axes.set_xlabel(f"{name}, {'%' if percent else 'in its units'}".replace("$", r"\$"), color=_INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color=_PALE, linewidth=0.6)
    axes.set_axisbelow(True)
