"""The demo: its summary is what was promised, and a failure says where to look."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

import usecases
from cli import demo as demo_module
from cli.main import main
from cli.story import DemoFailed, ParityBroken, Story
from orrery.errors import OrreryError

SERVED = {"predictions": 3000, "degraded": 0, "errors": 0, "p50_ms": 4.0, "p99_ms": 9.0, "telling_prediction": "p"}


@pytest.fixture
def told(home, monkeypatch, tmp_path) -> list[str]:
    """The steps that ran, each of them done by a stand-in."""
    steps: list[str] = []

    def stands_in(name, result):
        def step(self, *_):
            steps.append(f"{self.use_case} {name}")
            return result(self) if callable(result) else result

        monkeypatch.setattr(Story, name, step)

    def outcome(story):
        measured = [{"metric": name, "candidate": 0.5} for name in (*story.training.gate.compare, "brier")]
        return SimpleNamespace(tables={"facts": [{"version": 3}], "metrics": measured})

    stands_in("data", "abcdef0123456789")
    stands_in("release", outcome)
    stands_in("materialize", None)
    stands_in("wait_served", None)
    stands_in("script", None)
    stands_in("replay", SERVED)
    stands_in("lineage", None)
    stands_in("parity", {"rows": 3000, "mismatches": 0})
    stands_in("clients", {"ctr": 0.1})
    monkeypatch.setattr(demo_module, "started", lambda configured: ())
    monkeypatch.chdir(tmp_path)
    return steps


def test_the_summary_is_what_was_promised(told, tmp_path, capfd):
    main_exits_well = pytest.raises(SystemExit)
    with main_exits_well as ended:
        main(["demo", "--json"])

    assert ended.value.code == 0
    written = json.loads((tmp_path / "build/demo/summary.json").read_text())
    assert json.loads(capfd.readouterr().out) == written
    assert set(written) == {"seconds", "use_cases"}
    assert list(written["use_cases"]) == usecases.names()
    for name, case in written["use_cases"].items():
        assert set(case) == {"data_version", "model_version", "gate", "test", "served", "parity"}
        clients = usecases.training(name).react is not None
        assert set(case["test"]) == {*usecases.training(name).gate.compare, "brier"}
        assert set(case["served"]) == {"predictions", "errors", "p50_ms", "p99_ms"} | ({"ctr"} if clients else set())
        assert set(case["parity"]) == {"rows", "mismatches"}
        order = ["data", "release", "materialize", "wait_served", "script", "replay", "lineage", "parity"]
        order += ["clients"] if clients else []
        assert [step for step in told if step.startswith(name)] == [f"{name} {step}" for step in order]


def test_a_person_gets_a_table(told, capfd):
    with pytest.raises(SystemExit):
        main(["demo"])

    shown = capfd.readouterr().out
    for name in usecases.names():
        assert name in shown
        assert f"{usecases.training(name).gate.compare[0]} 0.5" in shown
    assert "orrery down" in shown


def test_one_use_case_may_be_told_alone(told, tmp_path):
    name = usecases.names()[-1]
    with pytest.raises(SystemExit):
        main(["demo", name])
    assert list(json.loads((tmp_path / "build/demo/summary.json").read_text())["use_cases"]) == [name]
    assert {step.split()[0] for step in told} == {name}


def test_an_unknown_use_case_is_refused_before_anything_starts(told, capfd):
    with pytest.raises(SystemExit) as ended:
        main(["demo", "nothing"])
    assert ended.value.code == 1
    assert "there is no use case 'nothing'" in capfd.readouterr().err
    assert not told


def test_a_failure_names_the_step_and_the_log(told, home, monkeypatch, capfd):
    def broken(self):
        raise OrreryError("the worker is away")

    monkeypatch.setattr(Story, "release", broken)
    with pytest.raises(SystemExit) as ended:
        main(["demo"])

    assert ended.value.code == 1
    said = capfd.readouterr().err.splitlines()[-1]
    assert "train, gate, promote" in said
    assert "the worker is away" in said
    assert str(home / "logs" / "worker.log") in said


def test_failed_events_fail_the_demo(settings, monkeypatch):
    story = Story(settings, usecases.names()[0], 10)
    monkeypatch.setattr("cli.replay.run", lambda *_, clients: {"errors": 2, "reasons": {"503": 2}})

    with pytest.raises(DemoFailed, match="2 of 2 events failed"):
        story.replay(SimpleNamespace(events=[1, 2]))


def test_a_refused_release_fails_the_demo(settings, monkeypatch):
    refused = SimpleNamespace(completed=True, name="Refused", message="ap: too low", url="")
    monkeypatch.setattr("cli.flow_runs.run", lambda *_: refused)

    with pytest.raises(DemoFailed, match="ap: too low"):
        Story(settings, usecases.names()[0], 10).release()


def test_an_online_store_that_is_there_is_not_written_again(settings, monkeypatch):
    story, flows = Story(settings, usecases.names()[0], 10), []
    monkeypatch.setattr(Story, "_flow", lambda self, flow, parameters: flows.append(flow))
    story.materialize()
    assert flows == ["materialize"]

    monkeypatch.setattr("cli.status.materialized", lambda *_: story.training.replay_from)
    story.materialize()
    assert flows == ["materialize"]


def test_who_needs_nothing_stored_materializes_nothing(settings, monkeypatch):
    story, flows = Story(settings, usecases.names()[0], 10), []
    monkeypatch.setattr(Story, "_flow", lambda self, flow, parameters: flows.append(flow))
    serving = replace(usecases.serving(story.use_case), keys=lambda event: ())
    monkeypatch.setattr(usecases, "serving", lambda name: serving)
    story.materialize()
    assert not flows


@pytest.fixture
def replayed(settings, monkeypatch) -> tuple[Story, SimpleNamespace, pd.DataFrame]:
    """A story whose three events have been served, and their offline rows."""
    story = Story(settings, usecases.names()[0], 3)
    names = usecases.serving(story.use_case).feature_names
    offline = pd.DataFrame({story.training.identity: [1, 2, 3], **{name: [1.0, 2.5, 3.0] for name in names}})
    moments = [story.training.replay_from] * 3
    events = [SimpleNamespace(identity=str(n), moment=at, kind="predict") for n, at in enumerate(moments, start=1)]
    monkeypatch.setattr("orrery.building.rows_between", lambda *_: offline)
    monkeypatch.setattr("orrery.preparation.current", lambda *_: None)
    return story, SimpleNamespace(events=events), offline


def test_parity_of_all_that_was_sent(replayed, monkeypatch):
    story, script, offline = replayed
    names = list(offline.columns[1:])
    seen = [(str(n), dict.fromkeys(names, value)) for n, value in zip((1, 2, 3), (1.0, 2.5, 3.0), strict=True)]
    monkeypatch.setattr("cli.parity.seen", lambda *_: seen)
    assert story.parity(script, 0) == {"rows": 3, "mismatches": 0}

    monkeypatch.setattr("cli.parity.seen", lambda *_: seen[:2])
    assert story.parity(script, 1) == {"rows": 2, "mismatches": 0}, "rules alone answered one"
    with pytest.raises(ParityBroken, match="3 were sent"):
        story.parity(script, 0)

    monkeypatch.setattr("cli.parity.seen", lambda *_: [*seen[:2], ("3", dict.fromkeys(names, 4.0))])
    with pytest.raises(ParityBroken, match="1 of 3 rows differ"):
        story.parity(script, 0)
