"""`orrery experiment off-policy`: what another policy would have earned, from a file with one row a logged action."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from orrery.off_policy import Evaluation
    from orrery.sequential import Interval

UNUSABLE_STATUS = 3


def off_policy(
    file: Annotated[Path, typer.Argument(help="A CSV or Parquet file, one row a logged action.")],
    reward: Annotated[str, typer.Option(help="The column with what the action earned, more is better.")],
    propensity: Annotated[str, typer.Option(help="The action's probability under the policy that logged it.")],
    target: Annotated[str, typer.Option(help="The same action's probability under the target policy.")],
    model_logged: Annotated[str, typer.Option(help="A model's prediction of the action's reward.")] = "",
    model_target: Annotated[str, typer.Option(help="The model's mean over the target's actions.")] = "",
    cluster: Annotated[str, typer.Option(help="Rows that belong together: a user, a request.")] = "",
    plot: Annotated[Path | None, typer.Option(help="A PNG of the estimates with their intervals.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a target policy would have earned where another one acted: IPS, SNIPS, and with a model DM and DR.

    Intervals are a bootstrap's by cluster. The verdict is DR's where there is a model, else SNIPS's. Exit status 3:
    the log cannot say it (fewer than 100 effective rows, a row heavier than all of them should be, no support);
    1: the file or a column is refused; 2: wrong usage.

    Example: orrery experiment off-policy log.csv --reward clicked --propensity p --target q --cluster user_id
    """
    from cli.console import emit
    from cli.experiment_plot import check_png, draw_estimates
    from cli.experiment_table import names, numbers, read_table
    from orrery.off_policy import evaluate

    check_png(plot)
    columns = {"reward": reward, "propensity": propensity, "target": target}
    model = {"model_logged": model_logged, "model_target": model_target}
    columns |= {name: column for name, column in model.items() if column}
    cells = read_table(file, [*columns.values(), *filter(None, [cluster])])
    values = {name: numbers(column, cells[column]) for name, column in columns.items()}
    found = evaluate(
        values["reward"], values["propensity"], values["target"],
        model_logged=values.get("model_logged"), model_target=values.get("model_target"),
        cluster=names(cluster, cells[cluster]) if cluster else None, first_row=int(cells.index[0]),
    )  # fmt: skip
    drawn = draw_estimates(found, reward, plot) if plot and found.estimates else None
    if as_json:
        emit({"file": file, **vars(found), "plot": drawn}, as_json=True)
    else:
        _show(found, drawn)
    raise typer.Exit(UNUSABLE_STATUS if found.unusable else 0)


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
