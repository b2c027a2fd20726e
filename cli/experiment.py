"""`orrery experiment`: judge an A/B test from a file with one row a unit, or from a window of the prediction log."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.experiment_off_policy import PANEL, First, Last, UseCase, off_policy
from cli.experiment_table import Missing, Units, units_of_file

if TYPE_CHECKING:
    from cli.experiment_log import Window
    from orrery.experiments import Analysis, Comparison

app = typer.Typer(help="Judge an A/B test, or a policy from another one's log.", no_args_is_help=True)
MISMATCH_STATUS = 3


@app.callback()
def experiment() -> None:
    """Judge an A/B test, or a policy from another one's log.

    Example: orrery experiment analyze units.csv --variant variant --metric converted
    """


@app.command()
def analyze(
    metric: Annotated[list[str], typer.Option(help="What to compare, more is better; may be repeated.")],
    file: Annotated[Path | None, typer.Argument(help="A CSV or Parquet file, one row a unit (a user).")] = None,
    variant: Annotated[str, typer.Option(help="The column with each unit's variant; by default `variant`.")] = "",
    covariate: Annotated[str, typer.Option(help="A column from before the experiment: CUPED.")] = "",
    expected: Annotated[str, typer.Option(metavar="NAME=SHARE,...", help="Planned shares; equal by default.")] = "",
    control: Annotated[str, typer.Option(help="By default `control`, else the first by name.")] = "",
    alpha: Annotated[float, typer.Option(help="How often a test without an effect may raise an alarm.")] = 0.05,
    peek: Annotated[bool, typer.Option("--peek", help="An answer that may be looked at on any day (mSPRT).")] = False,
    missing: Annotated[Missing, typer.Option(help="What a metric without a value means.")] = Missing.REFUSE,
    use_case: UseCase = "",
    first: First = None,
    last: Last = None,
    unit: Annotated[str, typer.Option(help="A field of requests: one row a value of it.", rich_help_panel=PANEL)] = "",
    plot: Annotated[Path | None, typer.Option(help="A PNG of the lifts with their intervals.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what an A/B test shows: the split, lifts with intervals, power, and a verdict in words.

    With --covariate the verdict is CUPED's. P-values are adjusted for the number of comparisons by Holm's method;
    power counts at 80 %. Without FILE, --use-case, --from and --to name a window of the prediction log: one row a
    prediction, or one a --unit with the means of its predictions. A metric is then `label`, `score`, `degraded` or a
    number in the answer, the covariate a number in the request. Exit status 3: the split is not the planned one, so
    nothing else may be believed; 1: rows or columns are refused; 2: wrong usage.

    Example: orrery experiment analyze units.csv --variant variant --metric converted --metric revenue --peek

    Example: orrery experiment analyze --use-case fraud --from 2018-09-12 --to 2018-09-13 --metric label --missing zero
    """
    from cli.console import emit
    from cli.experiment_log import SourceRefused, window_of
    from cli.experiment_plot import check_png, draw_lifts
    from orrery import experiments

    check_png(plot)
    window = window_of(file, use_case, first, last, unit)
    if window and variant:
        raise SourceRefused("the log itself says which variant answered; leave --variant out")
    shares, metrics = _shares(expected), list(dict.fromkeys(metric))
    units = _units(file, window, variant or "variant", metrics, covariate, missing)
    found = experiments.analyze(
        units.variants, units.metrics, covariate=units.covariate,
        expected=shares, control=control, alpha=alpha, peek=peek, first_row=units.first_row,
    )  # fmt: skip
    drawn = draw_lifts(found, plot) if plot and found.comparisons else None
    if as_json:
        source = {"file": file, "window": window, "left_out": units.left_out}
        emit({**source, **vars(found), "plot": drawn}, as_json=True)
    else:
        _show(found, units, drawn)
    raise typer.Exit(MISMATCH_STATUS if found.split.mismatch else 0)


app.command("off-policy")(off_policy)


def _units(
    file: Path | None, window: "Window | None", variant: str, metrics: list[str], covariate: str, missing: Missing
) -> Units:
    from cli.experiment_log import units_of_log

    if window:
        return units_of_log(window, metrics, covariate, missing)
    assert file is not None
    return units_of_file(file, variant, metrics, covariate, missing)


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


def _show(found: "Analysis", units: Units, drawn: Path | None) -> None:
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
    left_out = {"left out": units.left_out} if units.left_out else {}
    emit({**left_out, "verdict": found.verdict, **({"plot": drawn} if drawn else {})}, as_json=False)


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
