"""What the audit log says of releases, as metrics: what alerts led to, what the gate asked, and the last success."""

import logging
from collections import Counter as Tally
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from orrery.adapters.audit_log import AuditBroken, AuditLog
from orrery.retraining import APPROVED, DECLINED, PROMOTED, REFUSED, STARTED, SUGGESTED, history
from services.monitor.reading import Reading

_DECISIONS = {STARTED: "started", SUGGESTED: "suggested", DECLINED: "declined", APPROVED: "approved"}
_VERDICTS = {REFUSED: "refused", **dict.fromkeys(PROMOTED, "promoted")}
_RESULTS = sorted({*_DECISIONS.values(), *_VERDICTS.values()})
_Key = tuple[str, ...]


class ReleaseMetrics(Collector):
    """Reads the audit log when it has grown. A chain that is broken is told, and what was last read is shown."""

    def __init__(self, audit: AuditLog, errors: Counter) -> None:
        self._audit = audit
        self._state: tuple[int, int] | None = None
        self._reading = Reading(
            self._read,
            errors.labels("audit"),
            (AuditBroken, OSError),
            failed="the audit log: %s",
            again="the audit log is whole again",
            level=logging.ERROR,
        )
        self.poll = self._reading.poll
        self._retrainings: Mapping[_Key, int] = {}
        self._answers: Mapping[_Key, int] = {}
        self._successes: Mapping[str, float] = {}
        self._refusals: Mapping[str, int] = {}

    def _read(self) -> None:
        state = self._audit.state
        if state != self._state:
            self._count(list(self._audit.records()))
            self._state = state

    def _count(self, records: list[dict[str, Any]]) -> None:
        found = Tally(key for record in records for key in _retraining(record))
        # a counter that begins with 1 has not risen, for Prometheus
        cases = sorted({record["subject"] for record in records if record["action"] in {*_DECISIONS, *_VERDICTS}})
        self._retrainings = {(case, result): found[case, result] for case in cases for result in _RESULTS}
        self._refusals = {case: history(records, case)[1] for case in cases}
        self._answers = Tally(key for record in records for key in _gate(record))
        self._successes = {
            record["subject"]: datetime.fromisoformat(record["at"]).timestamp()
            for record in records
            if record["action"] in PROMOTED and "gate" in record["details"]
        }

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        retrainings = CounterMetricFamily(
            "retrain_total", "Retrainings that alerts asked for, by what became of them", labels=("use_case", "result")
        )
        gate = CounterMetricFamily(
            "promotion_gate_total", "What the gate asked of releases", labels=("use_case", "gate", "result")
        )
        success = GaugeMetricFamily(
            "retrain_last_success_timestamp_seconds", "When a release was last promoted", labels=("use_case",)
        )
        for counted, values in ((retrainings, self._retrainings), (gate, self._answers)):
            for key, value in sorted(values.items()):
                counted.add_metric(key, value)
        refusals = GaugeMetricFamily(
            "retrain_refusals_in_a_row", "Releases that alerts started and the gate refused", labels=("use_case",)
        )
        for name, at in self._successes.items():
            success.add_metric((name,), at)
        for name, number in self._refusals.items():
            refusals.add_metric((name,), number)
        sound = GaugeMetricFamily("audit_log_sound", "0: a record was edited, removed or cannot be read")
        sound.add_metric((), float(not self._reading.away))
        yield from (retrainings, gate, success, refusals, sound)


def _retraining(record: Mapping[str, Any]) -> Iterator[_Key]:
    """Decisions of alerts, and verdicts of releases that have one as their cause."""
    action, caused = record["action"], bool(record["details"].get("cause"))
    result = _DECISIONS.get(action) or (_VERDICTS.get(action) if caused else None)
    if result:
        yield record["subject"], result


def _gate(record: Mapping[str, Any]) -> Iterator[_Key]:
    for name, passed in record["details"].get("gate", {}).items():
        yield record["subject"], name, "passed" if passed else "refused"
