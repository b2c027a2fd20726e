"""`python -m services.monitor`: the monitor as a process."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from orrery.adapters.audit_log import AuditLog
from orrery.adapters.database import open_database
from orrery.adapters.orchestrator import Orchestrator
from orrery.adapters.watch_log import SkewLog, WatchLog
from orrery.settings import settings
from orrery.telemetry import log_to_stderr
from services.monitor.flows import Prefect
from services.monitor.metrics import Monitor
from services.monitor.release_metrics import ReleaseMetrics
from services.monitor.skew_metrics import SkewMetrics
from services.monitor.watch_metrics import WatchMetrics
from services.monitor.webhook import Webhook

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = 5
    """seconds until a client that says nothing is left"""

    def log_message(self, *_: object) -> None:
        """A scrape every few seconds is no news."""


def application(registry: CollectorRegistry, alerts: "WSGIApplication") -> "WSGIApplication":
    """`/metrics`, `/healthz` and `/alerts`."""
    metrics: WSGIApplication = make_wsgi_app(registry)

    def answer(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start)
        if path == "/alerts":
            return alerts(environ, start)
        known = path == "/healthz"
        start("200 OK" if known else "404 Not Found", [("Content-Type", "text/plain")])
        return [b"ok\n" if known else b"/metrics, /healthz and /alerts are here\n"]

    return answer


def _poll_for_ever(poll: Callable[[], None], seconds: float, ended: SimpleQueue[int]) -> None:
    try:
        while True:
            poll()
            time.sleep(seconds)
    finally:
        ended.put(1)


def main() -> None:
    """Poll and serve until SIGTERM or SIGINT; a question to Prefect that hangs does not keep it."""
    current = settings()
    log_to_stderr(current.log_level)
    ended: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.put(0))
    where, prefect = current.monitor, Prefect(current)
    monitor = Monitor(prefect.look, current.prefect.pool)
    log = open_database(current.log_url, current.log.durable)
    watch = WatchMetrics(WatchLog(log), current.watch.seconds, monitor.errors)
    skew = SkewMetrics(SkewLog(log), monitor.errors)
    releases = ReleaseMetrics(AuditLog(current), monitor.errors)
    shown = (watch, releases, skew) if current.watch.sample else (watch, releases)
    for found in shown:
        monitor.registry.register(found)
    alerts = Webhook(Orchestrator(current), current.alerts_token, monitor.alerts)
    server = make_server(where.host, where.port, application(monitor.registry, alerts), _Server, _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for poll in (monitor.poll, *(each.poll for each in shown)):  # none waits for what the other asks
        threading.Thread(target=_poll_for_ever, args=(poll, where.poll_seconds, ended), daemon=True).start()
    sys.exit(ended.get())


if __name__ == "__main__":
    main()
