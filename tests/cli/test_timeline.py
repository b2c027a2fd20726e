"""What `orrery loop` says its champions were worth, and that it fails when the loop did not close."""

from datetime import UTC, datetime, timedelta

import pytest

from cli.main import main
from cli.timeline import BEFORE, NEW, OLD, LoopBroken, Story, better, by_champion
from orrery.adapters.audit_log import AuditLog
from orrery.settings import settings
from orrery.watching import Quality, Watched

CHANGED = datetime(2018, 6, 20, tzinfo=UTC)


def window(day, version, ap, maturity=1.0):
    first = CHANGED + timedelta(days=day)
    quality = Quality(900, maturity, None, realised={"ap": ap})
    return Watched("fraud", first, first + timedelta(days=1), version, "stable", 900, 0, quality=quality)


def test_windows_count_for_the_champion_that_answered_and_only_with_all_labels():
    windows = [
        window(-1, "1", 0.8), window(0, "1", 0.6), window(1, "1", 0.4), window(9, "2", 0.7), window(10, "2", 0, 0.5)
    ]  # fmt: skip
    live = by_champion(windows, CHANGED, "1", "2")
    assert {name: values["ap"] for name, values in live.items()} == {BEFORE: 0.8, OLD: 0.5, NEW: 0.7}
    assert live[OLD]["windows"] == 2
    assert better(live, "ap") is live


def test_a_part_without_a_window_and_a_champion_that_is_no_better_are_failures():
    with pytest.raises(LoopBroken, match=NEW):
        by_champion([window(-1, "1", 0.8), window(0, "1", 0.6)], CHANGED, "1", "2")
    with pytest.raises(LoopBroken, match=r"0\.5 with the new champion and 0\.5 with the old"):
        better({OLD: {"ap": 0.5}, NEW: {"ap": 0.5}}, "ap")


def test_a_home_with_a_history_is_refused_before_anything_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ORRERY_HOME", str(tmp_path))
    settings.cache_clear()
    AuditLog(settings()).append("promote", "fraud", {"champion": "1"})
    with pytest.raises(SystemExit) as ended:
        main(["loop", "fraud", "--out", str(tmp_path / "told")])
    settings.cache_clear()
    assert ended.value.code != 0
    assert "ORRERY_HOME" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_change_that_is_none_is_told_before_anything_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ORRERY_HOME", str(tmp_path))
    settings.cache_clear()
    with pytest.raises(SystemExit) as ended:
        main(["loop", "fraud", "--change", "weather=bad", "--out", str(tmp_path / "told")])
    settings.cache_clear()
    assert ended.value.code != 0
    assert "amount, new-pattern" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LoopBroken, match="--out"):
        Story(tmp_path / "file" / "folder")


def test_moments_are_told_and_kept(capsys, tmp_path):
    story = Story(tmp_path)
    story.tell("the world changes", drift="amount=1.6", nothing="")
    assert story.moments[0]["drift"] == "amount=1.6"
    assert "the world changes: drift amount=1.6" in capsys.readouterr().err
