"""`orrery retrain`: what it shows, what it starts, and that an approval is one release."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from prefect_runs import running_prefect

from cli.main import main
from orrery import responding
from orrery import settings as settings_module
from orrery.adapters.audit_log import AuditLog
from orrery.retraining import APPROVED, SUGGESTED, Facts

DETAILS = {
    "cause": "fraud/f1/2024-06-01T12:00:00+00:00",
    "alert": {"name": "DriftSustained", "summary": "Inputs drift."},
    "reasons": ["the policy is suggest", "1,200 labelled events in all; 1,000 are asked"],
    "parameters": {"use_case": "fraud", "as_of": "2024-05-31T00:00:00+00:00", "source": "log"},
}


@pytest.fixture
def prefect(home, monkeypatch):
    monkeypatch.setattr(responding, "BUSY_WAITS", (0.01,))
    with running_prefect("release/fraud") as fake:
        monkeypatch.setenv("ORRERY_PREFECT__URL", fake.url)
        settings_module.settings.cache_clear()
        yield fake


@pytest.fixture
def audit(prefect):
    return AuditLog(settings_module.settings())


def orrery(capsys, *arguments):
    """The exit code of a command, and what it printed."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_a_suggestion_is_shown_and_nothing_is_started(prefect, audit, capsys):
    audit.append(SUGGESTED, "fraud", DETAILS)
    audit.append(SUGGESTED, "other", DETAILS | {"cause": "another"})
    code, out, _ = orrery(capsys, "retrain", "fraud", "--json")
    shown = json.loads(out)
    assert code == 0
    assert shown["suggestion"] == DETAILS["cause"]
    assert (shown["alert"], shown["reasons"]) == (DETAILS["alert"], DETAILS["reasons"])
    assert shown["approved_by"] is None
    assert "1,200 labelled events" in orrery(capsys, "retrain", "fraud")[1]
    assert prefect.asked == []
    assert [record["action"] for record in audit.records()] == [SUGGESTED, SUGGESTED]


def test_an_approval_is_one_release_with_a_name_to_it(prefect, audit, capsys):
    audit.append(SUGGESTED, "fraud", DETAILS)
    code, out, _ = orrery(capsys, "retrain", "fraud", "--approve", "--json")
    shown = json.loads(out)
    assert (code, shown["new"], shown["state"]) == (0, True, "Scheduled")
    assert shown["flow_run"].endswith("/runs/flow-run/run-0")
    again = json.loads(orrery(capsys, "retrain", "fraud", "--approve", "--json")[1])
    assert (again["new"], again["approved_by"]) == (False, shown["approved_by"])
    [run] = prefect.made("release/fraud")
    assert run["parameters"] == DETAILS["parameters"]
    approved = [record for record in audit.records() if record["action"] == APPROVED]
    assert [record["actor"] for record in approved] == [shown["approved_by"]]
    assert approved[0]["details"]["cause"] == DETAILS["cause"]


def test_nothing_to_approve_is_3(prefect, capsys):
    code, _, err = orrery(capsys, "retrain", "fraud", "--approve")
    assert code == 3
    assert "no alert suggests a release of fraud; `orrery train fraud` starts one" in err


@pytest.mark.parametrize(("labels", "would"), [(5_000, "start"), (3, "decline")])
def test_without_a_suggestion_it_says_what_the_policy_would(prefect, capsys, monkeypatch, labels, would):
    now = datetime.now(UTC)
    known = Facts(now, (), 0, labels, now - timedelta(days=2), 0)
    monkeypatch.setattr(responding, "known_facts", lambda *_: known)
    code, out, _ = orrery(capsys, "retrain", "fraud", "--json")
    shown = json.loads(out)
    assert (code, shown["suggestion"], shown["policy"], shown["would"]) == (0, None, "auto", would)
    assert any(f"{labels:,} labelled events" in reason for reason in shown["reasons"])
    assert would in orrery(capsys, "retrain", "fraud")[1]


def test_prefect_away_is_one_line_and_the_approval_stays(prefect, audit, capsys):
    audit.append(SUGGESTED, "fraud", DETAILS)
    prefect.instead = (503, b"{}")
    code, _, err = orrery(capsys, "retrain", "fraud", "--approve")
    assert code == 1
    assert err.strip() == f"orrery: Prefect at {prefect.url} answers 503; see `orrery status`"
    prefect.instead = None
    assert orrery(capsys, "retrain", "fraud", "--approve")[0] == 0
    assert [record["action"] for record in audit.records()] == [SUGGESTED, APPROVED]
    assert len(prefect.made("release/fraud")) == 1


def test_an_unknown_use_case_is_1(prefect, capsys):
    code, _, err = orrery(capsys, "retrain", "nothing")
    assert code == 1
    assert "there is no use case 'nothing'" in err
