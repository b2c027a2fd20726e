"""Status, lineage and keys: what the command makes of the platform's answers."""

import io
import json
import re
import stat

import pytest
from rich.console import Console

import usecases
from cli.gateway import CatalogueDown, GatewayDown, GatewayRefused, alias, ask_gateway
from cli.keys import client_key, client_key_path, ensure_client_key
from cli.lineage import trace, tree
from cli.main import main
from cli.standing import reasons, rows, standings
from cli.status import freshness, model_states, service_states
from orrery import settings as settings_module
from orrery.adapters.api_keys import KeyRing, open_keys
from orrery.adapters.audit_log import AuditLog
from orrery.settings import GatewaySettings, MlflowSettings, Settings

RECORD = {
    "prediction_id": "p1",
    "use_case": "something",
    "request": {"amount": 12.5},
    "features": {"AMOUNT": 12.5, "COUNT": 3.0},
    "sources": {
        "history": {"entity": 7, "status": "present", "event_time": "2020-01-01T00:00:00Z", "age_seconds": 5_400},
        "other": {"entity": 8, "status": "missing", "event_time": None, "age_seconds": None},
    },
    "answer": {"score": 0.12, "reasons": [{"code": "A"}]},
    "model": {"version": "3", "run_id": "r1", "digest": "d", "data_version": "v", "git_commit": "c"},
    "label": None,
}
RUN = {
    "run": {
        "info": {"experiment_id": "5"},
        "data": {
            "tags": [{"key": "lock_hash", "value": "lock"}, {"key": "git_commit", "value": "commit"}],
            "metrics": [{"key": "ap", "value": 0.7}],
        },
    }
}
NO_ALIAS = {"error_code": "INVALID_PARAMETER_VALUE", "message": "Registered model alias previous not found."}


def _answers(known: dict[str, tuple[int, dict]]):
    return lambda _method, path, _body, _connection: known.get(path.partition("?")[0], (404, {"title": "Not Found"}))


def test_lineage_joins_the_record_and_the_run(asking, stand_in):
    stand_in.answer = _answers({"/v1/predictions/p1": (200, RECORD), "/api/2.0/mlflow/runs/get": (200, RUN)})
    found = trace(asking, "p1")

    assert found["training"]["lock_hash"] == "lock"
    assert found["training"]["url"].endswith("/#/experiments/5/runs/r1")
    drawn = _text(tree(found))
    for shown in ("amount: 12.5", "COUNT: 3", "1.5 h before the event", "never seen", "lock", "ap: 0.7", "not yet"):
        assert shown in drawn


def test_lineage_without_mlflow_still_shows_the_record(asking, stand_in):
    stand_in.answer = _answers({"/v1/predictions/p1": (200, RECORD), "/api/2.0/mlflow/runs/get": (500, {})})

    assert "unavailable" in trace(asking, "p1")["training"]


def test_lineage_of_a_degraded_answer(asking, stand_in):
    degraded = RECORD | {"model": None, "features": None, "sources": {}}
    stand_in.answer = _answers({"/v1/predictions/p1": (200, degraded)})
    found = trace(asking, "p1")

    assert found["training"] is None
    assert "rules answered" in _text(tree(found))


def test_lineage_tells_which_drift_caused_the_release(asking, stand_in):
    stand_in.answer = _answers({"/v1/predictions/p1": (200, RECORD), "/api/2.0/mlflow/runs/get": (200, RUN)})
    assert trace(asking, "p1")["release"] == {}
    audit = AuditLog(asking)
    window = {"first": "2020-01-01T00:00:00+00:00", "state": "drift"}
    started = {"cause": "k", "alert": {"name": "DriftSustained"}, "window": window, "reasons": ["the policy is auto"]}
    audit.append("retrain started", "something", started)
    audit.append("promote", "other", {"digest": "d", "champion": "9", "cause": "k"})
    audit.append("promote", "something", {"digest": "d", "champion": "3", "before": "2", "cause": "k"}, "a flow run")
    audit.append("promote", "something", {"digest": "d", "champion": "3", "before": "4"}, "by hand, again")

    found = trace(asking, "p1")
    assert found["release"]["actor"] == "a flow run"
    assert found["release"]["window"] == window
    drawn = _text(tree(found))
    for shown in ("DriftSustained", "state: drift", "before: 2"):
        assert shown in drawn


def test_an_unknown_prediction_is_said_in_the_gateways_words(asking, stand_in):
    stand_in.answer = _answers({"/v1/predictions/nope": (404, {"title": "Not Found", "detail": "no such prediction"})})
    with pytest.raises(GatewayRefused, match="no such prediction"):
        trace(asking, "nope")


def test_status_compares_the_champion_with_what_is_served(asking, stand_in):
    name = usecases.names()[0]
    versions = {"champion": {"version": "4", "tags": [{"key": "digest", "value": "d"}]}}

    def answer(_method, path, _body, _connection):
        if path == "/v1/models":
            served = {"use_case": name, "version": "3", "source": "cache", "trained_to": "2020-01-01T00:00:00Z"}
            return 200, {"models": [served]}
        found = versions.get(re.search(r"alias=(\w+)", path)[1])
        return (200, {"model_version": found}) if found else (400, NO_ALIAS)

    stand_in.answer = answer
    state = next(iter(model_states(asking)))
    assert (state.champion, state.previous, state.served, state.matches) == ("4", None, "3", False)
    assert alias(asking, name, "champion")["tags"] == {"digest": "d"}
    versions["champion"]["version"] = "3"
    assert next(iter(model_states(asking))).matches is True


