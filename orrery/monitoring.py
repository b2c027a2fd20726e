"""Looks at served traffic, window by window of event time, and says whether it is what the model learned from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import zip_longest

import numpy as np

from orrery.adapters.traffic_log import Traffic, TrafficLog
from orrery.adapters.watch_log import WatchLog
from orrery.bundle import Manifest
from orrery.drift import column_drift, columns_drift, drifted_share
from orrery.moments import EPOCH
from orrery.quality import estimated, parted
from orrery.two_samples import thinned
from orrery.usecase import Array, Case, Progress, silent
from orrery.valuing import valued
from orrery.watching import ColumnDrift, Measure, Quality, Sample, State, Watched, Watching

Manifests = Callable[[str, str], Manifest]
"""run, digest -> what its bundle says of itself"""
_MOST = 400
"""windows a look judges at most; the next one goes on"""
_NAMED = 5


def watch(
    case: Case, traffic: TrafficLog, found: WatchLog, manifests: Manifests, now: datetime, progress: Progress = silent
) -> list[Watched]:
    """Judge every window that is over and not judged yet, or whose labels may have come since; write it down.

    A window is over once answers to later events were given: event time is the clock. Where none is over yet, the open
    one is written down as saying nothing. Killed at any point, the next look does what is left.
    Raises LogUnavailable, and what the catalogue raises.
    """
    clock, length = traffic.clock(case.name), case.training.watching.window
    if clock is None:
        nothing = Watched(case.name, EPOCH, EPOCH, None, "no data", 0, 0, reasons=("nothing was answered yet",))
        return [_kept(found, nothing, now)]
    known = {each.first: each for _, each in found.latest(case.name, _MOST)}
    # a client that catches up with the past opens no window that was over
    clock = max([clock, *(each.last for each in known.values() if each.judged)])
    due = list(_due(traffic.starts(case.name, length, _MOST), clock, case, known))
    judged: list[Watched] = []
    for number, first in enumerate(due):
        progress("watch", number, len(due), f"{first:%Y-%m-%d %H:%M}")
        window = judge(case, first, traffic, manifests, known.get(first))
        known[first] = window
        judged.append(_kept(found, replace(window, sustained=_sustained(window, known, case.training.watching)), now))
    if not due:
        first = floor(clock, length)
        open_one = judge(case, first, traffic, manifests)
        reasons = (f"the window is open until events of {first + length:%Y-%m-%d %H:%M} or later", *open_one.reasons)
        judged.append(_kept(found, replace(open_one, state="few rows", inputs=(), score=None, reasons=reasons), now))
    return judged


def floor(moment: datetime, length: timedelta) -> datetime:
    """The start of the window that holds the moment; windows follow each other since 1970."""
    return moment - (moment - EPOCH) % length


def _kept(found: WatchLog, window: Watched, now: datetime) -> Watched:
    found.write(window, now)
    return window


def _due(
    filled: Sequence[datetime], clock: datetime, case: Case, known: Mapping[datetime, Watched]
) -> Iterator[datetime]:
    """The starts of windows to judge: unknown ones, those with labels to come, and the newest, which shows we look."""
    length, delay = case.training.watching.window, case.training.label_delay
    over = [first for first in _followed(filled, case.training.watching) if first + length <= clock]
    for first in over:
        before = known.get(first)
        waiting = before is not None and before.quality is not None and before.quality.maturity < 1
        if before is None or first == over[-1] or (waiting and first + length + 2 * delay > clock):
            yield first


def _followed(filled: Sequence[datetime], watching: Watching) -> Iterator[datetime]:
    """Windows with answers, and after each the empty ones, as many as drift is looked for in."""
    for first, after in zip_longest(filled, filled[1:]):
        yield first
        for place in range(1, watching.of + 1):
            empty = first + place * watching.window
            if after is not None and empty >= after:
                break
            yield empty


def _sustained(window: Watched, known: Mapping[datetime, Watched], watching: Watching) -> bool:
    before = (known.get(window.first - places * watching.window) for places in range(watching.of))
    return sum(each is not None and each.state == "drift" for each in before) >= watching.drifted


def judge(
    case: Case, first: datetime, traffic: TrafficLog, manifests: Manifests, before: Watched | None = None
) -> Watched:
    """What one window says, by itself. `before`: what it said at an earlier look, which holds for the same answers."""
    watching, names = case.training.watching, case.serving.feature_names
    last = first + watching.window
    seen = traffic.between(case.name, first, last, names, watching)
    about = Watched(case.name, first, last, seen.version, "no data", seen.rows, seen.degraded)
    if not len(seen.scores) or seen.digest is None or seen.run_id is None:
        answers = "no answer" if not seen.rows else f"{seen.rows} answers, none of them by a model with its features"
        return replace(about, reasons=(answers,))
    known = before if before is not None and _same_answers(before, about) else None
    about = replace(about, quality=_quality(case, about, seen, traffic, known.quality if known else None))
    if known is not None and known.judged:
        return replace(known, quality=about.quality, sustained=False)
    if len(seen.scores) < watching.rows:
        reason = f"{len(seen.scores)} answers of version {seen.version}, {watching.rows} are asked"
        return replace(about, state="few rows", reasons=(reason,))
    manifest, apart = manifests(seen.run_id, seen.digest), seen.independent
    enough = len(apart) >= watching.rows
    inputs, score = compared(case, manifest, seen.inputs[apart], seen.scores[apart]) if enough else ((), None)
    share, measures = drifted_share(inputs), measured(watching, manifest, seen.sample)
    reasons = (*_reasons(inputs, score, share, watching), *_apart(measures))
    state: State = "drift" if reasons else "stable" if enough or measures else "few rows"
    if not enough:
        reasons = (*reasons, f"inputs of {len(apart)} units are not compared, {watching.rows} are asked")
    return replace(about, state=state, inputs=inputs, score=score, measures=measures, share=share, reasons=reasons)


def _same_answers(one: Watched, other: Watched) -> bool:
    return (one.version, one.rows, one.degraded) == (other.version, other.rows, other.degraded)


def compared(
    case: Case, manifest: Manifest, inputs: Array, scores: Array
) -> tuple[tuple[ColumnDrift, ...], ColumnDrift | None]:
    """Inputs, shape (n, names), and watched outputs, shape (n,), against the reference; None: it has no output."""
    watched, names = case.serving.monitored_output, case.serving.feature_names
    reference = manifest.reference.get(watched)
    score = column_drift(watched, reference, scores) if reference else None
    known = {name: kept for name, kept in manifest.reference.items() if name not in case.training.watching.calendar}
    return columns_drift(known, names, inputs, manifest.importance), score


def measured(watching: Watching, manifest: Manifest, window: Sample) -> tuple[Measure, ...]:
    """What the use case measures by itself of what both sides have: an older model kept less, an older log has less."""
    both = [name for name in watching.sampled if name in window and name in manifest.samples]
    if watching.measures is None or not both:
        return ()
    reference = {name: np.asarray(manifest.samples[name]) for name in both}
    return tuple(watching.measures(thinned({name: window[name] for name in both}), reference))


def _apart(measures: Sequence[Measure]) -> Iterator[str]:
    for each in measures:
        if each.drifted:
            yield f"{each.feature}: {each.method} {each.value:.3f}, at most {each.threshold:.3f} is usual"


def _reasons(
    inputs: Sequence[ColumnDrift], score: ColumnDrift | None, share: float, watching: Watching
) -> Iterator[str]:
    """Why the window drifts; nothing: it does not."""
    if share > watching.share:
        named = [f"{each.name} {each.psi:.2f}" for each in inputs if each.drifted and each.importance > 0.01][:_NAMED]
        usual = f"at most {watching.share:.0%} is usual: {', '.join(named)}"
        yield f"inputs with {share:.0%} of the importance drift, {usual}"
    if score is not None and score.drifted:
        yield f"{score.name}: PSI {score.psi:.3f}, at most {score.threshold:.3f} is usual"


def _quality(case: Case, about: Watched, seen: Traffic, traffic: TrafficLog, before: Quality | None) -> Quality | None:
    """`before`: of the same answers, which holds while their labels say the same."""
    watching = case.training.watching
    if watching.quality is None:
        return None
    arrived = ~np.isnan(seen.labels)
    claims = watching.probability
    realised = (
        {**watching.quality(seen.scores, seen.labels), **_answered(case, about, traffic)} if arrived.any() else {}
    )
    if before is not None and (before.labelled, before.realised) == (int(arrived.sum()), realised):
        return before
    return Quality(
        labelled=int(arrived.sum()),
        maturity=float(arrived.mean()),
        lag_seconds=float(np.median(seen.lags)) if len(seen.lags) else None,
        realised=realised,
        estimated=before.estimated if before else estimated(seen.scores)[0] if claims else {},
        parted=parted(seen.scores, seen.labels) if claims and arrived.sum() >= watching.rows else (),
    )


def _answered(case: Case, about: Watched, traffic: TrafficLog) -> Mapping[str, float]:
    """What the whole answers were worth, by all feedback to them, and what another policy's would have been."""
    watching = case.training.watching
    if watching.answered is None:
        return {}
    said = traffic.said(case.name, about.first, about.last, case.serving.feedback)
    return {**watching.answered(*said), **valued(case, about, said, traffic)}


def row(window: Watched) -> dict[str, object]:
    """A window as a line of a table."""
    quality = window.quality
    shown = {f"{name} realised": round(value, 4) for name, value in (quality.realised if quality else {}).items()}
    promised = {f"{name} estimated": round(value, 4) for name, value in (quality.estimated if quality else {}).items()}
    return {
        "from": f"{window.first:%Y-%m-%d %H:%M}",
        "to": f"{window.last:%Y-%m-%d %H:%M}",
        "version": window.version or "",
        "rows": window.rows,
        "degraded": window.degraded,
        "state": window.state + (" (sustained)" if window.sustained else ""),
        "drifted share": round(window.share, 3),
        "score PSI": round(window.score.psi, 3) if window.score else None,
        **{f"{each.feature} {each.method}": round(each.value, 3) for each in window.measures},
        "labels": f"{quality.maturity:.0%}" if quality else "",
        **shown,
        **promised,
        "why": "; ".join(window.reasons),
    }
