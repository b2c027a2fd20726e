"""A log on a server that dies, freezes and comes back."""

import json
import sqlite3
import threading
import time
from contextlib import suppress
from dataclasses import replace

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from test_prediction_log import label, prediction

from orrery.adapters.database import open_database
from orrery.adapters.log_spool import SpooledLog, open_log
from orrery.adapters.log_writer import LogWriter
from orrery.adapters.prediction_log import LogReader, LogUnavailable

pytest_plugins = ["postgres_server"]


def eventually(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class Gateway:
    """What a gateway does with a log, and what it is told of it."""

    def __init__(self, url, folder):
        self.url, self.spool = url, folder / "spool.db"
        self.failures, self.taught = [], []
        self.engine = self.log = self.writer = None

    def start(self):
        self.engine = open_database(self.url, durable=True)
        self.log = open_log(self.engine, self.spool, 0, lambda: self.failures.append(1))
        self.writer = LogWriter(self.log, self.taught.append)
        self.writer.start()
        return self

    def tell(self, *records):
        return [future.result(10) for future in [self.writer.submit(record) for record in records]]

    def whole(self):
        return self.tell_state() == "writable"

    def tell_state(self):
        return self.writer.probe(1).result(10)

    def rows(self):
        return LogReader(self.engine).since("toy", limit=100_000)

    def stop(self):
        if self.writer is not None:
            self.writer.close()
            self.engine.dispose()
            self.writer = None


@pytest.fixture
def url(postgres):
    return postgres.database()


@pytest.fixture
def gateway(url, tmp_path):
    gateway = Gateway(url, tmp_path).start()
    yield gateway
    gateway.stop()


def numbered(rows):
    return [(logged.sequence, logged.record.identity, logged.record.answer) for logged in rows]


def test_a_file_needs_no_spool(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'log.db'}", durable=True)
    log = open_log(engine, tmp_path / "spool.db")
    assert not isinstance(log, SpooledLog)
    assert not (tmp_path / "spool.db").exists()
    engine.dispose()


def test_while_the_server_is_away_the_spool_takes_all_and_gives_it_back(gateway, postgres):
    assert gateway.tell(prediction("1"))[0].sequence == 1
    postgres.kill()
    started = time.monotonic()
    assert [each.sequence for each in gateway.tell(prediction("2"), prediction("3"), label("2"))] == [0, 0, 0]
    assert time.monotonic() - started < 1.0, "nobody waits for a server that is away"
    assert (gateway.log.away, gateway.log.spooled, gateway.failures) == (True, 3, [1])
    assert gateway.tell_state() == "spooling: 3 rows wait"
    taught = len(gateway.taught)
    assert taught == 1, "nothing can be taught from a log that is away"
    for reader in (gateway.log.reader(), gateway.log.own_reader()):
        with pytest.raises(LogUnavailable):
            reader.last()
    postgres.start()
    eventually(gateway.whole)
    assert gateway.taught[taught:] == [{"toy"}]
    assert numbered(gateway.rows()) == [(1, "1", "{}"), (2, "2", "{}"), (3, "3", "{}")]
    assert gateway.rows()[1].label == 1.0
    assert (gateway.log.away, gateway.log.spooled) == (False, 0)
    assert gateway.log.reader().last() == gateway.log.own_reader().last() == 4
    assert gateway.tell(prediction("4"))[0].sequence == 5


def test_an_idle_gateway_notices_by_its_probe(gateway, postgres):
    postgres.kill()
    assert gateway.tell_state() == "spooling: 0 rows wait"
    postgres.start()
    eventually(gateway.whole)


def test_a_repeated_event_has_one_answer_before_in_and_after_an_outage(gateway, postgres):
    assert gateway.tell(prediction("1", answer="first"))[0].answer == "first"
    for outage in range(2):
        new = f"{outage}7"
        postgres.kill()
        asked = gateway.tell(prediction("1", answer="b"), prediction(new, answer="c"), prediction(new, answer="d"))
        assert [(each.answer, each.fresh) for each in asked] == [("first", False), ("c", True), ("c", False)]
        assert gateway.tell(prediction(new, answer="e"))[0].answer == "c"
        postgres.start()
        eventually(gateway.whole)
        assert gateway.tell(prediction(new, answer="f"))[0].answer == "c"
    postgres.kill()
    assert gateway.tell(prediction("07", answer="g"))[0].answer == "c", "what was moved is remembered too"
    postgres.start()
    eventually(gateway.whole)
    assert [logged.record.answer for logged in gateway.rows()] == ["first", "c", "c"]


def test_what_another_gateway_wrote_meanwhile_comes_first(gateway, postgres, url, tmp_path):
    (tmp_path / "other").mkdir()
    postgres.kill()
    gateway.tell(prediction("1", answer="spooled"), prediction("2"))
    go_on = threading.Event()
    move, gateway.log._move = gateway.log._move, lambda: move() if go_on.is_set() else set()
    postgres.start()
    other = Gateway(url, tmp_path / "other").start()
    other.tell(prediction("1", answer="other"), prediction("3", answer="other"))
    eventually(lambda: not gateway.log.away)
    assert gateway.tell(prediction("3", answer="late"))[0].answer == "other"
    with pytest.raises(LogUnavailable, match="not whole yet"):
        gateway.log.reader().by_identity("toy", "2")
    go_on.set()
    eventually(gateway.whole)
    assert [row[1:] for row in numbered(gateway.rows())] == [("1", "other"), ("3", "other"), ("2", "{}")]
    other.stop()


def test_a_long_outage_moves_bit_by_bit_while_requests_go_on(gateway, postgres):
    postgres.kill()
    gateway.tell(*[prediction(str(number), answer=str(number)) for number in range(1_000)])
    postgres.start()
    slowest, asked = 0.0, 1_000
    while not gateway.whole():
        started = time.monotonic()
        assert gateway.tell(prediction("5", answer="late"))[0].answer == "5"
        assert gateway.tell(prediction(str(asked), answer=str(asked)))[0].fresh
        slowest, asked = max(slowest, time.monotonic() - started), asked + 1
    rows = gateway.rows()
    assert [logged.sequence for logged in rows] == list(range(1, asked + 1))
    assert [logged.record.answer for logged in rows] == [str(number) for number in range(asked)]
    assert slowest < 2.0


def test_a_frozen_server_delays_one_group_and_then_nobody(gateway, postgres):
    with postgres.frozen():
        started = time.monotonic()
        gateway.tell(prediction("1"))
        assert time.monotonic() - started < 2.8, "predictions wait three seconds"
        started = time.monotonic()
        gateway.tell(prediction("2"))
        assert time.monotonic() - started < 1.0
    eventually(gateway.whole)
    assert [logged.record.identity for logged in gateway.rows()] == ["1", "2"]


def test_a_server_that_nobody_else_lets_write_is_a_server_that_is_away(gateway, url):
    other = open_database(url, durable=True)
    with other.begin():
        gateway.tell(prediction("1"))
        assert gateway.log.spooled == 1
    other.dispose()
    eventually(gateway.whole)
    assert len(gateway.rows()) == 1


def test_a_broken_connection_of_the_writers_own_reader_is_replaced(gateway, postgres):
    gateway.tell(prediction("1"))
    postgres.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'orrery'")
    with suppress(LogUnavailable):
        gateway.log.own_reader().last()
    gateway.writer.nudge({"toy"})
    eventually(lambda: gateway.failures)
    eventually(gateway.whole)
    assert gateway.log.own_reader().last() == 1


def crashed(gateway):
    """The same gateway, after a kill -9: what its process had in memory is gone."""
    gateway.stop()
    return Gateway(gateway.url, gateway.spool.parent)


def test_what_an_earlier_process_left_moves_before_anything_else(gateway, postgres):
    postgres.kill()
    gateway.tell(prediction("1", answer="a"), label("1", 1.0), label("1", 0.0))
    after = crashed(gateway)
    with pytest.raises(Exception, match=r"on 127\.0\.0\.1:\d+ does not answer"):
        after.start()
    postgres.start()
    after.start()
    assert after.tell(prediction("2"))[0].sequence == 4
    assert numbered(after.rows()) == [(1, "1", "a"), (4, "2", "{}")]
    assert after.tell_state() == "writable"
    after.stop()


def test_a_crash_between_the_commit_and_the_forgetting_is_harmless(gateway, postgres):
    postgres.kill()
    labels = [replace(label("1", value), recorded_at=at) for at, value in enumerate((1.0, 0.0, 1.0))]
    gateway.tell(prediction("1", answer="a"), *labels, prediction("2", answer="b"))
    gateway.log._spool.forget = lambda _: 1 / 0
    postgres.start()
    eventually(lambda: len(gateway.rows()) == 2 if postgres.answers() else False)
    after = crashed(gateway)
    assert left(after.spool) == 5
    after.start()
    assert left(after.spool) == 0
    assert numbered(after.rows()) == [(1, "1", "a"), (5, "2", "b")]
    assert [each.sequence for each in LogReader(after.engine).events("toy")] == [1, 2, 3, 4, 5]
    assert after.rows()[0].label == 1.0
    after.stop()


def left(path):
    with sqlite3.connect(path) as connection:
        count = sum(connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("predictions", "labels"))
    connection.close()
    return count


def test_a_commit_whose_word_was_lost_is_not_taken_twice(gateway, postgres):
    """The server commits and dies before it says so: the group is in the log, and in the spool."""

    def die(connection, cursor, statement, *_):
        if statement == "COMMIT" and gateway.log.spooled == 0 and not died:
            died.append(1)
            postgres.kill()
            raise OperationalError(statement, {}, Exception("its word was lost"))

    died = []
    event.listen(gateway.engine, "after_cursor_execute", die)
    told = [prediction("1", answer="a"), label("1", 1.0), label("1", 0.0)]
    futures = [gateway.writer.submit(record) for record in told]
    assert [future.result(10).answer for future in futures] == ["a", "", ""]
    assert gateway.log.spooled
    postgres.start()
    eventually(gateway.whole)
    events = [(each.sequence, each.feedback) for each in LogReader(gateway.engine).events("toy")]
    assert events == [(1, None), (2, json.dumps({"label": 1.0})), (3, json.dumps({"label": 0.0}))]
    assert gateway.rows()[0].label == 0.0


def test_a_full_disk_under_the_spool_is_said_and_passes(gateway, postgres):
    pages = {"most": 1}
    event.listen(
        gateway.log._spool._engine, "begin", lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={pages['most']}")
    )
    postgres.kill()
    big = prediction("1", request="x" * 100_000)
    with pytest.raises(LogUnavailable, match="full"):
        gateway.tell(big)
    pages["most"] = 100_000
    assert gateway.tell(big)[0].fresh
    assert gateway.log.spooled == 1
    postgres.start()
    eventually(gateway.whole)
    assert len(gateway.rows()) == 1


def test_rows_that_cannot_be_deleted_from_the_spool_do_not_keep_the_log_away(gateway, postgres):
    postgres.kill()
    gateway.tell(prediction("1"))

    def refuse(connection, cursor, statement, *_):
        if statement.startswith("DELETE FROM predictions"):
            raise OperationalError(statement, {}, Exception("database or disk is full"))

    event.listen(gateway.log._spool._engine, "before_cursor_execute", refuse)
    postgres.start()
    eventually(gateway.whole)
    assert left(gateway.spool) == 1
    assert gateway.tell(prediction("2"))[0].sequence == 2
    after = crashed(gateway)
    after.start()
    assert (left(after.spool), len(after.rows())) == (0, 2)
    after.stop()
