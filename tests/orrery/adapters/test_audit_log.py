"""The audit log names its first bad record, survives a crash, and keeps one chain under many writers."""

import json
import subprocess
import sys

import pytest

from orrery.adapters.audit_log import AuditBroken, AuditLog

WRITER = """
import sys
from pathlib import Path
from orrery.adapters.audit_log import AuditLog
from orrery.settings import Settings
log = AuditLog(Settings(home=Path(sys.argv[1])))
for number in range(20):
    log.append("promote", "toy", {"champion": f"{sys.argv[2]}-{number}"}, actor=sys.argv[2])
"""


@pytest.fixture
def log(settings):
    log = AuditLog(settings)
    for number in range(1, 5):
        log.append("promote", "toy", {"champion": str(number)})
    return log


def lines(log):
    return log.path.read_bytes().splitlines(keepends=True)


def test_a_sound_chain(log):
    assert log.verify().records == 4
    assert [record["details"]["champion"] for record in log.records()] == ["1", "2", "3", "4"]
    assert all(record["actor"] and record["at"] for record in log.records())


def test_an_empty_log_is_sound(settings):
    assert AuditLog(settings).verify().records == 0


def edited(found):
    return [found[0], found[1].replace(b'"champion": "2"', b'"champion": "9"'), *found[2:]]


def removed(found):
    return [found[0], *found[2:]]


def moved(found):
    return [found[0], found[2], found[1], found[3]]


def inserted(found):
    return [found[0], found[0], *found[1:]]


def garbled(found):
    return [found[0], b"not json\n", *found[2:]]


@pytest.mark.parametrize("harm", [edited, removed, moved, inserted, garbled])
def test_the_first_bad_record_is_named(log, harm):
    log.path.write_bytes(b"".join(harm(lines(log))))
    with pytest.raises(AuditBroken, match="line 2:"):
        log.verify()
    with pytest.raises(AuditBroken):
        log.append("promote", "toy", {"champion": "5"})


def test_a_record_forged_with_its_own_hash_breaks_the_next_one(log):
    from orrery.adapters.audit_log import digest

    found = lines(log)
    record = json.loads(found[1])
    record["details"]["champion"] = "9"
    record["hash"] = digest({name: value for name, value in record.items() if name != "hash"})
    found[1] = json.dumps(record).encode() + b"\n"
    log.path.write_bytes(b"".join(found))
    with pytest.raises(AuditBroken, match="line 3:"):
        log.verify()


@pytest.mark.parametrize("cut", [1, 40])
def test_a_write_cut_off_by_a_crash_is_dropped_and_said(log, cut):
    log.path.write_bytes(log.path.read_bytes()[:-cut])
    assert log.verify().records == 3
    torn = len(log.verify().torn)
    assert torn > 0
    assert log.append("rollback", "toy", {"champion": "1"})["recovered_bytes"] == torn
    assert log.verify().records == 4
    assert not log.verify().torn


def test_concurrent_writers_keep_one_chain(settings):
    command = [sys.executable, "-c", WRITER, str(settings.home)]
    writers = [subprocess.Popen([*command, name]) for name in ("a", "b", "c")]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert AuditLog(settings).verify().records == 60
