"""Reads something again and again; a failure is counted, told once, and told again once it is over."""

import logging
import time
from collections.abc import Callable

from prometheus_client import Counter

from orrery.adapters.prediction_log import LogUnavailable

_log = logging.getLogger(__name__)
LOG_FAILURES = (LogUnavailable, LookupError, TypeError, ValueError)
"""of a log of the watch: it is away, or has a row that another version wrote"""


class Reading:
    """`at`: when it was last read, None before that. `away`: whether the last attempt failed."""

    def __init__(
        self,
        read: Callable[[], None],
        errors: Counter,
        failures: tuple[type[Exception], ...] = LOG_FAILURES,
        *,
        failed: str = "the watch's log: %r; what it last said is shown",
        again: str = "the watch's log is read again",
        level: int = logging.WARNING,
    ) -> None:
        """`failed` and `again`: what is told, the first with a place for the failure."""
        self._read, self._errors, self._failures = read, errors, failures
        self._failed, self._again, self._level = failed, again, level
        self.away = False
        self.at: float | None = None

    def poll(self) -> None:
        """Read once. What was read before stays when that fails."""
        try:
            self._read()
        except self._failures as error:
            self._errors.inc()
            if not self.away:
                _log.log(self._level, self._failed, error)
            self.away = True
            return
        if self.away:
            _log.log(self._level, self._again)
        self.away, self.at = False, time.time()
