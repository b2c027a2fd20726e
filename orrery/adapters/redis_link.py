"""Connections to Redis that never hold up who asks: a thread of their own makes them and notices when it is back."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from google.protobuf.message import DecodeError
from redis import RedisError, exceptions
from redis.backoff import NoBackoff
from redis.connection import Connection as TcpConnection
from redis.connection import parse_url
from redis.retry import Retry

from orrery.adapters.online_layout import WAIT_SECONDS
from orrery.adapters.online_store import WRITE_SECONDS, StoreUnavailable
from orrery.settings import SettingsRefused

Command = tuple[str | bytes | int, ...]
_CONNECTIONS = 4
"""as many as a gateway has threads that ask: two that read, one that writes, and one to spare"""
_FIRST_SECONDS = 1.0
"""how long the very first calls wait for a connection, so that a start finds the store that is there"""
_AGAIN_SECONDS = 0.5
_parsed: Callable[[str], dict[str, Any]] = parse_url


class Connection(Protocol):
    """What is used of redis-py's connections, which have no types; its clients would connect in the caller's thread."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def pack_commands(self, commands: Sequence[Command]) -> list[bytes]: ...
    def send_packed_command(self, command: list[bytes], check_health: bool) -> None: ...
    def read_response(self) -> Any: ...
    def can_read(self, timeout: float) -> bool: ...
    def update_current_socket_timeout(self, relaxed_timeout: float) -> None: ...


def call(connection: Connection, *commands: Command) -> list[Any]:
    """The replies to all commands, in one round trip. After an error the connection may not be used again."""
    connection.send_packed_command(connection.pack_commands(commands), False)
    return [connection.read_response() for _ in commands]


@dataclass(frozen=True)
class Address:
    """Which Redis, and as whom."""

    url: str
    password_file: str = ""

    def __post_init__(self) -> None:
        try:
            _parsed(self.url)
        except ValueError as error:
            raise SettingsRefused(f"ORRERY_STORE__URL: {error}") from error

    @property
    def where(self) -> str:
        parsed = _parsed(self.url)
        return f"{parsed.get('host', 'localhost')}:{parsed.get('port', 6379)}"

    def arguments(self, seconds: float) -> dict[str, Any]:
        """How redis-py is to connect: asking nothing of the server that its ACL might not allow, trying once."""
        plain = {"protocol": 2, "driver_info": None, "retry": Retry(NoBackoff(), 0)}
        timeouts = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
        secret = {"password": Path(self.password_file).read_text().strip()} if self.password_file else {}
        return {**_parsed(self.url), **plain, **timeouts, **secret}

    def connect(self, seconds: float) -> Connection:
        """A connection to a Redis that answers. Raises redis.RedisError, OSError."""
        arguments = self.arguments(seconds)
        made: Connection = arguments.pop("connection_class", TcpConnection)(**arguments)
        made.connect()
        try:
            call(made, ("PING",))  # one that still loads its data refuses
        except BaseException:
            made.disconnect()
            raise
        return made

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection for patient work, made by the caller. Raises StoreUnavailable."""
        try:
            connection = self.connect(WAIT_SECONDS)
            try:
                yield connection
            finally:
                connection.disconnect()
        except (RedisError, OSError) as error:
            raise StoreUnavailable(self.explain(error)) from error

    def explain(self, error: Exception) -> str:
        """What is wrong, in a line without the password."""
        if isinstance(error, exceptions.AuthenticationError):
            user = _parsed(self.url).get("username", "default")
            return f"the online store {self.where} refuses the password of user {user}; see ORRERY_STORE__PASSWORD_FILE"
        if isinstance(error, exceptions.ResponseError | DecodeError):
            return f"the online store {self.where} cannot be used ({error}); look at its memory, its users and its data"
        return f"the online store {self.where} does not answer ({error}); is it there?"


class Link:
    """Connections to one Redis. After the first failure every call fails at once, until the thread has a new one."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._ready = threading.Condition(self._lock)
        """for who asks: there is a connection, or there is none to wait for"""
        self._wanted = threading.Condition(self._lock)
        """for the thread: one more is to be made"""
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        self._away: str | None = "the online store has not answered yet; is it there?"
        self._wait_until: float | None = None
        self._closed = False

    @contextmanager
    def connection(self, seconds: float) -> Iterator[Connection]:
        """A connection on which everything takes `seconds` at most. Raises StoreUnavailable."""
        connection = self._take(seconds)
        try:
            connection.update_current_socket_timeout(seconds)
            yield connection
        except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
            self._lose(connection, error)
            raise StoreUnavailable(self._address.explain(error)) from error
        except (RedisError, DecodeError) as error:
            self._drop(connection)
            raise StoreUnavailable(self._address.explain(error)) from error
        except BaseException:
            self._drop(connection)
            raise
        self._give_back(connection)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._forget("the online store was closed")

    def _take(self, seconds: float) -> Connection:
        with self._lock:
            if self._wait_until is None and not self._closed:
                self._wait_until = time.monotonic() + _FIRST_SECONDS
                threading.Thread(target=self._keep, name=f"online store {self._address.where}", daemon=True).start()
            first = (self._wait_until or 0) - time.monotonic()
            self._ready.wait_for(self._settled, max(first, 0 if self._away else seconds))
            if not self._idle:
                raise StoreUnavailable(self._away or "all connections to the online store are busy; try again")
            return self._idle.pop()

    def _settled(self) -> bool:
        return bool(self._idle or (self._away and not self._wait_until))

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if connection in self._open:
                self._idle.append(connection)
                self._ready.notify()
                return
        connection.disconnect()

    def _drop(self, connection: Connection) -> None:
        """This one has replies or watches left on it."""
        connection.disconnect()
        with self._lock:
            self._open.discard(connection)
            self._wanted.notify()

    def _lose(self, connection: Connection, error: Exception) -> None:
        connection.disconnect()
        with self._lock:
            if connection in self._open:
                self._forget(self._address.explain(error))

    def _forget(self, reason: str) -> None:
        """The store is away. Who has a connection of now closes it when done."""
        while self._idle:
            self._idle.pop().disconnect()
        self._open.clear()
        self._away = reason
        self._ready.notify_all()
        self._wanted.notify()

    def _keep(self) -> None:
        """Have connections at hand, until closed."""
        while True:
            with self._lock:
                self._wanted.wait_for(lambda: self._closed or len(self._open) < _CONNECTIONS, _AGAIN_SECONDS)
                if self._closed:
                    return
                if any(_hung_up(each) for each in self._idle):
                    self._forget("the online store has closed its connections; is it there?")
                if len(self._open) == _CONNECTIONS:
                    continue
            try:
                self._welcome(self._address.connect(WRITE_SECONDS))
            except (RedisError, OSError, ValueError) as error:
                with self._lock:
                    self._wait_until = 0
                    if not self._open:
                        self._forget(self._address.explain(error))
                time.sleep(_AGAIN_SECONDS)

    def _welcome(self, connection: Connection) -> None:
        with self._lock:
            if not self._closed:
                self._wait_until, self._away = 0, None
                self._open.add(connection)
                self._idle.append(connection)
                self._ready.notify()
                return
        connection.disconnect()


def _hung_up(connection: Connection) -> bool:
    """Whether an idle connection has something to say, which can only be its end."""
    try:
        return connection.can_read(0)
    except (RedisError, OSError):
        return True
