"""`python -m services.gateway`: the gateway as a process."""

import logging
import signal
import sys
from types import FrameType

import uvicorn

from orrery.adapters.database import check_reachable, open_database
from orrery.errors import OrreryError
from orrery.settings import Settings, settings
from orrery.telemetry import log_to_stderr
from services.gateway.app import create_app

logger = logging.getLogger(__name__)
_KEEP_ALIVE_SECONDS = 75
"""longer than clients and load balancers keep an idle connection, or theirs meets a closing one and is lost"""


class _Server(uvicorn.Server):
    """Says that it is not ready any more before it stops to listen."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        state = self.config.loaded_app.state if hasattr(self.config.loaded_app, "state") else None
        if state is not None and hasattr(state, "runtime"):
            state.runtime.draining = True
        super().handle_exit(sig, frame)


def _check_log(current: Settings) -> None:
    engine = open_database(current.log_url, current.log.durable)
    try:
        check_reachable(engine)
    finally:
        engine.dispose()


def main() -> None:
    """Serve until SIGTERM or SIGINT; requests in work are answered first."""
    current = settings()
    log_to_stderr(current.log_level)
    try:
        _check_log(current)
    except OrreryError as error:
        logger.critical("%s", error)  # in one line; who started this process starts it again
        sys.exit(1)
    app = create_app(current)
    config = uvicorn.Config(
        app,
        host=current.gateway.host,
        port=current.gateway.port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(current.gateway.drain_seconds),
    )
    server = _Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))  # uvicorn raises again the signal it has ended for
    server.run()


if __name__ == "__main__":
    main()
