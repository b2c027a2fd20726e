"""TorchServe: scores rows for the gateway, and takes versions from who deploys."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import httpx

from orrery.adapters.array_bytes import BytesRefused, outputs_from_bytes, rows_to_bytes
from orrery.adapters.torch_archive import archive_path, served_as, write_archive
from orrery.bundle import Bundle
from orrery.errors import OrreryError, TransientError
from orrery.settings import Settings
from orrery.usecase import Array, Outputs

_CONNECT_SECONDS = 0.1
_START_SECONDS = 180.0
"""the longest a version may take until its processes have loaded it"""
_SCORE_SECONDS = 60.0


class ModelServerUnavailable(TransientError):
    """TorchServe did not answer in time, or not with what was asked for."""


class VersionRefused(OrreryError):
    """TorchServe could not load a version."""


@dataclass(frozen=True)
class Scores:
    """What TorchServe made of rows of inputs."""

    outputs: Outputs
    device: str


def is_configured(settings: Settings) -> bool:
    """Whether models run in a TorchServe here: wanted, and elsewhere or installed."""
    where = settings.torchserve
    there = bool(where.url) or (where.enabled != "never" and where.installed)
    return there and settings.gateway.model_server == "torchserve"


class Breaker:
    """Spares callers a server that fails: opens after 3 failures in a row, or when half of 20 calls in 10 s failed.

    While it is open, every 2 s one call goes to look; the first that works closes it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: deque[tuple[float, bool]] = deque()
        self._open_until: float | None = None

    @property
    def is_open(self) -> bool:
        return self._open_until is not None

    def admits(self) -> bool:
        """Whether a call may go now."""
        now = self._clock()
        if self._open_until is None:
            return True
        if now < self._open_until:
            return False
        self._open_until = now + 2
        return True

    def saw(self, worked: bool) -> None:
        """A call has ended."""
        now = self._clock()
        if worked and self._open_until is not None:
            self._open_until = None
            self._calls.clear()
        self._calls.append((now, worked))
        while self._calls[0][0] < now - 10:
            self._calls.popleft()
        failed = [not good for _, good in self._calls]
        if (len(failed) >= 3 and all(failed[-3:])) or (len(failed) >= 20 and 2 * sum(failed) >= len(failed)):
            self._open_until = now + 2


class TorchServe:
    """Asks for scores from inside an event loop."""

    def __init__(self, settings: Settings) -> None:
        timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)
        limits = httpx.Limits(max_connections=settings.gateway.inflight, max_keepalive_connections=16)
        self._client = httpx.AsyncClient(
            base_url=settings.torchserve_url, timeout=timeout, limits=limits, trust_env=False
        )
        self._breaker = Breaker()

    @property
    def spared(self) -> bool:
        """Whether it failed so often that it is asked now and then only."""
        return self._breaker.is_open

    async def close(self) -> None:
        await self._client.aclose()

    async def score(self, use_case: str, version: str, digest: str, inputs: Array, seconds: float) -> Scores:
        """Score rows, shape (n, inputs). Raises ModelServerUnavailable when there is no answer within `seconds`."""
        if seconds <= 0 or not self._breaker.admits():
            raise ModelServerUnavailable("TorchServe is not asked: it has failed just now, or no time is left")
        try:
            async with asyncio.timeout(seconds):
                answer = await self._client.post(_path(use_case, version, digest), content=rows_to_bytes(inputs))
        except (TimeoutError, httpx.HTTPError) as error:
            self._breaker.saw(worked=False)
            raise ModelServerUnavailable(f"TorchServe does not answer: {type(error).__name__}") from error
        self._breaker.saw(worked=not answer.is_server_error)
        return _scores(answer, len(inputs))


def _path(use_case: str, version: str, digest: str) -> str:
    return f"/predictions/{use_case}/{served_as(version, digest)}"


