import threading
from concurrent.futures import wait
from dataclasses import replace

import pytest
from sqlalchemy import event, text

from orrery.adapters.database import open_database
from orrery.adapters.log_spool import open_log
from orrery.adapters.log_writer import IdentityRefused, LogWriter
from orrery.adapters.prediction_log import LabelRecord, LogReader, LogUnavailable, PredictionRecord
from orrery.adapters.traffic_log import TrafficLog

pytest_plugins = ["postgres_server"]


def prediction(identity="1", answer="{}", use_case="toy", **others):
    values = {
        "prediction_id": f"{use_case}-{identity}-{answer}", "use_case": use_case, "identity": identity,
        "event_time": 5, "recorded_at": 6, "model_version": "1", "run_id": "r", "digest": "d", "data_version": "v",
        "git_commit": "c", "variant": "champion", "degraded": False, "degraded_reason": None, "rules_version": "1",
        "score": 0.5, "request": f'{{"id": {identity}}}', "features": "{}", "sources": "{}", "outputs": "{}",
        "answer": answer,
    }  # fmt: skip
    return PredictionRecord(**values | others)


def label(identity="1", value=1.0):
    return LabelRecord("toy", identity, value, arrived_at=7, recorded_at=8, feedback=f'{{"label": {value}}}')


@pytest.fixture
def engine(log_url):
    engine = open_database(log_url, durable=False)
    yield engine
    engine.dispose()


@pytest.fixture
def written(engine, tmp_path):
    """Makes writers of the log, not started yet."""
    writers = []

    def make(engine=engine, floor=0, **others):
        name = f"spool-{len(writers)}.db"
        writers.append(LogWriter(open_log(engine, tmp_path / name, floor), **others))
        return writers[-1]

    yield make
    for writer in writers:
        writer.close()


@pytest.fixture
def writer(written):
    writer = written()
    writer.start()
    return writer


def test_what_is_written_is_found(writer, engine):
    record = prediction()
    receipt = writer.submit(record).result(5)
    found = LogReader(engine).by_id(record.prediction_id)
    assert receipt.fresh
    assert found is not None
    assert found.record == record
    assert (found.sequence, found.label) == (receipt.sequence, None)
    assert LogReader(engine).by_identity("toy", "1") == found
    assert LogReader(engine).by_id("another") is None


def test_a_group_is_looked_up_by_index_however_long_the_log_is(written, tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'plan.db'}", durable=False)
    asked = []
    writer = written(engine)
    event.listen(engine, "before_cursor_execute", lambda _c, _u, sql, values, *_: asked.append((sql, values)))
    group = [prediction("1"), prediction("2"), label("1"), label("2")]
    futures = [writer.submit(record) for record in group]  # before the thread begins: one transaction takes them
    writer.start()
    wait(futures, 5)
    selects = [(sql, values) for sql, values in asked if sql.startswith("SELECT") and " IN " in sql]
    assert len(selects) == 2
    with engine.connect() as connection:
        for sql, values in selects:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)]
            assert [step for step in plan if "use_case=? AND identity=?" in step] == plan, plan
    engine.dispose()


def test_what_comes_after_a_row_is_found_by_index_however_long_the_log_is(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'plan.db'}", durable=False)
    open_log(engine, tmp_path / "spool.db")
    asked, reader = [], TrafficLog(engine)
    event.listen(engine, "before_cursor_execute", lambda _c, _u, sql, values, *_: asked.append((sql, values)))
    reader.events("toy", 7)
    reader.since("toy", 7)
    reader.latest("toy")
    reader.clock("toy")
    assert len(asked) >= 4
    with engine.connect() as connection:
        for sql, values in asked[:]:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)]
            assert any("by_sequence (use_case=?" in step for step in plan), plan
            assert not any("TEMP B-TREE" in step or step.startswith("SCAN") for step in plan), plan
    engine.dispose()


def test_use_cases_that_share_an_identity_share_nothing_else(written):
    writer = written()
    mine, theirs = prediction(answer="mine"), prediction(answer="theirs", use_case="other")
    futures = [writer.submit(record) for record in (mine, theirs, mine)]
    writer.start()
    assert [future.result(5).answer for future in futures] == ["mine", "theirs", "mine"]
    assert [future.result(5).fresh for future in futures] == [True, True, False]


