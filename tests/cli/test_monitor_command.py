"""`orrery monitor` and `--drift`: what a person sees of the watch, and how the world is changed for it."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from cli.drift_option import Drift, DriftRefused, drifted
from cli.main import main
from orrery.adapters.database import open_database
from orrery.adapters.report_log import Kept, ReportLog
from orrery.adapters.watch_log import WatchLog
from orrery.settings import settings
from orrery.watching import ColumnDrift, Quality, Watched
from usecases import training

FIRST = datetime(2018, 8, 1, tzinfo=UTC)


@pytest.fixture
def watched(tmp_path, monkeypatch):
    monkeypatch.setenv("ORRERY_HOME", str(tmp_path))
    settings.cache_clear()
    found = WatchLog(open_database(settings().log_url, durable=False))
    column = ColumnDrift("amount", 0.4, 0.1, 0.0, 0.02, 0.7)
    quality = Quality(900, 0.9, 604_800.0, {"ap": 0.5}, {"ap": 0.8}, ("ap",))
    for day in range(3):
        first = FIRST + timedelta(days=day)
        about = Watched(
            "fraud", first, first + timedelta(days=1), "3", "drift", 1_000, 2, (column,), share=0.7, quality=quality
        )
        found.write(replace(about, sustained=day > 0, reasons=("amount moved",)), FIRST)
    yield
    settings.cache_clear()


def test_windows_with_their_reasons_and_an_exit_status_for_sustained_drift(watched, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["monitor", "fraud"])
    assert ended.value.code == 3
    shown = capsys.readouterr().out
    assert "2018-08-03" in shown
    assert "sustained" in shown


def test_json_has_every_input(watched, capsys):
    with pytest.raises(SystemExit):
        main(["monitor", "fraud", "--json", "--windows", "1"])
    [window] = json.loads(capsys.readouterr().out)
    assert window["inputs"][0]["psi"] == 0.4
    assert window["quality"]["parted"] == ["ap"]


def test_the_newest_report_is_where_a_browser_finds_it(watched, capsys):
    last, pages = FIRST + timedelta(days=1), ("data-drift.html", "classification.html")
    engine = open_database(settings().log_url, durable=False)
    for day in range(2):
        first = FIRST + timedelta(days=day)
        ReportLog(engine).write(Kept("fraud", first, last, "3", "r", "mlflow-artifacts:/x", pages, 900, False, last))
    engine.dispose()
    with pytest.raises(SystemExit):
        main(["monitor", "fraud"])
    told = "".join(capsys.readouterr().err.split())
    for page in pages:
        assert f"http://127.0.0.1:8000/reports/fraud/20180802T000000Z/{page}" in told
    assert "20180801T" not in told


def test_nothing_watched_yet_says_how_to(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ORRERY_HOME", str(tmp_path))
    settings.cache_clear()
    with pytest.raises(SystemExit) as ended:
        main(["monitor", "fraud"])
    settings.cache_clear()
    assert ended.value.code == 0
    assert "--now" in capsys.readouterr().err


def test_a_drift_changes_the_rows_from_its_day_on():
    case = training("fraud")
    rows = pd.DataFrame(
        {"TX_DATETIME": pd.date_range("2018-08-09", periods=4, freq="12h", tz="UTC", unit="us"), "TX_AMOUNT": 10.0}
    )
    change = Drift.read("amount=1.3@2018-08-10", case)
    assert drifted(rows, [change], case)["TX_AMOUNT"].tolist() == [10.0, 10.0, 13.0, 13.0]


@pytest.mark.parametrize("text", ["amount", "amount=1.3", "amount=1.3@soon", "weather=bad@2018-08-10", ""])
def test_a_drift_that_is_none_is_refused_with_what_there_is(text):
    with pytest.raises(DriftRefused, match=r"amount, new-pattern|NAME=VALUE@DATE"):
        Drift.read(text, training("fraud"))
