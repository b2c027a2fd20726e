"""`orrery experiment off-policy`: what another policy would have earned, from a file or from the prediction log."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.replay import FORMATS
from orrery.errors import OrreryError

if TYPE_CHECKING:
    from cli.experiment_log import Window
    from orrery.off_policy import Evaluation
    from orrery.sequential import Interval

UNUSABLE_STATUS = 3


PANEL = "A window of the prediction log instead of a file"
UseCase = Annotated[str, typer.Option(help="Whose predictions.", rich_help_panel=PANEL)]
First = Annotated[
    datetime | None, typer.Option("--from", help="First event time (UTC).", formats=FORMATS, rich_help_panel=PANEL)
]
Last = Annotated[
    datetime | None,
    typer.Option("--to", help="First event time after the window (UTC).", formats=FORMATS, rich_help_panel=PANEL),
]


class ColumnRefused(OrreryError):
    """A column is not named, or may not be."""


class NoPolicies(OrreryError):
    """The use case leaves nothing to chance, so its log says nothing of other policies."""


def off_policy(
    target: Annotated[str, typer.Option(help="The action's probability under the target policy; for a log its name.")],
    file: Annotated[Path | None, typer.Argument(help="A CSV or Parquet file, one row a logged action.")] = None,
    reward: Annotated[str, typer.Option(help="The column with what the action earned, more is better.")] = "",
    propensity: Annotated[str, typer.Option(help="The action's probability under the policy that logged it.")] = "",
    model_logged: Annotated[str, typer.Option(help="A model's prediction of the action's reward.")] = "",
    model_target: Annotated[str, typer.Option(help="The model's mean over the target's actions.")] = "",
    cluster: Annotated[str, typer.Option(help="Rows that belong together: a user, a request.")] = "",
    use_case: UseCase = "",
    first: First = None,
    last: Last = None,
    plot: Annotated[Path | None, typer.Option(help="A PNG of the estimates with their intervals.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a target policy would have earned where another one acted: IPS, SNIPS, and with a model DM and DR.

    Intervals are a bootstrap's by cluster. The verdict is DR's where there is a model, else SNIPS's. Without FILE,
    --use-case, --from and --to name a window of the prediction log, and the use case says what its columns are. Exit
    status 3: the log cannot say it (fewer than 100 effective rows, a row heavier than all of them should be, no
    support); 1: rows or columns are refused; 2: wrong usage.

    Example: orrery experiment off-policy log.csv --reward clicked --propensity p --target q --cluster user_id

    Example: orrery experiment off-policy --use-case recommendation --from 2016-09-01 --to 2016-10-01 --target greedy
    """
    from cli.console import emit
    from cli.experiment_log import window_of
    from cli.experiment_plot import check_png, draw_estimates
    from orrery.off_policy import evaluate

    check_png(plot)
    named = {"reward": reward, "propensity": propensity, "target": target}
    named |= {"model_logged": model_logged, "model_target": model_target, "cluster": cluster}
    window = window_of(file, use_case, first, last)
    columns, first_row = _of_log(window, named) if window else _of_file(file, named)
    found = evaluate(**columns, first_row=first_row)
    drawn = draw_estimates(found, reward or "reward", plot) if plot and found.estimates else None
    if as_json:
        emit({"file": file, "window": window, **vars(found), "plot": drawn}, as_json=True)
    else:
        _show(found, drawn)
    raise typer.Exit(UNUSABLE_STATUS if found.unusable else 0)


def _of_file(file: Path | None, named: dict[str, str]) -> tuple[dict[str, Any], int]:
    """The named columns of a file, and the number of its first row."""
    from cli.experiment_table import names, numbers, read_table

    if unnamed := [name for name in ("reward", "propensity") if not named[name]]:
        raise ColumnRefused(f"a file needs --{unnamed[0]} COLUMN")
    assert file is not None
    wanted = {name: column for name, column in named.items() if column}
    cells = read_table(file, list(wanted.values()))
    read = {name: (names if name == "cluster" else numbers)(column, cells[column]) for name, column in wanted.items()}
    return read, int(cells.index[0])


def _of_log(window: "Window", named: dict[str, str]) -> tuple[dict[str, Any], int]:
    """What the use case makes of a window of the log."""
    import usecases
    from cli.experiment_log import answers_of_log

    if given := [name for name, column in named.items() if column and name != "target"]:
        raise ColumnRefused(f"the log itself has its columns; leave --{given[0].replace('_', '-')} out")
    policies = usecases.training(window.use_case).off_policy
    if policies is None:
        raise NoPolicies(f"{window.use_case} leaves nothing to chance, so its log says nothing of other policies")
    return dict(policies(*answers_of_log(window), named["target"])), 1


def _show(found: "Evaluation", drawn: Path | None) -> None:
    from cli.console import emit

    if found.weights:
        emit(_weights(found), as_json=False)
    if found.estimates:
        rows: list[dict[str, object]] = [{"estimate": "on-policy mean", "value": _text(found.on_policy)}]
        rows += [
            {"estimate": name.upper(), "value": _text(one.value), "against the on-policy mean": one.verdict}
            for name, one in vars(found.estimates).items()
            if one
        ]
        emit(rows, False, "The target policy's mean reward, 95 % intervals")
    warnings = {"warning": "; ".join(found.warnings)} if found.warnings else {}
    emit({**warnings, "verdict": found.verdict, **({"plot": drawn} if drawn else {})}, as_json=False)


def _weights(found: "Evaluation") -> dict[str, object]:
    weights = found.weights
    assert weights is not None
    clusters = {} if found.clusters == found.rows else {"clusters": f"{found.clusters:,}"}
    return {
        "rows": f"{found.rows:,}",
        **clusters,
        "effective sample size": f"{weights.effective:,.1f}",
        **({"effective clusters": f"{weights.effective_clusters:,.1f}"} if clusters else {}),
        "mean weight": f"{_text(weights.mean)}, should be 1",
        "largest weight": weights.largest,
    }


def _text(part: "Interval") -> str:
    return f"{part.value:.4g} [{part.low:.4g}, {part.high:.4g}]"
