"""The online store of several machines: Feast's Redis layout, read and written without Feast."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from redis.exceptions import ResponseError

from orrery.adapters.feast_values import decode, encode, entity_key
from orrery.adapters.online_layout import OnlineView, declaration, declared
from orrery.adapters.online_store import MISSING, READ_SECONDS, WRITE_SECONDS, NotDeclared, StoreUnavailable, Teach
from orrery.adapters.redis_link import Address, Command, Connection, Link, call
from orrery.usecase import Key, Stored, StoredByKey, Update


@dataclass(frozen=True)
class HashPart:
    """One view's fields in the hash of an entity, which holds those of every view of that entity."""

    view: OnlineView
    project: str

    @cached_property
    def moment(self) -> bytes:
        return moment_field(self.view.name)

    @cached_property
    def learned(self) -> bytes:
        return learned_field(self.view.name)

    @cached_property
    def fields(self) -> dict[str, bytes]:
        return {feature: bytes.fromhex(name) for feature, name in self.view.fields.items()}

    def key(self, entity: int | str) -> bytes:
        return entity_key(self.view.join_key, entity) + self.project.encode()

    def ask(self, entity: int | str) -> Command:
        return ("HMGET", self.key(entity), self.moment, *self.fields.values())

    def found(self, reply: Sequence[bytes | None]) -> Stored:
        """What the reply to `ask` says."""
        moment, *values = reply
        if moment is None:
            return MISSING
        known = {name: decode(value) for name, value in zip(self.fields, values, strict=True) if value is not None}
        return Stored(known, Timestamp.FromString(moment).ToDatetime(tzinfo=UTC), "present")

    def write(self, update: Update) -> Command:
        if set(update.values) != set(self.view.kinds):
            raise NotDeclared(
                f"{self.view.name} has the features {sorted(self.view.kinds)}, not {sorted(update.values)}"
            )
        values = (
            part
            for name, value in update.values.items()
            for part in (self.fields[name], encode(value, self.view.kinds[name]))
        )
        moment = stamp(update.event_time)
        return ("HSET", self.key(update.key.entity), self.moment, moment, self.learned, moment, *values)


def moment_field(view: str) -> bytes:
    """Where Feast keeps a row's event time."""
    return f"_ts:{view}".encode()


def learned_field(view: str) -> bytes:
    """Where who learns repeats the event time. A snapshot does not, so the two differ once it has replaced the row."""
    return f"_learned:{view}".encode()


def stamp(moment: datetime) -> bytes:
    """A moment as Feast keeps it, to the microsecond."""
    held = Timestamp()
    held.FromDatetime(moment)
    return bytes(held.SerializeToString())


def commit(connection: Connection, writes: Iterable[Command]) -> bool:
    """All writes or, when what the connection watched has changed, none. Raises redis.RedisError."""
    *_, done = call(connection, ("MULTI",), *writes, ("EXEC",))
    for reply in done or ():
        if isinstance(reply, ResponseError):
            raise reply
    return done is not None


class RedisOnlineStore:
    """Feast's Redis layout. Any thread may use it."""

    def __init__(self, url: str, password_file: str, project: str) -> None:
        self._link = Link(Address(url, password_file))
        self._project = project
        self._parts: dict[str, HashPart] = {}

    def read(self, keys: Sequence[Key]) -> StoredByKey:
        if not keys:
            return {}
        with self._link.connection(READ_SECONDS) as connection:
            parts = [self._part(connection, key.view) for key in keys]
            replies = call(connection, *(part.ask(key.entity) for part, key in zip(parts, keys, strict=True)))
            return _stored(keys, parts, replies)

    def apply(self, use_case: str, sequence: int, keys: Sequence[Key], teach: Teach) -> None:
        until = time.monotonic() + WRITE_SECONDS
        with self._link.connection(WRITE_SECONDS) as connection:
            while not self._learn(connection, use_case, sequence, keys, teach):
                if time.monotonic() > until:
                    raise StoreUnavailable("others wrote the same rows of the online store all the time; try again")

    def applied(self, use_case: str) -> int:
        with self._link.connection(READ_SECONDS) as connection:
            (held,) = call(connection, ("GET", _applied(self._project, use_case)))
            return int(held or 0)

    def materialized(self) -> Mapping[str, datetime]:
        with self._link.connection(READ_SECONDS) as connection:
            (held,) = call(connection, ("HGETALL", _materialized(self._project)))
            return {
                view.decode(): datetime.fromisoformat(moment.decode())
                for view, moment in zip(held[::2], held[1::2], strict=True)
            }

    def close(self) -> None:
        self._link.close()

    def _learn(self, connection: Connection, use_case: str, sequence: int, keys: Sequence[Key], teach: Teach) -> bool:
        """Whether the row is applied; not, when another wrote meanwhile what this has read."""
        mark = _applied(self._project, use_case)
        parts = [self._part(connection, key.view) for key in keys]
        asked = [part.ask(key.entity) for part, key in zip(parts, keys, strict=True)]
        watch = ("WATCH", mark, *(command[1] for command in asked))
        _, before, *replies = call(connection, watch, ("GET", mark), *asked)
        if sequence <= int(before or 0):
            call(connection, ("UNWATCH",))
            return True
        updates = teach(_stored(keys, parts, replies))
        writes = [self._part(connection, update.key.view).write(update) for update in updates]
        return commit(connection, [*writes, ("SET", mark, sequence)])

    def _part(self, connection: Connection, name: str) -> HashPart:
        if name not in self._parts:
            (held,) = call(connection, ("HGETALL", _views(self._project)))
            self._parts = {view.name: HashPart(view, self._project) for view in declared(held[1::2]).values()}
        if name not in self._parts:
            raise NotDeclared(f"the online store has no view {name!r}; apply the use case's feature views first")
        return self._parts[name]


class RedisLayout:
    """Feast's hashes, written by our subclass of its store, and our keys beside them."""

    def __init__(self, url: str, password_file: str, project: str) -> None:
        self._address, self._project = Address(url, password_file), project

    def feast_config(self) -> dict[str, Any]:
        store = "orrery.adapters.feast_redis.KeepLearnedOnlineStore"
        return {"type": store, "url": self._address.url, "password_file": self._address.password_file}

    def prepare(self, views: Iterable[OnlineView]) -> None:
        self._note(_views(self._project), {view.name: declaration(view) for view in views})

    def note_materialized(self, view: str, moment: datetime) -> None:
        self._note(_materialized(self._project), {view: moment.astimezone(UTC).isoformat()})

    def _note(self, key: str, values: Mapping[str, str]) -> None:
        if values:
            with self._address.connection() as connection:
                call(connection, ("HSET", key, *(part for item in values.items() for part in item)))


def _stored(keys: Sequence[Key], parts: Sequence[HashPart], replies: Sequence[Any]) -> StoredByKey:
    return {key: part.found(reply) for key, part, reply in zip(keys, parts, replies, strict=True)}


# like Feast's keys these end in the project, so that one pattern of the ACL file covers them all


def _applied(project: str, use_case: str) -> str:
    return f"_applied:{use_case}:{project}"


def _materialized(project: str) -> str:
    return f"_materialized:{project}"


def _views(project: str) -> str:
    return f"_views:{project}"
