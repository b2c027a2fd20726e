"""The online feature store, read and written in Feast's own layout without Feast."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from orrery.errors import OrreryError, TransientError
from orrery.settings import Settings
from orrery.usecase import Key, Stored, StoredByKey, Update

Teach = Callable[[StoredByKey], Sequence[Update]]
MISSING = Stored(values={}, event_time=None, status="missing")
READ_SECONDS, WRITE_SECONDS = 0.1, 0.5
"""the longest a caller waits, for another's lock or for a server's answer"""


class StoreUnavailable(TransientError):
    """The online store is not there, locked or damaged."""


class NotDeclared(OrreryError):
    """A view or a feature that nobody has applied to the feature store."""


class OnlineStore(Protocol):
    """The latest values by key, and how much of the prediction log they hold."""

    def read(self, keys: Sequence[Key]) -> StoredByKey:
        """All keys in one round trip; a key without values is `missing`. Raises StoreUnavailable, NotDeclared."""

    def apply(self, use_case: str, sequence: int, keys: Sequence[Key], teach: Teach) -> None:
        """Learn row `sequence` of the log: read `keys`, write what `teach` makes of them, remember the sequence.

        One transaction, so a materialization beside it loses nothing; a row applied before changes nothing. `teach` is
        asked again where another writer came first. Raises StoreUnavailable, NotDeclared.
        """

    def applied(self, use_case: str) -> int:
        """The last row of the log that was applied, 0 if none. Raises StoreUnavailable."""

    def materialized(self) -> Mapping[str, datetime]:
        """View -> the moment up to which it was last materialized. Raises StoreUnavailable."""

    def close(self) -> None: ...


def open_online_store(settings: Settings) -> OnlineStore:
    """The store of these settings. Opens nothing yet: a store that is not there is found out when it is used."""
    if settings.store.url:
        from orrery.adapters.redis_store import RedisOnlineStore

        return RedisOnlineStore(settings.store.url, settings.store.password_file, settings.store.project)
    from orrery.adapters.sqlite_store import SqliteOnlineStore

    return SqliteOnlineStore(online_path(settings), settings.store.project)


def online_path(settings: Settings) -> Path:
    return settings.feature_folder / "online.db"


def materialized_until(settings: Settings, views: Collection[str]) -> datetime | None:
    """The moment up to which all of these views are online; None before each of them was materialized once."""
    try:
        return filled_until(settings, views)
    except StoreUnavailable:  # the first materialization makes it
        return None


def filled_until(settings: Settings, views: Collection[str]) -> datetime | None:
    """The same, of a store that is there. Raises StoreUnavailable."""
    store = open_online_store(settings)
    try:
        known = store.materialized()
    finally:
        store.close()
    moments = [known[view] for view in views if view in known]
    return min(moments, default=None) if len(moments) == len(views) else None