@pytest.mark.parametrize("together", [True, False])
def test_one_event_has_one_row_and_one_answer(engine, written, together):
    writer = written()
    first, second = prediction(answer="first"), prediction(answer="second")
    if together:  # both wait before the thread begins, so one transaction takes them
        futures = [writer.submit(first), writer.submit(second)]
        writer.start()
    else:
        writer.start()
        wait([writer.submit(first)])
        futures = [writer.submit(first), writer.submit(second)]
    assert [future.result(5).answer for future in futures] == ["first", "first"]
    assert len(LogReader(engine).since("toy")) == 1


def test_the_same_id_in_another_use_case_is_another_event(writer, engine):
    receipts = [writer.submit(prediction(use_case=name)).result(5) for name in ("toy", "other")]
    assert [receipt.fresh for receipt in receipts] == [True, True]


def test_labels_share_the_sequence_and_the_latest_counts(writer, engine):
    records = [prediction("1"), label("1", 1.0), prediction("2"), label("1", 1.0), label("1", 0.0)]
    receipts = [writer.submit(record).result(5) for record in records]
    assert [receipt.sequence for receipt in receipts] == [1, 2, 3, 2, 4]
    assert [logged.label for logged in LogReader(engine).since("toy")] == [0.0, None]


def test_labelled_events_after_a_moment_are_counted_once_each(writer, engine):
    for identity, moment in (("1", 5), ("2", 6), ("3", 7), ("4", 8)):
        writer.submit(prediction(identity, event_time=moment)).result(5)
    writer.submit(prediction("2", use_case="other", event_time=9)).result(5)
    for told in (label("1"), label("2"), label("2", 0.0), label("4"), replace(label("4"), subject="b"), label("none")):
        writer.submit(told).result(5)
    assert [LogReader(engine).labelled("toy", after, 99) for after in (0, 5, 6, 8)] == [3, 2, 1, 0]
    assert LogReader(engine).labelled("other", 0, 99) == 0


def test_events_come_in_order_and_from_where_one_asks(writer, engine):
    for record in (prediction("1"), label("1"), prediction("2"), label("unknown")):
        writer.submit(record).result(5)
    writer.submit(prediction("1", use_case="other")).result(5)
    events = LogReader(engine).events("toy")
    assert [(each.sequence, each.request, each.feedback) for each in events] == [
        (1, '{"id": 1}', None),
        (2, '{"id": 1}', '{"label": 1.0}'),
        (3, '{"id": 2}', None),
        (4, None, '{"label": 1.0}'),
    ]
    assert [each.sequence for each in LogReader(engine).events("toy", 2, limit=1)] == [3]


def test_the_hook_runs_after_the_commit_and_before_the_answer(engine, written):
    seen = []
    writer = written(after_commit=lambda names: seen.append((names, LogReader(engine).last())))
    writer.start()
    writer.submit(prediction()).result(5)
    assert seen == [({"toy"}, 1)]


def test_a_failing_hook_keeps_no_answer_back(written):
    writer = written(after_commit=lambda _: 1 / 0)
    writer.start()
    assert writer.submit(prediction()).result(5).fresh
    assert writer.submit(prediction("2")).result(5).fresh


def test_numbers_that_a_store_has_seen_are_not_given_again(written):
    writer = written(floor=41)
    writer.start()
    assert writer.submit(prediction()).result(5).sequence == 42


def test_labels_that_wait_together_are_taken_in_turn(engine, written):
    writer = written()
    futures = [writer.submit(each) for each in (prediction(), label(value=1.0), label(value=0.0), label(value=1.0))]
    writer.start()
    assert [future.result(5).sequence for future in futures] == [1, 2, 3, 4]
    assert LogReader(engine).by_identity("toy", "1").label == 1.0


@pytest.mark.parametrize("identity", ["x" * 129, "a\0b"])
def test_an_identity_that_not_every_database_keeps_is_refused_alone(engine, written, identity):
    writer = written()
    bad, good = writer.submit(prediction(identity)), writer.submit(prediction("y" * 128))
    writer.start()
    assert good.result(5).fresh
    with pytest.raises(IdentityRefused):
        bad.result(5)


