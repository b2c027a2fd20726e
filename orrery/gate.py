"""Asks everything a candidate must answer before it may be released. A refusal carries every reason, with numbers."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from orrery.lifecycle import Candidate, Check, Passed, Refused, Report, Verdict
from orrery.usecase import Array, Gate, Model, Outputs

ANSWER_R2 = 0.999
_RELOAD_SECONDS = 120


def judge(gate: Gate, candidate: Candidate, report: Report, integrity: Sequence[Check]) -> Verdict:
    """Decide on a candidate: the gate's questions to its report, and checks of the bundle itself.

    Without a champion, as on a first release, there is nothing to compare with and the floors alone decide.
    """
    checks = (
        *_bounds(gate, report),
        *_baselines(gate, report),
        *_comparisons(gate, report),
        _latency(gate, report),
        *integrity,
    )
    if all(check.passed for check in checks):
        return Passed(candidate=candidate, report=report, checks=checks)
    return Refused(checks=checks)


def _bounds(gate: Gate, report: Report) -> Iterator[Check]:
    for bounds, word, sign in ((gate.floors, "least", 1), (gate.ceilings, "most", -1)):
        for name, bound in bounds.items():
            value = report.candidate[name].value
            holds = sign * (value - bound) >= 0  # a NaN holds nowhere
            yield Check(f"{name} at {word}", bool(holds), f"{value:.4f}, at {word} {bound:g} is asked")


def _baselines(gate: Gate, report: Report) -> Iterator[Check]:
    for name in gate.no_worse:
        lead = report.candidate[name]
        holds = lead.value >= 0 or lead.high >= 0  # a NaN holds nowhere
        detail = f"{lead.value:+.4f} [{lead.low:+.4f}, {lead.high:+.4f}], an interval that reaches 0 is asked"
        yield Check(f"{name} no worse than the baseline", bool(holds), detail)


def _comparisons(gate: Gate, report: Report) -> Iterator[Check]:
    for name in gate.compare if report.champion else ():
        lower_is_better = name in gate.ceilings
        difference = report.differences[name]
        holds = difference.low <= 0 if lower_is_better else difference.high >= 0  # a NaN holds nowhere
        detail = (
            f"{report.candidate[name].value:.4f} against the champion's {report.champion[name].value:.4f}, "
            f"paired difference {difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"
        )
        yield Check(f"{name} no worse than champion", bool(holds), detail)


def _latency(gate: Gate, report: Report) -> Check:
    holds = report.latency_ms <= gate.latency_ms
    return Check("latency", holds, f"{report.latency_ms:.3f} ms for one row, at most {gate.latency_ms:g} ms is asked")


def no_feature_is_the_answer(inputs: Array, target: Array, names: Sequence[str]) -> Check:
    """Does a linear fit of the target, shape (n,), on all inputs, shape (n, names), or on one of them, explain it?"""
    centred = inputs.astype(np.float64) - inputs.mean(axis=0, dtype=np.float64)
    truth = target.astype(np.float64) - target.mean(dtype=np.float64)
    variance = float(truth @ truth)
    if variance == 0 or not np.isfinite(centred).all():
        return Check("no feature is the answer", False, "the target has one value only, or an input is not finite")
    scale = np.sqrt((centred**2).sum(axis=0))
    unit = centred / np.where(scale > 0, scale, 1.0)
    single = (unit.T @ truth) ** 2 / variance
    fit = np.linalg.lstsq(unit.T @ unit, unit.T @ truth, rcond=None)[0]
    residual = truth - unit @ fit
    together = 1 - float(residual @ residual) / variance
    worst = int(single.argmax())
    found = f"linear R2 of all inputs {together:.4f}, of {names[worst]} alone {single[worst]:.4f}"
    detail = f"{found}, below {ANSWER_R2} is asked"
    return Check("no feature is the answer", max(together, float(single[worst])) < ANSWER_R2, detail)


def reloads(folder: Path, score: Callable[[Model, Array], Outputs], tolerance: float = 1e-6) -> Check:
    """Does the bundle in `folder` load in a fresh process, and give its golden answers by `score`?"""
    function = f"{score.__module__}:{score.__qualname__}"
    command = [sys.executable, "-m", "orrery.reload", str(folder), function, str(tolerance)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_RELOAD_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return Check("reloads in a clean process", False, f"no answer within {_RELOAD_SECONDS} s")
    last = (done.stderr.strip().splitlines() or ["exit code " + str(done.returncode)])[-1]
    detail = "the golden rows get the same answers" if done.returncode == 0 else last
    return Check("reloads in a clean process", done.returncode == 0, detail)
