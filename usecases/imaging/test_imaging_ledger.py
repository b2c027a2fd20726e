"""The ledger: one row, one state, nothing overwritten, whatever comes twice, at once, or after a crash."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from usecases.imaging.ledger import Ending, Ledger, LedgerUnavailable
from usecases.imaging.worklist import ALLOWANCES

NOW = datetime(2026, 1, 5, 10, 20, 30, 123456, tzinfo=UTC)
SCORED = Ending("scored", steps=("removed: PatientName",), prediction_id="p1", model_version="3", decision="finding",
                priority="high")  # fmt: skip
REFUSED = Ending("refused", "not_dicom", "the file has no DICM prefix")


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db")
    yield ledger
    ledger.close_file()


def rows(ledger):
    return ledger._connection.execute("SELECT count(*) FROM films").fetchone()[0]


def test_a_film_from_its_claim_to_its_reading(ledger, tmp_path):
    assert ledger.claim("f1", "s1", "d1", NOW)
    assert ledger.find("f1") is None
    assert ledger.study("s1") == []
    row = ledger.close("f1", SCORED)
    assert row == ledger.find("f1")
    assert (row.study_id, row.ending, row.received_at, row.read_at) == ("s1", SCORED, NOW, None)
    assert ledger.study("s1") == [row]
    later = NOW + timedelta(minutes=5)
    assert ledger.read("f1", later)
    assert ledger.read("f1", later + timedelta(minutes=1))
    assert ledger.find("f1").read_at == later
    assert not ledger.read("none", later)
    assert (tmp_path / "ledger.db").stat().st_mode & 0o777 == 0o600


def test_the_same_name_with_other_pixels_changes_nothing(ledger):
    assert ledger.claim("f1", "s1", "d1", NOW)
    assert not ledger.claim("f1", "s2", "d2", NOW)
    ledger.close("f1", SCORED)
    assert not ledger.claim("f1", "s1", "d2", NOW)
    assert ledger.find("f1").ending == SCORED


def test_what_has_ended_stays_ended(ledger):
    ledger.claim("f1", "s1", "d1", NOW)
    ledger.close("f1", SCORED)
    assert ledger.claim("f1", "s1", "d1", NOW + timedelta(days=1))
    row = ledger.close("f1", Ending("refused", "other"))
    assert (row.ending, row.received_at) == (SCORED, NOW)
    assert rows(ledger) == 1


def test_a_crash_between_claim_and_end_heals_when_the_film_comes_again(ledger, tmp_path):
    ledger.claim("f1", "s1", "d1", NOW)
    ledger.close_file()
    again = Ledger(tmp_path / "ledger.db")
    assert again.find("f1") is None
    assert not again.claim("f1", "s1", "other", NOW)
    assert again.claim("f1", "s1", "d1", NOW)
    assert again.close("f1", SCORED).ending.state == "scored"
    assert rows(again) == 1
    again.close_file()


def test_a_state_is_one_of_three(ledger):
    ledger.claim("f1", "s1", "d1", NOW)
    with pytest.raises(LedgerUnavailable):
        ledger.close("f1", Ending("lost"))
    assert ledger.find("f1") is None
    assert ledger.close("f1", REFUSED).ending == REFUSED


def test_of_many_at_once_one_claims(ledger):
    with ThreadPoolExecutor(8) as threads:
        claimed = list(threads.map(lambda number: ledger.claim("f1", "s1", f"d{number % 4}", NOW), range(40)))
        ended = list(
            threads.map(lambda number: ledger.close("f1", Ending("scored", prediction_id=str(number))), range(9))
        )
    assert sum(claimed) == 10
    assert len({row.ending.prediction_id for row in ended}) == 1
    assert rows(ledger) == 1


def test_only_films_with_a_priority_wait(ledger):
    for name, ending in (("f1", SCORED), ("f2", REFUSED)):
        ledger.claim(name, "s1", name, NOW)
        ledger.close(name, ending)
    assert [row.film_id for row in ledger.unread(ALLOWANCES, NOW, 10)] == ["f1"]
    assert ledger.waiting() == {"high": (1, NOW)}
    assert not ledger.read("f2", NOW)
    ledger.read("f1", NOW)
    assert ledger.waiting() == {}


def test_a_study_is_complete_until_another_film_of_it_comes(ledger):
    ledger.claim("f1", "s1", "d1", NOW)
    ledger.close("f1", SCORED)
    assert ledger.completed() == set()
    ledger.complete("s1", NOW)
    ledger.complete("s1", NOW)
    assert ledger.completed() == {"s1"}
    ledger.claim("f1", "s1", "d1", NOW)
    assert ledger.completed() == {"s1"}
    ledger.claim("f2", "s1", "d2", NOW)
    assert ledger.completed() == set()


def test_a_disk_that_fails_is_said_and_nothing_is_half_done(ledger):
    ledger._connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(LedgerUnavailable):
        [ledger.claim(f"f{number}", "s" * 500, "d", NOW) for number in range(2000)]
    ledger._connection.execute("PRAGMA max_page_count = 100000")
    assert ledger.claim("after", "s1", "d", NOW)


def test_two_ledgers_on_one_file_agree(ledger, tmp_path):
    other = Ledger(tmp_path / "ledger.db")
    assert ledger.claim("f1", "s1", "d1", NOW)
    assert not other.claim("f1", "s1", "d2", NOW)
    other.close("f1", SCORED)
    assert ledger.find("f1").ending == SCORED
    other.close_file()
    assert sqlite3.connect(tmp_path / "ledger.db").execute("PRAGMA journal_mode").fetchone() == ("wal",)
