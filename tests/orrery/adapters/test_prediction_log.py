from concurrent.futures import wait

import pytest
from sqlalchemy import event, text

from orrery.adapters.database import open_database
from orrery.adapters.log_writer import LogWriter
from orrery.adapters.prediction_log import LabelRecord, LogReader, LogUnavailable, PredictionRecord


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
def engine(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'log.db'}", durable=False)
    yield engine
    engine.dispose()


@pytest.fixture
def writer(engine):
    writer = LogWriter(engine)
    writer.start()
    yield writer
    writer.close()


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


@pytest.mark.parametrize("together", [True, False])
def test_one_event_has_one_row_and_one_answer(engine, together):
    writer = LogWriter(engine)
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
    writer.close()


def test_the_same_id_in_another_use_case_is_another_event(writer, engine):
    receipts = [writer.submit(prediction(use_case=name)).result(5) for name in ("toy", "other")]
    assert [receipt.fresh for receipt in receipts] == [True, True]


def test_labels_share_the_sequence_and_the_latest_counts(writer, engine):
    records = [prediction("1"), label("1", 1.0), prediction("2"), label("1", 1.0), label("1", 0.0)]
    receipts = [writer.submit(record).result(5) for record in records]
    assert [receipt.sequence for receipt in receipts] == [1, 2, 3, 2, 4]
    assert [logged.label for logged in LogReader(engine).since("toy")] == [0.0, None]


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


def test_the_hook_runs_after_the_commit_and_before_the_answer(engine):
    seen = []
    writer = LogWriter(engine, after_commit=lambda names: seen.append((names, LogReader(engine).last())))
    writer.start()
    writer.submit(prediction()).result(5)
    assert seen == [({"toy"}, 1)]
    writer.close()


def test_a_failing_hook_keeps_no_answer_back(engine):
    writer = LogWriter(engine, after_commit=lambda _: 1 / 0)
    writer.start()
    assert writer.submit(prediction()).result(5).fresh
    assert writer.submit(prediction("2")).result(5).fresh
    writer.close()


def test_numbers_that_a_store_has_seen_are_not_given_again(engine):
    writer = LogWriter(engine, floor=41)
    writer.start()
    assert writer.submit(prediction()).result(5).sequence == 42
    writer.close()


def test_a_full_disk_is_said_and_passes(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'log.db'}", durable=False)
    pages = {"most": 10_000}
    event.listen(engine, "begin", lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={pages['most']}"))
    writer = LogWriter(engine)
    writer.start()
    writer.probe(1)
    pages["most"] = 1
    big = prediction(request="x" * 100_000)
    with pytest.raises(LogUnavailable, match="full"):
        writer.submit(big).result(5)
    pages["most"] = 10_000
    assert writer.submit(big).result(5).fresh
    writer.close()
    engine.dispose()


def test_a_locked_database_is_said_and_passes(writer, engine, tmp_path, monkeypatch):
    other = open_database(f"sqlite:///{tmp_path / 'log.db'}", durable=False)
    with other.begin():
        with pytest.raises(LogUnavailable, match="locked"):
            writer.submit(prediction()).result(10)
        with pytest.raises(LogUnavailable, match="locked"):
            writer.probe(1)
        assert LogReader(engine).last() == 0, "readers do not wait for writers"
    other.dispose()
    assert writer.submit(prediction()).result(5).fresh


def test_two_processes_may_share_a_log(writer, engine):
    second = LogWriter(engine)
    second.start()
    assert writer.submit(prediction("1")).result(5).sequence == 1
    assert second.submit(prediction("2")).result(5).sequence == 2
    assert writer.submit(prediction("2", answer="late")).result(5).answer == "{}"
    second.close()


def test_durable_means_that_the_disk_is_waited_for(tmp_path):
    for durable, expected in ((True, 2), (False, 1)):
        engine = open_database(f"sqlite:///{tmp_path / 'd.db'}", durable)
        with engine.connect() as connection:
            assert connection.execute(text("PRAGMA synchronous")).scalar() == expected
            assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        engine.dispose()


def test_a_log_that_cannot_be_read_says_so(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'empty.db'}", durable=False)
    with pytest.raises(LogUnavailable, match="cannot be read"):
        LogReader(engine).by_id("x")
    engine.dispose()
