"""Logs as JSON lines, and the metrics of the gateway."""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
"""with the edges that promises are made in"""
_STAGE_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_SHARES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_SCORES = (*_SHARES, 2.0, 5.0, 10.0, 20.0, 50.0)
STAGES = ("auth", "features", "inference", "post", "log")
CLASSES = {"ok": "good", "fallback": "good", "invalid": "client", "shed": "bad", "timeout": "bad", "error": "bad"}
"""outcome -> its class: only good and bad count for the promise"""
Ends = Mapping[tuple[str, str, str], float]
"""version, variant, outcome -> requests that ended so"""


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to_stderr(level: str) -> None:
    """Write this process's logs to stderr, one JSON object a line. What requests carry is never logged."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("httpx").setLevel(logging.WARNING)


class GatewayMetrics:
    """Every metric of the gateway, in a registry of its own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(name, meaning, labels, registry=registry)

        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(name, meaning, labels, registry=registry)

        def histogram(name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, meaning, labels, registry=registry, buckets=buckets)

        self.predictions = counter(
            "gateway_predictions_total", "Requests by how they ended", "use_case", "version", "variant", "outcome"
        )
        self.duration = histogram(
            "gateway_prediction_duration_seconds", "Request to answer", _SECONDS, "use_case", "outcome_class"
        )
        self.stages = histogram("gateway_stage_duration_seconds", "Time by stage", _STAGE_SECONDS, "use_case", "stage")
        self.feedback = counter("gateway_feedback_total", "Labels by how they ended", "use_case", "outcome")
        self.inflight = gauge("gateway_inflight", "Requests in work")
        self.inflight_limit = gauge("gateway_inflight_limit", "The most requests in work at once")
        self.queue_wait = histogram("gateway_queue_wait_seconds", "Wait for a place", _STAGE_SECONDS)
        self.deadline = gauge("gateway_deadline_seconds", "When an answer is too late", "use_case")
        self.breaker_state = gauge("gateway_breaker_state", "1: it fails, and is asked now and then only", "dep")
        self.dependency_errors = _from_zero(counter("gateway_dependency_errors_total", "Failed needs", "dep", "kind"))
        self.log_spooled_rows = gauge("gateway_log_spooled_rows", "Answered, and waiting for the log's database")
        self.rule_hits = counter("gateway_rule_hits_total", "Rules that fired", "use_case", "rule", "outcome")
        self.serving_info = gauge(
            "model_serving_info", "1: it answers now", "use_case", "version", "run_id", "digest", "source", "device"
        )
        self.alias_info = gauge("registry_alias_info", "1 for the version behind it", "use_case", "alias", "version")
        self.alias_passed = gauge("registry_alias_gate_passed", "1: it passed the gate", "use_case", "alias")
        self.loaded_at = gauge("model_loaded_timestamp_seconds", "When what answers was loaded", "use_case")
        self.trained_at = gauge("model_trained_timestamp_seconds", "When what answers was trained", "use_case")
        self.loads = counter("model_load_total", "Bundles by what became of them", "use_case", "result")
        self.polled_at = gauge("registry_poll_last_success_timestamp_seconds", "Last look at the alias", "use_case")
        self.decisions = counter("gateway_decisions_total", "Answers by what they decide", "use_case", "decision")
        self.events = counter("use_case_events_total", "Events of a use case's own", "use_case", "event", "outcome")
        self.levels = gauge("use_case_level", "How much there is of a use case's own", "use_case", "what")
        self.scores = histogram("prediction_score", "The watched output", _SCORES, "use_case")
        self.feature_status = counter("feature_lookup_total", "Feature reads", "use_case", "feature_view", "status")

    def of(self, use_case: str) -> "UseCaseMetrics":
        """The metrics of one use case, labels bound."""
        return UseCaseMetrics(self, use_case)


def _from_zero(errors: Counter) -> Counter:
    """With the failures that are known beforehand at 0: a rate does not see the first one of a series that begins."""
    for known in (("store", "timeout"), ("catalogue", "unavailable")):
        errors.labels(*known)
    return errors


class UseCaseMetrics:
    """One use case's share of the metrics: a label is looked up once, not at every request."""

    def __init__(self, all_of_them: GatewayMetrics, use_case: str) -> None:
        self._all = all_of_them
        self._use_case = use_case
        self._counts: dict[tuple[str, str, str], Counter] = {}
        self._statuses: dict[tuple[str, str], Counter] = {}
        self._durations = {
            name: all_of_them.duration.labels(use_case, name) for name in dict.fromkeys(CLASSES.values())
        }
        self._stages = {name: all_of_them.stages.labels(use_case, name) for name in STAGES}
        self._aliased: tuple[str, bool] | None = None

    @cached_property
    def _scores(self) -> Histogram:
        return self._all.scores.labels(self._use_case)

    def ended(self, outcome: str, seconds: float, version: str | None = None, variant: str = "") -> None:
        """One request ended; exactly one call a request."""
        key = (version or "", variant, outcome)
        if key not in self._counts:
            self._counts[key] = self._all.predictions.labels(self._use_case, *key)
        self._counts[key].inc()
        self._durations[CLASSES[outcome]].observe(seconds)

    def ends(self) -> Ends:
        """How requests have ended since the start."""
        counts = self._counts.copy()
        return {key: next(iter(counter.collect())).samples[0].value for key, counter in counts.items()}

    def stage(self, name: str, seconds: float) -> None:
        self._stages[name].observe(seconds)

    def scored(self, value: float) -> None:
        self._scores.observe(value)

    def found(self, statuses: Mapping[str, str]) -> None:
        """How each feature view's values were found."""
        for key in statuses.items():
            if key not in self._statuses:
                self._statuses[key] = self._all.feature_status.labels(self._use_case, *key)
            self._statuses[key].inc()

    def rule_hit(self, rule: str, outcome: str) -> None:
        self._all.rule_hits.labels(self._use_case, rule, outcome).inc()

    def decided(self, decision: str) -> None:
        self._all.decisions.labels(self._use_case, decision).inc()

    def told(self, outcome: str) -> None:
        """One feedback ended."""
        self._all.feedback.labels(self._use_case, outcome).inc()

    def failed(self, dependency: str, kind: str) -> None:
        self._all.dependency_errors.labels(dependency, kind).inc()

    def load(self, result: str) -> None:
        """A bundle was served, rejected or could not be fetched."""
        self._all.loads.labels(self._use_case, result).inc()

    def serves(
        self, *, version: str, run_id: str, digest: str, source: str, device: str, trained: float, now: float
    ) -> None:
        """Another bundle answers from now on; series of the version before last go."""
        self._all.serving_info.remove_by_labels({"use_case": self._use_case})
        self._all.serving_info.labels(self._use_case, version, run_id, digest, source, device).set(1)
        self._all.loaded_at.labels(self._use_case).set(now)
        self._all.trained_at.labels(self._use_case).set(trained)

    def polled(self, alias: str, behind: tuple[str, bool] | None, now: float) -> None:
        """The registry said which version the alias points to, and whether that passed the gate."""
        self._all.polled_at.labels(self._use_case).set(now)
        if behind == self._aliased:
            return
        for series in (self._all.alias_info, self._all.alias_passed):
            series.remove_by_labels({"use_case": self._use_case, "alias": alias})
        if behind is not None:
            version, passed = behind
            self._all.alias_info.labels(self._use_case, alias, version).set(1)
            self._all.alias_passed.labels(self._use_case, alias).set(passed)
        self._aliased = behind
