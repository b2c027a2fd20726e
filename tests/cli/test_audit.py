"""`orrery audit`, on the logs of an installation."""

import json

import pytest
from typer.testing import CliRunner

from cli.audit import app
from orrery.adapters.access_log import AccessLog
from orrery.adapters.audit_log import AuditBroken, AuditLog
from orrery.adapters.use_case_secret import secret_of


@pytest.fixture
def paths(settings):
    """The installation's log and the one of a use case, three records each."""
    folder = settings.home.absolute() / "toy"
    folder.mkdir(parents=True)
    own, access = AuditLog(settings), AccessLog(folder / "access.jsonl", secret_of(settings, "toy"))
    for number in range(1, 4):
        own.append("promote", "toy", {"champion": str(number)}, "operator")
        access.append("answer", f"film-{number}", {"decision": "finding"}, "ward")
    return own.path, access.path


def orrery_audit(*arguments):
    return CliRunner().invoke(app, arguments)


def test_sound_logs(paths):
    found = orrery_audit("verify", "--json")
    assert found.exit_code == 0
    rows = json.loads(found.stdout)
    assert [(row["log"], row["records"], row["problem"]) for row in rows] == [(str(path), 3, None) for path in paths]
    assert all(len(row["head"]) == 64 for row in rows)
    assert orrery_audit("verify").exit_code == 0


def test_a_new_installation_has_nothing_to_be_broken(settings):
    assert [row["records"] for row in json.loads(orrery_audit("verify", "--json").stdout)] == [0]
    assert orrery_audit("show").exit_code == 0


def edited(lines):
    return [lines[0], lines[1].replace(b"2", b"7", 1), lines[2]]


def deleted(lines):
    return [lines[0], lines[2]]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("harm", [edited, deleted])
def test_an_edited_and_a_deleted_record_are_named(paths, which, harm):
    path = paths[which]
    path.write_bytes(b"".join(harm(path.read_bytes().splitlines(keepends=True))))
    found = orrery_audit("verify", "--json")
    assert isinstance(found.exception, AuditBroken)
    assert f"{path} line 2:" in str(found.exception)
    problems = [row["problem"] for row in json.loads(found.stdout)]
    assert problems[which]
    assert problems[1 - which] is None


def test_a_cut_log_and_a_missing_one_are_told(paths):
    _, path = paths
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    assert f"{path} line 3: records were cut off" in str(orrery_audit("verify").exception)
    path.unlink()
    assert f"{path} line 1: records were cut off" in str(orrery_audit("verify").exception)


def test_a_log_of_another_installation_is_not_taken(paths, settings):
    (settings.secrets_folder / "pseudonyms.key").unlink()
    assert isinstance(orrery_audit("verify").exception, AuditBroken)


def test_the_latest_records_are_shown(paths):
    rows = json.loads(orrery_audit("show", "--last", "2", "--json").stdout)
    assert sorted(row["details"].get("champion") or row["subject"] for row in rows) == ["2", "3", "film-2", "film-3"]
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)


def test_the_secret_is_one_and_each_use_case_has_its_own(settings):
    assert secret_of(settings, "toy") == secret_of(settings, "toy")
    assert secret_of(settings, "toy") != secret_of(settings, "other")
    assert len(secret_of(settings, "toy")) == 32
    assert (settings.secrets_folder / "pseudonyms.key").stat().st_mode & 0o777 == 0o400
