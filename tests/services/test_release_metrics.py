"""What the audit log says of releases, as the monitor shows it."""

import logging
from datetime import datetime

import pytest
from prometheus_client import CollectorRegistry, Counter

from orrery.adapters.audit_log import AuditLog
from orrery.settings import Settings
from services.monitor.release_metrics import ReleaseMetrics

RESULTS = ("started", "suggested", "declined", "approved", "refused", "promoted")


@pytest.fixture
def audit(tmp_path):
    return AuditLog(Settings(home=tmp_path))


@pytest.fixture
def shown(audit):
    registry = CollectorRegistry()
    metrics = ReleaseMetrics(audit, Counter("monitor_errors_total", "-", ["dep"], registry=registry))
    registry.register(metrics)

    def look(name: str, **labels: str) -> float | None:
        metrics.poll()
        return registry.get_sample_value(name, labels)

    return look


def test_nothing_was_written_yet(shown):
    assert shown("retrain_total", use_case="a", result="started") is None
    assert shown("audit_log_sound") == 1
    assert shown("monitor_errors_total", dep="audit") == 0


def test_retrainings_are_counted_by_what_became_of_them(audit, shown):
    for action in ("declined", "declined", "started"):
        audit.append(f"retrain {action}", "a", {"cause": "k"})
    audit.append("release refused", "a", {"cause": "k"})
    audit.append("promote", "a", {"champion": "2", "cause": "l"})
    audit.append("promote", "a", {"champion": "3"})  # no alert asked for it
    audit.append("key added", "a", {})

    counted = {result: shown("retrain_total", use_case="a", result=result) for result in RESULTS}
    assert shown("retrain_refusals_in_a_row", use_case="a") == 0  # a promotion came after it
    assert counted == {"declined": 2, "started": 1, "refused": 1, "promoted": 1, "suggested": 0, "approved": 0}


def test_what_the_gate_asked_is_counted_and_a_promotion_by_hand_is_no_success(audit, shown):
    audit.append("release refused", "a", {"gate": {"ap at least": False, "latency": True}})
    released = audit.append("promote", "a", {"champion": "1", "gate": {"ap at least": True, "latency": True}})
    audit.append("promote", "a", {"champion": "0"})

    assert shown("promotion_gate_total", use_case="a", gate="latency", result="passed") == 2
    assert shown("promotion_gate_total", use_case="a", gate="ap at least", result="refused") == 1
    assert shown("promotion_gate_total", use_case="a", gate="ap at least", result="passed") == 1
    at = datetime.fromisoformat(released["at"]).timestamp()
    assert shown("retrain_last_success_timestamp_seconds", use_case="a") == at


def test_a_chain_that_was_edited_is_told_and_what_was_read_stays(audit, shown, caplog):
    audit.append("retrain started", "a", {"cause": "k"})
    assert shown("retrain_total", use_case="a", result="started") == 1
    sound = audit.path.read_text()
    audit.path.write_text(sound.replace("started", "stopped"))

    with caplog.at_level(logging.ERROR):
        assert shown("audit_log_sound") == 0
        assert shown("retrain_total", use_case="a", result="started") == 1
    assert len(caplog.records) == 1
    assert shown("monitor_errors_total", dep="audit") == 3

    audit.path.write_text(sound)
    audit.append("retrain declined", "a", {"cause": "k"})
    assert shown("audit_log_sound") == 1
    assert shown("retrain_total", use_case="a", result="declined") == 1


def test_refusals_in_a_row_are_told(audit, shown):
    for cause in ("k", "l"):
        audit.append("retrain started", "a", {"cause": cause})
        audit.append("release refused", "a", {"cause": cause})

    assert shown("retrain_refusals_in_a_row", use_case="a") == 2