def _scores(answer: httpx.Response, rows: int) -> Scores:
    """Raises ModelServerUnavailable when the answer holds none."""
    if answer.status_code != httpx.codes.OK:
        raise ModelServerUnavailable(f"TorchServe answered {answer.status_code}")
    try:
        return Scores(outputs_from_bytes(answer.content, rows), answer.headers.get("x-device", ""))
    except BytesRefused as error:
        raise ModelServerUnavailable(f"TorchServe answered something else: {error}") from error


class VersionStore:
    """The versions that TorchServe runs, for who deploys; close it after use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = httpx.Client(
            base_url=settings.torchserve.management_address, timeout=_START_SECONDS, trust_env=False
        )
        self._asking = httpx.Client(base_url=settings.torchserve_url, timeout=_SCORE_SECONDS, trust_env=False)

    def __enter__(self) -> "VersionStore":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._asking.close()

    def put(self, bundle: Bundle, version: str) -> None:
        """Have a version loaded and ready, also after a restart; doing it again changes nothing.

        Raises ModelServerUnavailable, or VersionRefused when TorchServe cannot load it; then it is not kept.
        """
        use_case, name = bundle.manifest.use_case, served_as(version, bundle.digest)
        workers = self._settings.torchserve.workers
        found, path = self.versions(use_case), write_archive(bundle, version, self._settings)
        if found.get(name):
            return
        if name in found:
            self._ask("PUT", f"/models/{use_case}/{name}", min_worker=workers, synchronous="true")
        else:
            self._ask("POST", "/models", url=path.name, initial_workers=workers, synchronous="true")
        if not self.versions(use_case).get(name):
            self.drop(use_case, name)
            raise VersionRefused(f"TorchServe does not load {use_case} {version}; its log says why")

    def versions(self, use_case: str) -> dict[str, bool]:
        """The versions it knows, by TorchServe's name; whether each has a process that is ready."""
        answer = self._ask("GET", f"/models/{use_case}/all")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return {}
        if answer.status_code != httpx.codes.OK:
            raise ModelServerUnavailable(f"TorchServe answered {answer.status_code}; its log says why")
        return {each["modelVersion"]: _is_ready(each) for each in answer.json()}

    def score(self, use_case: str, version: str, digest: str, inputs: Array) -> Scores:
        """Score rows, shape (n, inputs). Raises ModelServerUnavailable."""
        try:
            answer = self._asking.post(_path(use_case, version, digest), content=rows_to_bytes(inputs))
        except httpx.HTTPError as error:
            raise ModelServerUnavailable(f"TorchServe does not answer: {type(error).__name__}") from error
        return _scores(answer, len(inputs))

    def keep(self, use_case: str, versions: Collection[tuple[str, str]]) -> list[str]:
        """Of a use case keep these (version, digest), the first of them as its default; returns what went."""
        kept = [served_as(*each) for each in versions]
        found = self.versions(use_case)
        if kept and kept[0] in found:  # the default is never unregistered
            self._ask("PUT", f"/models/{use_case}/{kept[0]}/set-default")
        archives = self._settings.archives_folder.glob(f"{use_case}-*.mar")
        stored = {path.stem.removeprefix(f"{use_case}-") for path in archives}
        gone = sorted((set(found) | stored) - set(kept))
        for name in gone:
            self.drop(use_case, name)
        return gone

    def drop(self, use_case: str, name: str) -> None:
        """Unregister a version, by TorchServe's name, and remove its archive."""
        archive_path(self._settings, use_case, name).unlink(missing_ok=True)
        self._ask("DELETE", f"/models/{use_case}/{name}")

    def _ask(self, verb: str, path: str, **query: Any) -> httpx.Response:
        """Its answer, whatever it says. Raises ModelServerUnavailable when there is none."""
        try:
            return self._client.request(verb, path, params=query)
        except httpx.HTTPError as error:
            raise ModelServerUnavailable(
                f"TorchServe does not answer at {self._client.base_url}; `orrery status` shows what runs"
            ) from error


def _is_ready(version: dict[str, Any]) -> bool:
    return any(worker["status"] == "READY" for worker in version["workers"])
