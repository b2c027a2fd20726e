"""API keys: shown once, kept as hashes beside the prediction log, each with the scopes it may use."""

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from time import monotonic
from typing import Any

from sqlalchemy import BigInteger, Column, Engine, MetaData, String, Table, Text, insert, select, update
from sqlalchemy.exc import DBAPIError

from orrery.adapters.database import cause, open_database, reader
from orrery.errors import OrreryError, TransientError
from orrery.moments import micros, moment
from orrery.settings import Settings

ALL_SCOPES = ("predict:*", "feedback:*", "read", "admin")
_SCOPE = re.compile(r"(predict|feedback):(\*|[a-z][a-z0-9_]*)|read|admin")
_KEY = re.compile(r"ork_([0-9a-f]{8})_[A-Za-z0-9_-]{32,128}")
_REFRESH_SECONDS = 2.0
_UNKNOWN_SECONDS = 0.5

_metadata = MetaData()
_keys = Table(
    "api_keys",
    _metadata,
    Column("key_id", String(8), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)


class KeysUnavailable(TransientError):
    """The table of API keys cannot be read or written now."""


class ScopeRefused(OrreryError):
    """There is no such scope."""


class UnknownKey(OrreryError):
    """There is no key of that id."""


@dataclass(frozen=True)
class ApiKey:
    """What is kept of a key: never the key itself."""

    key_id: str
    """the eight digits after `ork_`"""
    name: str
    digest: str
    scopes: frozenset[str]
    created_at: datetime
    revoked_at: datetime | None = None

    def allows(self, scope: str) -> bool:
        """Whether the key may do `scope`; `predict:*` covers every `predict:<use case>`."""
        return scope in self.scopes or f"{scope.partition(':')[0]}:*" in self.scopes


class ApiKeys:
    """The table of keys. Every call raises KeysUnavailable when the database does not answer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        try:
            _metadata.create_all(engine)
        except DBAPIError as error:
            raise KeysUnavailable(f"the API keys cannot be read: {cause(error)}") from error

    def create(self, name: str, scopes: Iterable[str]) -> tuple[str, ApiKey]:
        """A new key: its text, to be shown once, and what is kept of it. Raises ScopeRefused."""
        asked = sorted(set(scopes))
        for scope in asked:
            if not _SCOPE.fullmatch(scope):
                raise ScopeRefused(f"there is no scope {scope!r}; use {', '.join(ALL_SCOPES)} or predict:<use case>")
        key_id = secrets.token_hex(4)
        text = f"ork_{key_id}_{secrets.token_urlsafe(32)}"
        row = {"name": name, "digest": _digest(text), "scopes": json.dumps(asked), "created_at": _now()}
        self._write(insert(_keys).values(key_id=key_id, **row))
        return text, _key({"key_id": key_id, "revoked_at": None, **row})

    def list(self) -> list[ApiKey]:
        """Every key there is, revoked ones too, oldest first."""
        try:
            with reader(self._engine).connect() as connection:
                rows = connection.execute(select(_keys).order_by(_keys.c.created_at)).mappings().all()
        except DBAPIError as error:
            raise KeysUnavailable(f"the API keys cannot be read: {cause(error)}") from error
        return [_key({**row}) for row in rows]

    def revoke(self, key_id: str) -> None:
        """End a key's life; gateways notice within seconds. Raises UnknownKey."""
        living = (_keys.c.key_id == key_id, _keys.c.revoked_at.is_(None))
        if not self._write(update(_keys).where(*living).values(revoked_at=_now())):
            raise UnknownKey(f"there is no living key {key_id!r}; see the list of keys")

    def _write(self, statement: Any) -> int:
        try:
            with self._engine.begin() as connection:
                return int(connection.execute(statement).rowcount)
        except DBAPIError as error:
            raise KeysUnavailable(f"the API keys cannot be written: {cause(error)}") from error


class KeyRing:
    """The living keys in memory, so that a request costs no query."""

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys
        self._living: Mapping[str, ApiKey] = {}
        self._read_at = float("-inf")
        self._reading = Lock()

    def refresh(self) -> None:
        """Read the living keys. Raises KeysUnavailable and keeps those it has."""
        if not self._reading.acquire(blocking=False):  # a server that is away holds a thread for long: one is enough
            raise KeysUnavailable("the API keys are being read and it takes long; try again in a second")
        try:
            self._read_at = monotonic()
            self._living = {key.key_id: key for key in self._keys.list() if key.revoked_at is None}
        finally:
            self._reading.release()

    def stale(self, unknown: bool = False) -> bool:
        """Whether it is time to read again; sooner when somebody shows an unknown key, but not for each of them."""
        return monotonic() - self._read_at > (_UNKNOWN_SECONDS if unknown else _REFRESH_SECONDS)

    def verify(self, text: str) -> ApiKey | None:
        """The living key of that text, or None."""
        shape = _KEY.fullmatch(text)
        found = self._living.get(shape[1]) if shape else None
        expected = found.digest if found else _digest("")
        return found if hmac.compare_digest(_digest(text), expected) else None


def open_keys(settings: Settings) -> ApiKeys:
    """The keys of an installation."""
    return ApiKeys(open_database(settings.log_url, settings.log.durable))


def _digest(text: str) -> str:
    # A key has 256 random bits, so a slow hash would protect nothing and cost every request.
    return hashlib.sha256(text.encode()).hexdigest()


def _now() -> int:
    return micros(datetime.now(UTC))


def _moment(at: int | None) -> datetime | None:
    return None if at is None else moment(at)


def _key(row: Mapping[str, Any]) -> ApiKey:
    created = _moment(row["created_at"])
    assert created is not None
    return ApiKey(
        key_id=row["key_id"],
        name=row["name"],
        digest=row["digest"],
        scopes=frozenset(json.loads(row["scopes"])),
        created_at=created,
        revoked_at=_moment(row["revoked_at"]),
    )
