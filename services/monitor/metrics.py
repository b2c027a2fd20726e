"""The monitor's metrics: what was last seen, as a whole, so that no series outlives what it is about."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from services.monitor.flows import Orchestration, PrefectUnavailable
from services.monitor.reading import Reading

_DEPLOYMENT = ("flow", "use_case")
OUTCOMES = ("forwarded", "repeated", "ignored", "unknown", "forged", "refused", "failed")
"""what became of an alert, or of a request that is not one"""


class Monitor(Collector):
    """Looks when it is told to, and shows what it last saw."""

    def __init__(self, look: Callable[[], Orchestration], pool: str) -> None:
        self._look, self._pool = look, pool
        self._seen: Orchestration | None = None
        self.registry = CollectorRegistry()
        self.errors = Counter(
            "monitor_errors_total", "Failures of what the monitor asks", ["dep"], registry=self.registry
        )
        self._reading = Reading(
            self._ask,
            self.errors.labels("prefect"),
            (PrefectUnavailable,),
            failed="%s; what was last seen is shown until it does",
            again="Prefect answers again",
        )
        self.poll = self._reading.poll
        self.alerts = Counter(
            "alerts_received_total", "Alerts and requests at /alerts", ["outcome"], registry=self.registry
        )
        for outcome in OUTCOMES:
            self.alerts.labels(outcome)
        ProcessCollector(registry=self.registry)
        self.registry.register(self)

    def _ask(self) -> None:
        self._seen = self._look()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        seen, at = self._seen, self._reading.at
        if seen is None or at is None:
            return
        yield GaugeMetricFamily("monitor_last_success_timestamp_seconds", "When Prefect last answered", value=at)
        yield from _flows(seen)
        yield from _workers(seen, self._pool)


def _flows(seen: Orchestration) -> Iterator[GaugeMetricFamily]:
    runs = GaugeMetricFamily("flow_runs", "Runs of the last seven days by state", labels=(*_DEPLOYMENT, "state"))
    running = GaugeMetricFamily(
        "flow_run_running_seconds", "Age of the oldest run that is still running; 0: none is", labels=_DEPLOYMENT
    )
    success = GaugeMetricFamily(
        "flow_run_last_success_timestamp_seconds", "When a run last completed, whatever its verdict", labels=_DEPLOYMENT
    )
    failure = GaugeMetricFamily(
        "flow_run_last_failure_timestamp_seconds", "When a run last failed or crashed", labels=_DEPLOYMENT
    )
    for flow in seen.flows:
        labels = (flow.flow, flow.use_case)
        for state, count in flow.runs.items():
            runs.add_metric((*labels, state), count)
        running.add_metric(labels, flow.running_seconds)
        if flow.last_success:
            success.add_metric(labels, flow.last_success.timestamp())
        if flow.last_failure:
            failure.add_metric(labels, flow.last_failure.timestamp())
    yield from (runs, running, success, failure)


def _workers(seen: Orchestration, pool: str) -> Iterator[GaugeMetricFamily]:
    online = GaugeMetricFamily("flow_workers_online", "Workers that Prefect hears from", labels=["pool"])
    online.add_metric([pool], seen.workers_online)
    heartbeat = GaugeMetricFamily(
        "flow_worker_last_heartbeat_timestamp_seconds", "When a worker was last heard of", labels=["pool"]
    )
    if seen.last_heartbeat:
        heartbeat.add_metric([pool], seen.last_heartbeat.timestamp())
    yield from (online, heartbeat)
