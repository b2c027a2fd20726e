"""The access log under many writers, crashes and hands that should not touch it."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from orrery.adapters.access_log import AccessLog, verify
from orrery.adapters.audit_log import AuditBroken, digest

KEY = bytes(range(32))
WRITER = """
import sys
from pathlib import Path
from orrery.adapters.access_log import AccessLog
log = AccessLog(Path(sys.argv[1]), bytes(range(32)))
for number in range(int(sys.argv[2])):
    log.append("answer", f"film-{number}", {"decision": "finding"}, "tester")
"""


@pytest.fixture
def log(tmp_path):
    log = AccessLog(tmp_path / "access.jsonl", KEY)
    for number in range(1, 6):
        log.append("answer", f"film-{number}", {"decision": "finding"}, "ward")
    return log


def anchor(log):
    return log.path.with_name("access.jsonl.head")


def lines(log):
    return log.path.read_bytes().splitlines(keepends=True)


def forged(line, **changed):
    """A record changed by somebody who knows how hashes are made, but not the key."""
    record = json.loads(line) | changed
    record.pop("hash")
    return json.dumps(record | {"hash": digest(record)}).encode() + b"\n"


def test_a_sound_log_goes_on_in_another_process_life(log):
    assert verify(log.path, KEY).records == 5
    record = AccessLog(log.path, KEY).append("read", "film-1", {"what": "mask"}, "ward")
    assert (record["sequence"], record["actor"], record["subject"]) == (6, "ward", "film-1")
    log.append("read", "film-2", {}, "ward")
    assert verify(log.path, KEY).records == 7
    assert log.path.stat().st_mode & 0o777 == 0o600


def edited(found):
    return [found[0], found[1].replace(b'"finding"', b'"no_finding"'), *found[2:]]


def edited_and_hashed(found):
    return [found[0], forged(found[1], details={"decision": "no_finding"}), *found[2:]]


def deleted(found):
    return [found[0], *found[2:]]


def moved(found):
    return [found[0], found[2], found[1], *found[3:]]


def garbled(found):
    return [found[0], b"not json\n", *found[2:]]


@pytest.mark.parametrize("harm", [edited, edited_and_hashed, deleted, moved, garbled])
def test_the_first_bad_record_is_named(log, harm):
    log.path.write_bytes(b"".join(harm(lines(log))))
    with pytest.raises(AuditBroken, match="line 2:"):
        verify(log.path, KEY)


@pytest.mark.parametrize(("left", "line"), [(4, 5), (1, 2), (0, 1)])
def test_a_log_that_was_cut_is_told_and_not_written_on(log, left, line):
    log.path.write_bytes(b"".join(lines(log)[:left]))
    with pytest.raises(AuditBroken, match=f"line {line}: records were cut off the end, there were 5"):
        verify(log.path, KEY)
    for writer in (log, AccessLog(log.path, KEY)):
        with pytest.raises(AuditBroken, match="cut off"):
            writer.append("read", "film-1", {}, "ward")


def test_a_record_cut_in_its_middle_is_cut_off(log):
    log.path.write_bytes(log.path.read_bytes()[:-5])
    with pytest.raises(AuditBroken, match="line 5: records were cut off"):
        verify(log.path, KEY)


def test_an_anchor_made_for_the_cut_log_is_none(log):
    cut = lines(log)[:4]
    log.path.write_bytes(b"".join(cut))
    values = {"records": 4, "head": json.loads(cut[-1])["hash"], "size": log.path.stat().st_size}
    anchor(log).write_text(json.dumps(values | {"hmac": digest(values)}))
    with pytest.raises(AuditBroken, match="was changed"):
        verify(log.path, KEY)


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{}", b'{"records": 5}'])
def test_without_its_anchor_a_log_is_not_trusted(log, content):
    anchor(log).unlink() if content is None else anchor(log).write_bytes(content)
    for look in (lambda: verify(log.path, KEY), lambda: AccessLog(log.path, KEY).append("read", "f", {}, "ward")):
        with pytest.raises(AuditBroken, match="gone or no anchor"):
            look()


def test_a_record_added_without_the_key_is_told(log):
    last = json.loads(lines(log)[-1])
    with log.path.open("ab") as file:
        file.write(forged(lines(log)[-1], sequence=6, prev_hash=last["hash"]))
    with pytest.raises(AuditBroken, match="line 6:"):
        verify(log.path, KEY)
    with pytest.raises(AuditBroken, match="line 6:"):
        log.append("read", "film-1", {}, "ward")


def test_another_key_does_not_fit(log):
    with pytest.raises(AuditBroken):
        verify(log.path, bytes(32))


def test_a_write_cut_off_by_a_crash_is_dropped_and_said(log):
    with log.path.open("ab") as file:
        file.write(b'{"sequence": 6, "at": "20')
    assert verify(log.path, KEY).torn
    assert log.append("read", "film-1", {}, "ward")["recovered_bytes"] == 25
    assert "recovered_bytes" not in log.append("read", "film-1", {}, "ward")
    assert (verify(log.path, KEY).records, verify(log.path, KEY).torn) == (7, b"")


def test_a_crash_before_the_anchor_loses_nothing(log):
    before = anchor(log).read_bytes()
    log.append("read", "film-1", {}, "ward")
    anchor(log).write_bytes(before)
    assert verify(log.path, KEY).records == 6
    assert AccessLog(log.path, KEY).append("read", "film-2", {}, "ward")["sequence"] == 7


def test_a_killed_writer_leaves_a_sound_log(tmp_path):
    path = tmp_path / "access.jsonl"
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), "1000000"])
        seen = path.stat().st_size if path.exists() else 0
        deadline = time.monotonic() + 30
        while not (path.exists() and path.stat().st_size > seen + 20_000) and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        written = verify(path, KEY).records
        assert written > 0
        assert AccessLog(path, KEY).append("read", "film", {}, "ward")["sequence"] == written + 1


def test_many_threads_and_processes_keep_one_chain(tmp_path):
    path = tmp_path / "access.jsonl"
    others = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), "40"]) for _ in range(2)]
    log = AccessLog(path, KEY)
    with ThreadPoolExecutor(8) as threads:
        records = list(threads.map(lambda number: log.append("answer", f"f-{number}", {}, "ward"), range(200)))
    assert [other.wait() for other in others] == [0, 0]
    assert len({record["sequence"] for record in records}) == 200
    assert [record["subject"] for record in records] == [f"f-{number}" for number in range(200)]
    assert verify(path, KEY).records == 280


def test_what_cannot_be_written_fails_for_its_own_caller_only(log):
    with pytest.raises(TypeError):
        log.append("read", "film", {"what": object()}, "ward")
    assert log.append("read", "film", {}, "ward")["sequence"] == 6


def test_a_full_disk_is_said_and_heals(log, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            log.append("read", "film", {}, "ward")
    assert log.append("read", "film", {}, "ward")["sequence"] == 7
    assert verify(log.path, KEY).records == 7


def test_an_append_reads_nothing_of_what_was_written(log):
    """What it costs does not grow with the log: a harm far back is found by whoever verifies, not by who writes."""
    log.path.write_bytes(b"".join(edited(lines(log))).replace(b"no_finding", b"findinG"))
    for writer in (log, AccessLog(log.path, KEY)):
        writer.append("read", "film-1", {}, "ward")
    with pytest.raises(AuditBroken, match="line 2:"):
        verify(log.path, KEY)
