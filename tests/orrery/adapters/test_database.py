import sqlite3
import threading
import time

import pytest
from sqlalchemy.exc import DBAPIError

from orrery.adapters.database import (
    READ_SECONDS,
    WRITE_SECONDS,
    DatabaseAway,
    DatabaseRefused,
    cause,
    check_reachable,
    kept,
    locked,
    open_database,
    reader,
)

pytest_plugins = ["postgres_server"]


@pytest.fixture
def engine(postgres):
    engine = open_database(postgres.database(), durable=True)
    yield engine
    engine.dispose()


def test_a_database_that_the_log_cannot_live_in_is_refused():
    with pytest.raises(DatabaseRefused, match="cannot live in mysql; use"):
        open_database("mysql://host/name", durable=True)


@pytest.fixture
def new_file(tmp_path):
    """The path of a database whose journal no one has changed yet, and a connection that writes to it."""
    path = tmp_path / "new.db"
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    writer.execute("CREATE TABLE t (x)")
    writer.execute("BEGIN IMMEDIATE")
    yield path, writer
    writer.close()


def test_a_new_file_that_another_process_writes_is_waited_for(new_file):
    path, writer = new_file
    end = threading.Timer(0.2, lambda: writer.execute("COMMIT"))
    end.start()
    engine = open_database(f"sqlite:///{path}", durable=False)
    with reader(engine).connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    end.join()
    engine.dispose()


def test_a_new_file_that_another_process_keeps_is_not_waited_for_for_ever(new_file):
    path, _ = new_file
    engine = open_database(f"sqlite:///{path}", durable=False)
    started = time.monotonic()
    with pytest.raises(DBAPIError, match="database is locked"), engine.connect():
        pass
    assert 0.9 < time.monotonic() - started < 5


def test_a_server_that_is_away_is_named_in_one_line():
    engine = open_database("postgresql://orrery@127.0.0.1:1/orrery", durable=True)
    with pytest.raises(DatabaseAway, match=r"orrery on 127\.0\.0\.1:1 does not answer: .* ORRERY_LOG__URL") as away:
        check_reachable(engine)
    assert "\n" not in str(away.value)


def test_a_transaction_keeps_other_writers_out_for_a_second_and_no_readers(engine):
    with engine.begin():
        started = time.monotonic()
        with pytest.raises(DBAPIError, match="lock timeout"), engine.begin():
            pass
        assert 0.9 < time.monotonic() - started < 5
        with reader(engine).connect() as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    with engine.begin():
        pass


def test_a_process_that_froze_in_a_transaction_does_not_keep_the_lock(engine, postgres):
    with engine.begin() as connection:
        limits = "SELECT current_setting('idle_in_transaction_session_timeout'), current_setting('statement_timeout')"
        assert connection.exec_driver_sql(limits).one() == ("5s", f"{READ_SECONDS:.0f}s")


def test_after_a_restart_of_the_server_reads_go_on(engine, postgres):
    with reader(engine).connect() as connection:
        connection.exec_driver_sql("SELECT 1")
    postgres.kill()
    postgres.start()
    with reader(engine).connect() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1


def test_a_kept_connection_that_broke_stays_broken(engine, postgres):
    connection = kept(engine)
    with locked(connection):
        pass
    postgres.kill()
    postgres.start()
    with pytest.raises(DBAPIError):
        connection.exec_driver_sql("SELECT 1")
    assert connection.invalidated
    with pytest.raises(Exception, match="invalid transaction"):
        connection.exec_driver_sql("SELECT 1")
    connection.close()


def test_a_server_that_is_frozen_is_not_waited_for_for_ever(engine, postgres):
    connection = kept(engine)
    with postgres.frozen():
        started = time.monotonic()
        with pytest.raises(DBAPIError) as error:
            connection.exec_driver_sql("SELECT 1")
        assert WRITE_SECONDS <= time.monotonic() - started < WRITE_SECONDS + 1
        assert cause(error.value) == f"the server said nothing for {WRITE_SECONDS} s"
        with pytest.raises(DatabaseAway, match="timeout"):
            check_reachable(engine)
    connection.close()