STANDING = {
    "use_case": "a", "champion": "4", "champion_seen_at": "2024-05-01T10:00:00Z", "served": "4", "source": "registry",
    "traffic": {"answers_five_minutes": 50, "answers": 1_200, "degraded": 12, "failed": 3,
                "answering": [{"version": "4", "variant": "champion", "share": 0.9},
                              {"version": None, "variant": "fallback", "share": 0.1}]},
    "slo": {"objective": 0.995, "attained": 0.9975, "budget_left": 0.5},
    "drift": {"verdict": "drift", "sustained": True, "first": "2024-05-01T00:00:00Z", "last": "2024-05-02T00:00:00Z",
              "watched_at": "2024-05-02T00:05:00Z", "rows": 900, "reasons": ["amounts"]},
    "label_maturity": 0.5, "last_release": None,
    "unknown": {"last_release": "the audit log is not in the gateway's home"},
}  # fmt: skip


def test_how_use_cases_stand_is_shown_with_what_is_not_known(asking, stand_in):
    empty = STANDING | {"use_case": "b", "slo": None, "drift": None, "label_maturity": None}
    empty["unknown"] = STANDING["unknown"] | {"drift": "it was never watched"}
    stand_in.answer = _answers({"/v1/status": (200, {"use_cases": [STANDING, empty]})})
    told, why = standings(asking)
    shown = {row[""]: (row["a"], row["b"]) for row in rows(told)}
    assert why == ""
    assert shown["by version"][0] == "4 90%, no model 10%"
    assert shown["answers"][0] == "1,200, 12 degraded, 3 failed"
    assert (shown["SLO"], shown["budget left"]) == (("99.75% of 99.5%", None), ("50%", None))
    assert shown["drift"] == ("drift (sustained), 2024-05-01 to 2024-05-02", None)
    assert shown["last release"] == (None, None)
    assert reasons(told) == [
        "last release of a, b: the audit log is not in the gateway's home",
        "drift of b: it was never watched",
    ]


def test_a_release_that_only_this_side_knows_of_is_shown(asking, stand_in):
    stand_in.answer = _answers({"/v1/status": (200, {"use_cases": [STANDING]})})
    AuditLog(asking).append("release refused", "a", {"cause": "", "reasons": ["ap: 0.5 is less than 0.6"]}, "flow")
    told, _ = standings(asking)
    release = next(row for row in rows(told) if row[""] == "last release")["a"]
    assert release.startswith("refused, 20")
    assert release.endswith(": ap: 0.5 is less than 0.6")
    assert reasons(told) == []


def test_a_gateway_that_is_down_or_of_before_says_so_in_words(asking):
    assert standings(asking) == (None, "the gateway refused /v1/status: Not Found")
    down = asking.model_copy(update={"gateway": GatewaySettings(url="http://127.0.0.1:9")})
    told, why = standings(down)
    assert told is None
    assert "does not answer" in why


def test_status_of_nothing(home, capfd):
    with pytest.raises(SystemExit) as ended:
        main(["status", "--json"])

    assert ended.value.code == 1
    said = capfd.readouterr()
    shown = json.loads(said.out)
    assert "orrery up" in said.err
    assert {each["state"] for each in shown["services"]} == {"down"}
    assert all(each["matches"] is None for each in shown["models"])
    assert [each["use_case"] for each in shown["freshness"]] == usecases.names()
    assert all(each["data_version"] is None for each in shown["freshness"])
    assert shown["use_cases"] is None
    assert shown["use_cases_unknown"]


def test_nobody_there(home):
    nobody = "http://127.0.0.1:9"
    settings = Settings(home=home, gateway=GatewaySettings(url=nobody), mlflow=MlflowSettings(url=nobody))
    ensure_client_key(settings)
    with pytest.raises(GatewayDown, match="orrery up"):
        ask_gateway(settings, "/v1/models")
    with pytest.raises(CatalogueDown, match="orrery status"):
        alias(settings, "x", "champion")
    assert all(not each.healthy for each in service_states(settings))
    assert freshness(settings, usecases.names()[0]).last_prediction_at is None


def test_the_first_key_is_made_once_and_kept_to_oneself(settings):
    text = ensure_client_key(settings)

    assert text == client_key(settings)
    assert stat.S_IMODE(client_key_path(settings).stat().st_mode) == 0o600
    assert ensure_client_key(settings) is None
    client_key_path(settings).unlink()
    assert ensure_client_key(settings) not in (None, text), "a lost key is replaced"
    assert text not in settings.log_url


def test_a_revoked_first_key_is_replaced(settings):
    ensure_client_key(settings)
    keys = open_keys(settings)
    keys.revoke(keys.list()[0].key_id)

    assert ensure_client_key(settings) is not None


def test_keys_live_and_die_by_the_command(home, capfd):
    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["keys", *arguments])
        assert ended.value.code == 0
        return capfd.readouterr().out.strip()

    text = run("create", "checkout", "--scope", "predict:*")
    ring = KeyRing(open_keys(settings_module.settings()))
    ring.refresh()
    assert ring.verify(text).scopes == {"predict:*"}

    key_id = text.split("_")[1]
    assert key_id in run("list")
    run("revoke", key_id)
    ring.refresh()
    assert ring.verify(text) is None


def _text(renderable: object) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(renderable)
    return console.file.getvalue()
