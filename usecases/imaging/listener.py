"""A DICOM C-STORE listener: what a modality sends goes on to the gateway, and the gateway's word back to the modality.

`python -m usecases.imaging.listener` runs it by the settings of the group `dicom`, until SIGTERM.
"""

import logging
import secrets
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
from pynetdicom import AE, _config, evt
from pynetdicom.events import Event

from orrery.dicom_settings import DicomSettings
from orrery.errors import OrreryError
from orrery.settings import Settings, settings
from orrery.telemetry import log_to_stderr
from usecases.imaging import decoding
from usecases.imaging.deid_profile import CLASSES
from usecases.imaging.dicomweb import OUT_OF_RESOURCES
from usecases.imaging.structure import LARGEST

if TYPE_CHECKING:
    from pynetdicom.transport import AssociationSocket

logger = logging.getLogger(__name__)
_ECHO = "1.2.840.10008.1.1"
"""Verification SOP Class"""
STORED, REFUSED, AGAIN = 0x0000, 0xC000, OUT_OF_RESOURCES
"""statuses of C-STORE: what is refused need not be sent again"""
_PDU, _LARGEST_PDU, _COMMANDS = 131_072, 1_048_576, 1_048_576
_ASSOCIATIONS, _GREETING_SECONDS, _IDLE_SECONDS, _GATEWAY_SECONDS, _DRAIN_SECONDS = 8, 5.0, 60.0, 60.0, 20.0
_NEVER_TAKEN = frozenset({400, 413, 415, 422})
_TAKEN = frozenset({200, 202})
_FAILURES = ("00081198", "0008119A")
_config.LOG_HANDLER_LEVEL = "none"  # what pynetdicom logs names instances
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)


class ListenerRefused(OrreryError):
    """The listener is not set up so that it could run."""


class _Line:
    """What a peer sends: no PDU and no message may be larger than it may, whatever it announces."""

    def __init__(self, line: "AssociationSocket") -> None:
        self._receive, self._close, self.message = line.recv, line.close, 0

    def __call__(self, size: int) -> bytearray:
        self.message += size
        if size > _LARGEST_PDU or self.message > LARGEST + _COMMANDS:
            self._close()
            raise OSError("the peer sends more than it may")
        return self._receive(size)


class Listener:
    """Listens while it is entered. Each instance is answered when the gateway has answered it, and kept nowhere else.

    A study is told to be complete when nothing more of it came for `quiet_seconds`.
    """

    def __init__(self, dicom_settings: DicomSettings, gateway_url: str, key: str) -> None:
        allowed = [title.strip() for title in dicom_settings.allow.split(",") if title.strip()]
        if not allowed:
            raise ListenerRefused("nobody may send; name application entity titles in ORRERY_DICOM__ALLOW")
        self._settings = dicom_settings
        self._gateway = httpx.Client(base_url=gateway_url, headers={"X-API-Key": key}, timeout=_GATEWAY_SECONDS)
        self._studies: dict[str, float] = {}
        """where the gateway keeps a study -> when its latest instance came"""
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._entity = _entity(dicom_settings.title, allowed)

    def __enter__(self) -> Self:
        handlers: list[Any] = [(evt.EVT_CONN_OPEN, _bound), (evt.EVT_REJECTED, _rejected)]
        handlers.append((evt.EVT_C_STORE, self._store))
        address = (self._settings.host, self._settings.port)
        self._server = self._entity.start_server(address, block=False, evt_handlers=handlers)
        self._watch = threading.Thread(target=self._watched, name="quiet studies")
        self._watch.start()
        logger.info("the DICOM listener %s is at %s:%d", self._settings.title, *address)
        return self

    def __exit__(self, *_: object) -> None:
        """Take no new association, let the running ones end, and close the studies they were about."""
        assert self._server is not None
        self._server.shutdown()
        until = time.monotonic() + _DRAIN_SECONDS
        while time.monotonic() < until and any(peer.is_established for peer in self._entity.active_associations):
            time.sleep(0.05)
        self._entity.shutdown()
        self._stopped.set()
        self._watch.join()
        self._complete(time.monotonic())
        self._gateway.close()

    def _store(self, event: Event) -> int:
        """Hand one instance on; returns the status that its sender gets."""
        event.assoc.dul.socket.recv.message = 0  # type: ignore[union-attr]
        status = self._handed_on(event.encoded_dataset())
        level = logging.INFO if status == STORED else logging.WARNING
        logger.log(level, "an instance from %s ended as %04X", event.assoc.requestor.ae_title, status)
        return status

    def _handed_on(self, data: bytes) -> int:
        boundary = secrets.token_hex(16)
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        try:
            answer = self._gateway.post(
                "/dicomweb/studies",
                content=b"".join((head, data, f"\r\n--{boundary}--\r\n".encode())),
                headers={"Content-Type": kind},
            )
            if answer.status_code in _TAKEN:
                self._came(answer.json().get("00081190", {}).get("Value", []))
            return _status(answer)
        except (httpx.HTTPError, ValueError) as error:
            logger.warning("the gateway is away: %s", type(error).__name__)
            return AGAIN

    def _came(self, studies: list[str]) -> None:
        with self._lock:
            self._studies |= dict.fromkeys(studies, time.monotonic())

    def _watched(self) -> None:
        quiet = self._settings.quiet_seconds
        while not self._stopped.wait(min(1.0, quiet / 4)):
            self._complete(time.monotonic() - quiet)

    def _complete(self, since: float) -> None:
        """Tell the gateway which studies are complete; one that it does not hear of is told again."""
        with self._lock:
            quiet = {study: moment for study, moment in self._studies.items() if moment <= since}
        for study, moment in quiet.items():
            try:
                answer = self._gateway.post(f"{study}/complete")
                if answer.status_code != httpx.codes.NOT_FOUND:  # a study that is gone need not be told again
                    answer.raise_for_status()
            except httpx.HTTPError as error:
                logger.warning("a study could not be told complete: %s", type(error).__name__)
                return
            with self._lock:
                if self._studies.get(study) == moment:
                    del self._studies[study]


