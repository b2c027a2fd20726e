"""The doctor: names what is wrong, how to mend it, and says so with its exit status."""

import json
import shutil
import socket
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from cli import doctor
from cli.main import main
from cli.supervisor import Supervisor
from orrery.adapters.audit_log import AuditLog
from orrery.settings import GatewaySettings, Settings


def _state(findings, what):
    return {finding.what: finding.state for finding in findings}[what]


def test_a_sound_machine(settings, capfd):
    findings = [finding for finding in doctor.examine() if not finding.what.startswith("port")]

    assert [finding for finding in findings if finding.state == "wrong"] == []
    assert {"settings", "Python", "dependencies", "disk", "home", "platform", "git", "clock", "audit log"} <= {
        finding.what for finding in findings
    }


def test_every_complaint_says_how_to_mend_it(settings, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    findings = doctor.examine()

    assert all(finding.mend for finding in findings if finding.state != "ok")
    for what in ("Python", "git", "commit", "clock"):
        assert _state(findings, what) == "wrong"
    for what in ("prometheus", "docker"):
        assert _state(findings, what) == "note", "optional"


def test_a_misspelt_setting(home, monkeypatch, capfd):
    monkeypatch.setenv("ORRERY_HOEM", "x")
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json"])

    assert ended.value.code == 1
    findings = {finding["what"]: finding for finding in json.loads(capfd.readouterr().out)}
    assert "ORRERY_HOME" in findings["settings"]["found"]
    assert findings["Python"]["state"] == "ok"


def test_too_little_room(settings, monkeypatch):
    usage = namedtuple("usage", "total used free")(2**40, 2**40, 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    assert _state(doctor.room(settings), "disk") == "wrong"


def test_a_home_that_is_a_file(tmp_path):
    (tmp_path / "home").write_text("")

    assert _state(doctor.home(Settings(home=tmp_path / "home")), "home") == "wrong"


def test_a_home_too_deep(tmp_path):
    assert _state(doctor.home(Settings(home=tmp_path / ("d" * 100))), "home") == "wrong"


def test_a_port_in_use_names_the_setting(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        findings = list(doctor.platform(Settings(home=home, gateway=GatewaySettings(port=port))))

    found = next(finding for finding in findings if finding.what == f"port {port}")
    assert found.state == "wrong"
    assert "ORRERY_GATEWAY__PORT" in found.mend


def test_what_a_killed_run_left(settings):
    left = Supervisor(settings.home).pidfile
    left.parent.mkdir(parents=True)
    left.write_text("1")

    assert _state(doctor.platform(settings), "platform") == "note"


def test_another_version_than_the_lock(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: "0.0.1" if name == "rich" else "")
    found = next(doctor.dependencies())

    assert found.state == "wrong"
    assert "make setup" in found.mend


def test_a_broken_audit_log(settings):
    log = AuditLog(settings)
    log.append("promote", "x", {})
    Path(log.path).write_text(log.path.read_text().replace("promote", "removed"))

    assert _state(doctor.audit(settings), "audit log") == "wrong"