def test_a_full_disk_is_said_and_passes(written, tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'log.db'}", durable=False)
    pages = {"most": 10_000}
    event.listen(engine, "begin", lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={pages['most']}"))
    writer = written(engine)
    writer.start()
    assert writer.probe(1).result(5) == "writable"
    pages["most"] = 1
    big = prediction(request="x" * 100_000)
    with pytest.raises(LogUnavailable, match="full"):
        writer.submit(big).result(5)
    pages["most"] = 10_000
    assert writer.submit(big).result(5).fresh
    engine.dispose()


@pytest.mark.parametrize("log_url", ["sqlite"], indirect=True)
def test_a_locked_database_is_said_and_passes(writer, engine, log_url):
    other = open_database(log_url, durable=False)
    with other.begin():
        with pytest.raises(LogUnavailable, match="locked"):
            writer.submit(prediction()).result(10)
        with pytest.raises(LogUnavailable, match="locked"):
            writer.probe(1).result(10)
        assert LogReader(engine).last() == 0, "readers do not wait for writers"
    other.dispose()
    assert writer.submit(prediction()).result(5).fresh


def test_two_processes_may_share_a_log(writer, written):
    second = written()
    second.start()
    assert writer.submit(prediction("1")).result(5).sequence == 1
    assert second.submit(label("1")).result(5).sequence == 2
    assert writer.submit(prediction("3")).result(5).sequence == 3
    assert second.submit(prediction("4")).result(5).sequence == 4
    assert writer.submit(prediction("4", answer="late")).result(5).answer == "{}"


def test_four_writers_at_once_neither_wait_for_ever_nor_share_a_number(log_url, written, engine):
    engines = [open_database(log_url, durable=False) for _ in range(4)]
    seen = [[] for _ in engines]

    def numbers(engine, into):
        """What a reader that follows the log sees: a number never comes before a smaller one."""
        return lambda _: into.extend(each.sequence for each in LogReader(engine).events("toy", max(into, default=0)))

    barrier = threading.Barrier(4)

    def write(number, writer):
        barrier.wait()
        for turn in range(50):
            records = [prediction(f"{turn % 25}"), prediction(f"{number}{turn:02}000"), label(f"{number}{turn:02}000")]
            futures.extend([writer.submit(record) for record in records])

    futures = []
    writers = [written(each, after_commit=numbers(each, into)) for each, into in zip(engines, seen, strict=True)]
    threads = [threading.Thread(target=write, args=each) for each in enumerate(writers)]
    for each in (*writers, *threads):
        each.start()
    for thread in threads:
        thread.join()
    receipts = [future.result(30) for future in futures]
    fresh = [receipt.sequence for receipt in receipts if receipt.fresh]
    assert sorted(fresh) == list(range(1, 25 + 400 + 1))
    for writer, into in zip(writers, seen, strict=True):
        writer.nudge({"toy"})
        writer.probe(1).result(5)
        writer.probe(1).result(5)
        assert into == list(range(1, 426))
    for each in engines:
        each.dispose()


def test_durable_means_that_the_disk_is_waited_for(tmp_path):
    for durable, expected in ((True, 2), (False, 1)):
        engine = open_database(f"sqlite:///{tmp_path / 'd.db'}", durable)
        with engine.connect() as connection:
            assert connection.execute(text("PRAGMA synchronous")).scalar() == expected
            assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        engine.dispose()


def test_a_log_that_cannot_be_read_says_so(engine):
    with pytest.raises(LogUnavailable, match="cannot be read"):
        LogReader(engine).by_id("x")


def test_labels_of_several_subjects_of_an_event_stand_side_by_side(writer, engine):
    clicks = [replace(label(), subject=subject) for subject in ("click:3", "click:7", "click:3")]
    receipts = [writer.submit(each).result(5) for each in clicks]

    assert [receipt.fresh for receipt in receipts] == [True, True, False]
    assert len(LogReader(engine).events("toy")) == 2


def test_a_log_of_before_subjects_is_brought_up_to_date(written, engine):
    first = written()
    first.start()
    first.submit(label()).result(5)
    first.close()
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE labels DROP COLUMN subject"))

    writer = written()
    writer.start()
    assert not writer.submit(label()).result(5).fresh
    assert writer.submit(replace(label(), subject="click:3")).result(5).fresh
