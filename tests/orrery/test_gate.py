"""The gate asks everything, refuses with every reason, and lets a first release pass on its floors."""

import importlib
from datetime import UTC, datetime
from math import nan

import numpy as np
import pytest
from onnx import TensorProto, helper

from orrery.bundle import Bundle, Feature, Golden
from orrery.gate import judge, no_feature_is_the_answer, reloads
from orrery.lifecycle import Candidate, Check, Metric, Passed, Refused, Report
from orrery.usecase import Gate, Window

NOW = datetime(2024, 1, 1, tzinfo=UTC)
GATE = Gate(floors={"ap": 0.6}, ceilings={"calibration_error": 0.01}, compare=("ap",), latency_ms=2)
SOUND = (Check("reloads in a clean process", True, ""),)


def metric(value, spread=0.02):
    return Metric(value, value - spread, value + spread)


def report(ap=0.7, error=0.001, latency=0.1, difference=None):
    champion = {} if difference is None else {"ap": metric(0.7), "calibration_error": metric(0.001)}
    differences = {} if difference is None else {"ap": difference, "calibration_error": metric(0.0)}
    candidate = {"ap": metric(ap), "calibration_error": metric(error)}
    return Report(10, NOW, NOW, candidate, champion, "1", differences, latency)


@pytest.fixture
def candidate(make_bundle):
    return Candidate("toy", "run", make_bundle(), Window(NOW, 7), "key")


def reasons(verdict):
    assert isinstance(verdict, Refused)
    return verdict.reasons


def test_a_first_release_needs_its_floors_only(candidate):
    verdict = judge(GATE, candidate, report(), SOUND)
    assert isinstance(verdict, Passed)
    assert [check.name for check in verdict.checks] == [
        "ap at least", "calibration_error at most", "latency", "reloads in a clean process",
    ]  # fmt: skip


def test_a_refusal_carries_every_reason_with_its_numbers(candidate):
    broken = Check("reloads in a clean process", False, "digest differs")
    verdict = judge(GATE, candidate, report(ap=0.1, error=0.2, latency=7, difference=metric(-0.6)), [broken])
    assert reasons(verdict) == (
        "ap at least: 0.1000, at least 0.6 is asked",
        "calibration_error at most: 0.2000, at most 0.01 is asked",
        "ap no worse than champion: 0.1000 against the champion's 0.7000, paired difference -0.6000 [-0.6200, -0.5800]",
        "latency: 7.000 ms for one row, at most 2 ms is asked",
        "reloads in a clean process: digest differs",
    )


@pytest.mark.parametrize(
    ("difference", "passes"), [(Metric(-0.01, -0.03, 0.01), True), (Metric(-0.01, -0.02, -0.001), False)]
)
def test_worse_is_worse_beyond_the_paired_interval(candidate, difference, passes):
    assert isinstance(judge(GATE, candidate, report(difference=difference), SOUND), Passed) is passes


def test_a_metric_with_a_ceiling_is_worse_when_it_is_higher(candidate):
    gate = Gate(floors={}, ceilings={"calibration_error": 1}, compare=("calibration_error",), latency_ms=2)
    better = Report(10, NOW, NOW, {"calibration_error": metric(0.1)}, {"calibration_error": metric(0.2)}, "1",
                    {"calibration_error": metric(-0.1)}, 0.1)  # fmt: skip
    worse = Report(10, NOW, NOW, better.champion, better.candidate, "1", {"calibration_error": metric(0.1)}, 0.1)
    assert isinstance(judge(gate, candidate, better, SOUND), Passed)
    assert len(reasons(judge(gate, candidate, worse, SOUND))) == 1


@pytest.mark.parametrize(
    ("lead", "passes"),
    [(metric(0.1), True), (metric(-0.01), True), (metric(-0.1), False), (metric(0.0, 0.0), True),
     (Metric(float("nan"), float("nan"), float("nan")), False)],
)  # fmt: skip
def test_a_lead_over_a_baseline_may_be_below_0_within_its_interval_only(candidate, lead, passes):
    gate = Gate(floors={}, ceilings={}, compare=(), latency_ms=2, no_worse=("lead",))
    found = Report(10, NOW, NOW, {"lead": lead}, {}, None, {}, 0.1)
    assert isinstance(judge(gate, candidate, found, SOUND), Passed) == passes


def test_not_a_number_passes_nothing(candidate):
    not_known = Metric(nan, nan, nan)
    verdict = judge(GATE, candidate, report(ap=nan, error=nan, latency=nan, difference=not_known), SOUND)
    assert len(reasons(verdict)) == 4


def test_the_answer_among_the_inputs_is_found():
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(2_000, 4)).astype(np.float32)
    names = ["a", "b", "c", "d"]
    target = (inputs[:, 0] + draw.normal(size=2_000) > 0).astype(float)
    honest = no_feature_is_the_answer(inputs, target, names)
    assert honest.passed, honest
    assert "of a alone" in honest.detail
    leaking = np.column_stack([inputs, target * 5 + 1]).astype(np.float32)
    assert not no_feature_is_the_answer(leaking, target, [*names, "leak"]).passed
    summed = np.column_stack([inputs, target - inputs[:, 1]]).astype(np.float32)
    two = no_feature_is_the_answer(summed, target, [*names, "rest"])
    assert not two.passed
    assert "all inputs 1.0000" in two.detail


def test_constant_inputs_are_no_answer_and_a_constant_target_is_no_question():
    inputs, target = np.ones((50, 2), np.float32), np.arange(50) % 2
    assert no_feature_is_the_answer(inputs, target, ["a", "b"]).passed
    assert not no_feature_is_the_answer(inputs, np.zeros(50), ["a", "b"]).passed


SCORING = """
def doubled(model, inputs):
    return {"score": model.run("double.onnx", inputs)[0][:, 0]}
"""


@pytest.fixture
def doubled(tmp_path, monkeypatch):
    """A scoring function that a fresh process can import too."""
    (tmp_path / "doubling.py").write_text(SCORING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("doubling").doubled


def bundle(folder, answer):
    folder.mkdir()
    node = helper.make_node("Add", ["x", "x"], ["y"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in "xy"]
    graph = helper.make_graph([node], "double", ends[:1], ends[1:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "double.onnx").write_bytes(proto.SerializeToString())
    about = {
        "use_case": "toy", "created_at": NOW, "trained_from": NOW, "trained_to": NOW, "as_of": NOW, "rows": 1,
        "data_version": "d", "git_commit": "c", "lock_hash": "l", "features": [Feature(name="x")], "learned": {},
        "reference": {}, "golden": Golden(inputs=[[1.5]], outputs={"score": [answer]}),
    }  # fmt: skip
    return Bundle.write(folder, about).folder


def test_a_sound_bundle_reloads_in_a_clean_process(tmp_path, doubled):
    check = reloads(bundle(tmp_path / "sound", 3.0), doubled)
    assert check.passed, check.detail


def test_other_answers_after_a_reload_are_told(tmp_path, doubled):
    check = reloads(bundle(tmp_path / "other", 3.1), doubled)
    assert not check.passed
    assert "golden rows is off by 0.1" in check.detail


def test_a_changed_file_does_not_reload(tmp_path, doubled):
    folder = bundle(tmp_path / "changed", 3.0)
    (folder / "double.onnx").write_bytes(b"")
    assert "digest differs" in reloads(folder, doubled).detail
