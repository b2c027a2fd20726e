"""Feast's Redis online store, except that a snapshot takes nothing back that was learned since."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from feast.infra.online_stores.helpers import _mmh3, _redis_key
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from feast.utils import make_tzaware
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import StrictStr
from redis import Redis

from orrery.adapters.online_layout import WAIT_SECONDS
from orrery.adapters.online_store import StoreUnavailable
from orrery.adapters.redis_link import Address, Command, Connection, call
from orrery.adapters.redis_store import commit, learned_field, moment_field, stamp


class KeepLearnedOnlineStoreConfig(RedisOnlineStoreConfig):  # type: ignore[misc]
    """Where the store is. Feast's own connection string would cut a password at a comma."""

    type: Literal["orrery.adapters.feast_redis.KeepLearnedOnlineStore"]
    url: StrictStr
    password_file: StrictStr = ""


@dataclass(frozen=True)
class _Row:
    key: bytes
    moment: datetime
    write: Command


class KeepLearnedOnlineStore(RedisOnlineStore):  # type: ignore[misc]
    """Feast's own writes without looking whether the row it read is still the same, and knows no learned rows."""

    _client: Any = None

    def _get_client(self, online_store_config: KeepLearnedOnlineStoreConfig) -> Any:
        if self._client is None:
            address = _address(online_store_config)
            self._client = Redis.from_url(address.url, **address.arguments(WAIT_SECONDS))
        return self._client

    def online_write_batch(
        self,
        config: Any,
        table: Any,
        data: Sequence[tuple[Any, dict[str, Any], datetime, datetime | None]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Raises StoreUnavailable."""
        rows = {}
        for row in sorted(_rows(config, table.name, data), key=lambda row: row.moment):
            rows[row.key] = row
        until = time.monotonic() + WAIT_SECONDS
        with _address(config.online_store).connection() as connection:
            pending = [list(rows.values())]
            while pending:
                part = pending.pop()
                if _write(connection, table.name, part):
                    continue
                if time.monotonic() > until:
                    raise StoreUnavailable("others wrote the same rows of the online store all the time; try again")
                # somebody learned one of these rows meanwhile: the fewer they are, the rarer that is
                half = (len(part) + 1) // 2
                pending += [some for some in (part[:half], part[half:]) if some]
        if progress:
            progress(len(data))


def _address(config: KeepLearnedOnlineStoreConfig) -> Address:
    return Address(config.url, config.password_file)


def _rows(config: Any, view: str, data: Iterable[tuple[Any, dict[str, Any], datetime, Any]]) -> Iterator[_Row]:
    for entity, values, moment, _ in data:
        key, aware = _redis_key(config.project, entity, config.entity_key_serialization_version), make_tzaware(moment)
        named = ((_mmh3(f"{view}:{name}"), value.SerializeToString()) for name, value in values.items())
        flat = (part for pair in named for part in pair)
        yield _Row(key, aware, ("HSET", key, moment_field(view), stamp(aware), *flat))


def _write(connection: Connection, view: str, rows: Sequence[_Row]) -> bool:
    """Write those rows that know more than the store; False when others wrote meanwhile to what this has read."""
    asked = [("HMGET", row.key, moment_field(view), learned_field(view)) for row in rows]
    _, *replies = call(connection, ("WATCH", *(row.key for row in rows)), *asked)
    newer = [row.write for row, held in zip(rows, replies, strict=True) if not _kept(row, *held)]
    return commit(connection, newer)


def _kept(row: _Row, held: bytes | None, learned: bytes | None) -> bool:
    """A row that has learned something at or after the snapshot's moment knows more than the snapshot."""
    if held is None:
        return False
    snapshot, stored = Timestamp.FromString(stamp(row.moment)), Timestamp.FromString(held)
    ahead = stored.ToNanoseconds() - snapshot.ToNanoseconds()
    return bool(ahead > 0 or (ahead == 0 and learned == held))
