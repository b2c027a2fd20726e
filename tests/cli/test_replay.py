"""A replay: the set's own past in event order, labels when they arrived, counted against the truth."""

import json
from datetime import timedelta

import pytest

import usecases
from cli import replay as replay_module
from cli.gateway import GatewayDown
from cli.keys import NoClientKey, client_key_path
from cli.main import main
from cli.replay import NothingToReplay, read_script, run, write_script
from cli.traffic import by_rate
from orrery.settings import GatewaySettings, Settings
from orrery.usecase import Asked, SourceRequest, silent


@pytest.fixture(scope="module", params=usecases.names())
def sample(request):
    """A use case with a small set of its own rows."""
    training = usecases.training(request.param)
    source = next(iter(training.sources))
    return request.param, training.validate(training.sources[source](SourceRequest(source, sample=True), silent))


@pytest.fixture
def script(sample):
    name, rows = sample
    training = usecases.training(name)
    first = rows[training.moment].min().to_pydatetime() + training.label_delay * 2
    last = rows[training.moment][rows[training.moment] >= first].iloc[150].to_pydatetime() + timedelta(days=1)
    before = rows[training.moment].between(first - training.label_delay, last, inclusive="left")
    said = training.requests(rows[before])
    return first, last, said, write_script(usecases.serving(name), said, first, last, limit=100)


def test_events_are_those_of_the_window_in_order(sample, script):
    first, last, said, written = script
    moments = [event.moment for event in written.events]
    kinds = [event.kind for event in written.events]

    assert moments == sorted(moments)
    assert first <= moments[0]
    assert moments[-1] < last
    assert kinds.count("predict") == 100
    assert kinds.count("feedback") > 0, "labels of earlier events arrive in the window"
    sent = {event.identity for event in written.events}
    assert sent <= set(written.truth), "the truth of every event is known, though its label arrives later"
    expected = [moment for moment, _, _ in said if moments[0] <= moment < moments[-1]]
    assert moments[: len(expected)] == expected, "nothing between the first and the last is left out"


def test_a_label_shares_a_key_with_its_request(sample, script):
    serving, (first, _, said, _) = usecases.serving(sample[0]), script
    requests = {serving.identity(body): body for _, kind, body in said if kind == "predict"}
    everything = write_script(serving, said, first - timedelta(days=365), first + timedelta(days=365), limit=None)
    for event in everything.events[:2_000]:
        assert set(serving.keys(requests[event.identity])) < event.keys
        assert event.identity in event.keys


def test_a_replay_counts_against_the_truth(sample, script, asking, stand_in):
    name, written = sample[0], script[3]
    serving, answers = usecases.serving(name), iter(range(10_000))

    def route(method, path, body, connection):
        if path.endswith("/feedback"):
            return 200, {}
        request = serving.request.model_validate_json(json.dumps(body))
        answer = serving.fallback(Asked(request, (), serving.default_rules, {}), None).model_dump(mode="json")
        score = {serving.monitored_output: written.truth[serving.identity(request)]}
        return 200, answer | score | {"prediction_id": str(next(answers)), "degraded": False}

    stand_in.answer = route
    result = run(asking, name, written, by_rate(2_000))

    assert result["predictions"] == 100
    assert result["errors"] == 0
    assert result["labels"] == len(written.events) - 100
    assert 0 < result["p50_ms"] <= result["p99_ms"]
    if usecases.training(name).online is None:
        positives = sum(written.truth[event.identity] > 0.5 for event in written.events if event.kind == "predict")
        assert result["online"]["positives"]["all"] == positives
        assert result["online"]["ap"] == (1.0 if positives else None)
    else:
        assert result["online"]
    assert {path for path, _ in stand_in.asked} == {f"/v1/{name}/predict", f"/v1/{name}/feedback"}
    assert all(headers["authorization"] == "Bearer ork_00000000_secret" for _, headers in stand_in.asked)


def test_an_empty_window_is_said(sample, asking, stand_in, monkeypatch):
    stand_in.answer = lambda *_: (200, {})
    name, rows = sample
    end = rows[usecases.training(name).moment].max().to_pydatetime() + timedelta(days=3_650)
    monkeypatch.setattr(replay_module, "_rows", lambda *_: rows.iloc[:0])
    with pytest.raises(NothingToReplay, match="has no event"):
        read_script(asking, name, end, end + timedelta(days=1), None)


def test_no_gateway_is_said_before_any_data_is_read(home):
    nobody = Settings(home=home, gateway=GatewaySettings(url="http://127.0.0.1:9"))
    moment = usecases.training(usecases.names()[0]).replay_from
    with pytest.raises(GatewayDown, match="orrery up"):
        read_script(nobody, usecases.names()[0], moment, moment, None)


def test_no_key_is_said(sample, script, asking):
    client_key_path(asking).unlink()
    with pytest.raises(NoClientKey, match="orrery up"):
        run(asking, sample[0], script[3], by_rate(100))


def test_two_paces_are_one_too_many(home, capfd):
    arguments = ["replay", usecases.names()[0], "--from", "2020-01-01", "--to", "2020-01-02"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--rate", "1", "--speed", "1"])
    assert ended.value.code == 1
    assert "not both" in capfd.readouterr().err
