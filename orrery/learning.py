"""What served events teach the online store: each event once, in the order of the log."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from orrery.adapters.prediction_log import LoggedEvent, LogReader
from orrery.errors import OrreryError
from orrery.usecase import Key, Serving, StoredByKey, Update

logger = logging.getLogger(__name__)
_BATCH = 500


class Learns(Protocol):
    """An online store that remembers up to which row of the log it has learned."""

    def applied(self, use_case: str) -> int: ...

    def apply(
        self,
        use_case: str,
        sequence: int,
        keys: Sequence[Key],
        teach: Callable[[StoredByKey], Sequence[Update]],
    ) -> None: ...


class Learner:
    """Brings the store up to the log. The log is the truth: what the store has missed, it gets here."""

    def __init__(
        self,
        servings: Mapping[str, Serving],
        log: LogReader,
        store: Learns,
        failed: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._servings = servings
        self._log = log
        self._store = store
        self._failed = failed
        self.behind: set[str] = set()
        """use cases whose store lacks rows of the log, as far as is known"""

    def catch_up(self, use_cases: Iterable[str]) -> None:
        """Apply all rows that the store has not seen. A store or a log that is away is counted, for a later call."""
        for use_case in use_cases:
            try:
                while self._learn(use_case) == _BATCH:
                    pass
            except OrreryError as error:
                if use_case not in self.behind:
                    logger.warning("%s: the online store lags behind the log: %s", use_case, error)
                self.behind.add(use_case)
                self._failed("unavailable")
            else:
                self.behind.discard(use_case)

    def _learn(self, use_case: str) -> int:
        """Apply the next rows; how many there were."""
        events = self._log.events(use_case, self._store.applied(use_case), _BATCH)
        for event in events:
            self._apply(use_case, event)
        return len(events)

    def _apply(self, use_case: str, event: LoggedEvent) -> None:
        try:
            keys, teach = _lesson(self._servings[use_case], event)
            self._store.apply(use_case, event.sequence, keys, teach)
        except OrreryError:
            raise
        except Exception:  # one event that cannot be learned must not keep all later ones from it
            logger.exception("%s: row %d of the log teaches nothing", use_case, event.sequence)
            self._failed("refused")
            self._store.apply(use_case, event.sequence, [], lambda _: [])


def _lesson(serving: Serving, event: LoggedEvent) -> tuple[Sequence[Key], Callable[[StoredByKey], Sequence[Update]]]:
    request = serving.request.model_validate_json(event.request) if event.request else None
    if event.feedback is None:
        assert request is not None
        return serving.keys(request), lambda stored: serving.learn(request, stored)
    feedback = serving.feedback.model_validate_json(event.feedback)
    keys = dict.fromkeys([*(serving.keys(request) if request else ()), *serving.keys(feedback)])
    return list(keys), lambda stored: serving.learn_label(feedback, request, stored)