def _entity(title: str, allowed: list[str]) -> AE:
    entity = AE(ae_title=title)
    entity.require_called_aet, entity.require_calling_aet = True, allowed
    entity.maximum_associations, entity.maximum_pdu_size = _ASSOCIATIONS, _PDU
    entity.acse_timeout, entity.dimse_timeout, entity.network_timeout = _GREETING_SECONDS, _IDLE_SECONDS, _IDLE_SECONDS
    entity.add_supported_context(_ECHO)
    for kind in sorted(CLASSES):
        entity.add_supported_context(kind, sorted(decoding.NATIVE | decoding.FRAMES.keys()))
    return entity


def _bound(event: Event) -> None:
    """Bound what a new connection may send. pynetdicom reads as much as a peer announces."""
    line = event.assoc.dul.socket
    assert line is not None
    line.recv = _Line(line)  # type: ignore[assignment, method-assign]


def _rejected(event: Event) -> None:
    logger.warning("an association of %r was rejected", event.assoc.requestor.ae_title)


def _status(answer: httpx.Response) -> int:
    """The status of C-STORE for the gateway's answer about one instance."""
    if answer.status_code in _TAKEN:
        return STORED
    if answer.status_code in _NEVER_TAKEN:
        return REFUSED
    if answer.status_code != httpx.codes.CONFLICT:
        logger.error("the gateway answers %d", answer.status_code)
        return AGAIN
    failed = [item for tag in _FAILURES for item in answer.json().get(tag, {}).get("Value", [])]
    reasons = [item["00081197"]["Value"][0] for item in failed]
    return AGAIN if OUT_OF_RESOURCES in reasons else REFUSED


def key_of(configured: Settings) -> str:
    """The API key that the listener shows to the gateway. Raises ListenerRefused."""
    path = Path(configured.dicom.key_file or configured.secrets_folder / "client.key")
    if not path.is_file():
        raise ListenerRefused(f"there is no API key at {path}; make one and name its file in ORRERY_DICOM__KEY_FILE")
    return path.read_text().strip()


def main() -> None:
    """Listen until SIGTERM or SIGINT."""
    configured, stop = settings(), threading.Event()
    log_to_stderr(configured.log_level)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    try:
        with Listener(configured.dicom, configured.gateway_url, key_of(configured)):
            stop.wait()
    except (OrreryError, OSError) as error:  # OSError: the port is taken
        logger.critical("%s", error)  # in one line; who started this process starts it again
        sys.exit(1)


if __name__ == "__main__":
    main()
