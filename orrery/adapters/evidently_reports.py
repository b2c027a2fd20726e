"""Traffic beside what its model was judged on, as Evidently's reports: pages of HTML in which no row can be found."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orrery.adapters.evidently_ranking import Lists, ranking_report
from orrery.adapters.report_log import named
from orrery.errors import OrreryError
from orrery.reference import Rows
from orrery.usecase import Array
from orrery.watching import Task

if TYPE_CHECKING:
    import pandas as pd
    from evidently.core.report import Snapshot

DRIFT, SUMMARY, RANKING = "data-drift", "data-summary", "ranking"
_LABEL, _MOST_ROWS, _STEPS = "label", 100_000, 1_000
"""a value is given to about a thousandth of its column's range"""
_LARGEST = 1e12
"""beyond it a histogram of one value has no bins"""


class NothingToReport(OrreryError):
    """There is no row to make a report of."""


class ReportTooLarge(OrreryError):
    """A page is larger than is kept."""


@dataclass(frozen=True)
class Asked:
    """What there is to report on."""

    names: Sequence[str]
    """of the inputs' columns"""
    output: str
    task: Task | None
    """what the output says of the label; None: nothing that can be measured row by row"""
    window: Rows
    reference: Rows | None
    """None: the bundle was made before references were kept"""
    first: datetime
    """when the window begins"""
    lists: Lists | None = None
    """None: the answers are no lists"""


@dataclass(frozen=True)
class _Page:
    """What one report is made of."""

    name: str
    metrics: list[Any]
    window: "pd.DataFrame"
    reference: "pd.DataFrame | None"
    roles: dict[str, Any]
    more: "dict[str, pd.DataFrame]" = field(default_factory=dict)
    """what a metric asks for beside the window"""


@dataclass(frozen=True)
class Written:
    """The reports of a window."""

    pages: list[Path] = field(default_factory=list)
    found: list["Snapshot"] = field(default_factory=list)
    """what is on each page, as Evidently keeps it"""


def write_reports(asked: Asked, folder: Path, most_bytes: int) -> Written:
    """Write one page a report that the rows allow. Raises NothingToReport, ReportTooLarge."""
    if not len(asked.window.scores):
        raise NothingToReport("the window has no answer of a model; there is nothing to report")
    written = Written()
    # Evidently divides by the spread of a column; where there is none its page says so
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for about in _reports(asked):
            made = _run(about, asked.first)
            page = folder / f"{about.name}.html"
            page.write_text(made.get_html_str(as_iframe=False))
            if page.stat().st_size > most_bytes:
                size = f"{page.stat().st_size:,} bytes, {most_bytes:,} are kept"
                raise ReportTooLarge(f"the page {about.name} has {size}; raise ORRERY_WATCH__REPORT_MB")
            written.pages.append(page)
            written.found.append(made)
    return written


def _reports(asked: Asked) -> Iterator[_Page]:
    from evidently.presets import DataDriftPreset, DataSummaryPreset

    window = _columns(asked, asked.window)
    reference = _columns(asked, asked.reference) if asked.reference is not None else None
    if reference is not None:
        # a column without any value has no distribution to compare, and Evidently refuses it
        compared = [name for name in window if window[name].notna().any() and reference[name].notna().any()]
        if compared:
            roles = {"numerical_columns": compared}
            yield _Page(DRIFT, [DataDriftPreset()], window[compared], reference[compared], roles)
    yield _Page(SUMMARY, [DataSummaryPreset()], window, reference, {"numerical_columns": list(window)})
    if asked.task is not None:
        yield from _quality(asked, asked.task)
    ranking = ranking_report(asked.lists) if asked.lists is not None else None
    if ranking is not None:
        # nothing beside it: what the model was judged on was liked, and never shown
        yield _Page(RANKING, ranking.metrics, ranking.rows, None, ranking.roles, ranking.more)


def _quality(asked: Asked, task: Task) -> Iterator[_Page]:
    """The report on what labels say of the outputs, where enough of them have arrived."""
    from evidently import BinaryClassification, Regression
    from evidently.presets import ClassificationPreset, RegressionPreset

    window = _judged(asked, task, asked.window)
    if window is None:
        return
    reference = _judged(asked, task, asked.reference) if asked.reference is not None else None
    if task == "classification":
        roles = BinaryClassification(target=_LABEL, prediction_probas=asked.output, pos_label=1)
        yield _Page(task, [ClassificationPreset()], window, reference, {"classification": [roles]})
    else:
        measured = Regression(target=_LABEL, prediction=asked.output)
        yield _Page(task, [RegressionPreset()], window, reference, {"regression": [measured]})


def _columns(asked: Asked, rows: Rows) -> "pd.DataFrame":
    """Inputs and output, each column shuffled by itself: charts of few rows show their values one by one."""
    import pandas as pd

    draw, chosen = np.random.default_rng(7), _chosen(len(rows.scores))
    given = np.column_stack([rows.inputs[chosen], rows.scores[chosen]])
    names, like = [*asked.names, asked.output], _like(asked)
    return pd.DataFrame(
        {name: draw.permutation(_coarse(given[:, place], like[:, place])) for place, name in enumerate(names)}
    )


def _judged(asked: Asked, task: Task, rows: Rows) -> "pd.DataFrame | None":
    """Output and label of the rows that have one, in no order; None: they are too few, or all of one class."""
    import pandas as pd

    arrived = np.flatnonzero(np.isfinite(rows.labels) & np.isfinite(rows.scores))
    arrived = np.random.default_rng(7).permutation(arrived)[:_MOST_ROWS]
    labels, scores, like = rows.labels[arrived], rows.scores[arrived], _like(asked)[:, -1]
    if len(np.unique(labels)) < 2:
        return None
    if task == "classification":
        return pd.DataFrame({asked.output: _coarse(scores, like), _LABEL: labels.astype(int)})
    return pd.DataFrame({asked.output: _coarse(scores, like), _LABEL: _coarse(labels, like)})


def _like(asked: Asked) -> Array:
    """Rows whose ranges say how coarsely values are given."""
    rows = asked.reference or asked.window
    return np.column_stack([rows.inputs, rows.scores])


def _chosen(rows: int) -> Array:
    """Places of at most so many rows as a report is made of in a minute."""
    return np.random.default_rng(7).permutation(rows)[:_MOST_ROWS]


def _coarse(values: Array, like: Array) -> Array:
    """Values on a grid of powers of ten, so that a smallest or largest one is nobody's own; infinite ones are missing.

    The grid has a thousand steps or more over the middle of the values `like`; flags and counts stay what they are.
    """
    known = like[np.isfinite(like)]
    low, high = np.quantile(known, (0.05, 0.95)) if len(known) else (0.0, 0.0)
    width = min((high - low) or (np.abs(known).max() if len(known) else 0.0) or 1.0, _LARGEST)
    decimals = int(np.ceil(np.log10(_STEPS / width)))
    finite = np.where(np.isfinite(values), values, np.nan)
    return np.round(np.clip(finite, -_LARGEST, _LARGEST), decimals)


def _run(page: _Page, first: datetime) -> "Snapshot":
    from evidently import DataDefinition, Dataset, Report

    known = partial(Dataset.from_pandas, data_definition=DataDefinition(**page.roles))
    beside = None if page.reference is None else known(page.reference)
    more = {name: known(rows) for name, rows in page.more.items()}
    # the report itself holds nothing: what was found is in the snapshot that the run returns
    return Report(page.metrics).run(
        known(page.window), beside, more, timestamp=first, name=f"{named(first)} {page.name}"
    )
