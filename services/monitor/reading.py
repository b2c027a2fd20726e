"""Reads a log of the watch again and again; a failure is counted, told once, and told again once it is over."""

import logging
import time
from collections.abc import Callable

from prometheus_client import Counter

from orrery.adapters.prediction_log import LogUnavailable

_log = logging.getLogger(__name__)


class Reading:
    """`at`: when it was last read, None before that."""

    def __init__(self, read: Callable[[], None], errors: Counter) -> None:
        self._read, self._errors = read, errors.labels("log")
        self._away = False
        self.at: float | None = None

    def poll(self) -> None:
        """Read once. What was read before stays when that fails, also on a row that another version wrote."""
        try:
            self._read()
        except (LogUnavailable, LookupError, TypeError, ValueError) as error:
            self._errors.inc()
            if not self._away:
                _log.warning("the watch's log: %r; what it last said is shown", error)
            self._away = True
            return
        if self._away:
            _log.warning("the watch's log is read again")
        self._away = False
        self.at = time.time()
