"""One film from its bytes to its end: taken, answered, put down and recorded. What comes twice ends the same."""

import asyncio
import base64
import hashlib
import hmac
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from orrery.errors import OrreryError
from orrery.usecase import Desk
from usecases.imaging.ledger import Ending, Ledger, State
from usecases.imaging.picture import encode
from usecases.imaging.pseudonyms import Pseudonyms
from usecases.imaging.requests import ImagingRequest
from usecases.imaging.results import Films
from usecases.imaging.structure import FileRefused
from usecases.imaging.study_zip import members

if TYPE_CHECKING:
    from usecases.imaging.intake import Film, Intake

logger = logging.getLogger(__name__)
DUPLICATE, STRANGE, NO_MODEL, REDACTED = "duplicate_uid", "out_of_distribution", "no_model", "text_redacted"
_REASONS = {
    DUPLICATE: "another film came under this SOP Instance UID; nothing was overwritten",
    STRANGE: "the film is unlike those the model has learned from; a person must read it",
    NO_MODEL: "no model was there to answer; a person must read it",
}
_AT_ONCE = 4
"""the earliest moment that an event may have"""


@dataclass(frozen=True)
class Outcome:
    """How one file ended. Everything in it is a pseudonym."""

    film_id: str
    study_id: str
    ending: Ending | None
    """None: it has not, and may be sent again"""
    answer: Mapping[str, Any] | None = None
    uids: tuple[str, str] | None = None
    """SOP Class UID and pseudonymous SOP Instance UID, where the file could be read"""
    redacted: bool = False
    """text was painted over in its pixels"""


class Reception:
    """Where films are taken in. It opens what it needs when the first one comes."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._at_once, self._unpacking = asyncio.Semaphore(_AT_ONCE), asyncio.Lock()

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.desk.folder / "ledger.db")

    @cached_property
    def films(self) -> Films:
        return Films(self.desk.folder / "films")

    @cached_property
    def names(self) -> Pseudonyms:
        return Pseudonyms(self.desk.secret)

    @cached_property
    def intake(self) -> "Intake":
        from usecases.imaging.intake import Intake

        return Intake(self.desk.secret)

    async def receive(self, data: bytes, who: str, *, explain: bool = False) -> Outcome:
        """Take one file to its end. Raises what `Desk.predict` and `Desk.record` do: the same file may come again."""
        async with self._at_once:
            film, steps, outcome = await asyncio.to_thread(self._taken, data)
            if film is not None:
                outcome = await self._answered(_event(film, self.desk.now()), steps)
                outcome = replace(outcome, uids=_uids(film), redacted=REDACTED in film.flags)
                if not explain:  # the log has the map for later
                    outcome = replace(outcome, answer={**(outcome.answer or {}), "cam": None})
        await self._record(outcome, who)
        return outcome

    async def receive_all(self, files: Sequence[bytes], who: str, *, explain: bool = False) -> list[Outcome]:
        """Take every file to its own end; one that cannot be taken now stops no other."""

        async def one(data: bytes) -> Outcome:
            try:
                return await self.receive(data, who, explain=explain)
            except OrreryError as error:
                logger.warning("a film was not taken: %s", type(error).__name__)
                return Outcome(self._name(data), "", None)

        return await asyncio.gather(*map(one, files))

    async def receive_zip(
        self, data: bytes, who: str, *, explain: bool, hold: Callable[[int], None]
    ) -> list[Outcome] | Outcome:
        """Take every file of a zip to its own end; a zip that is not unpacked ends itself. `hold`: see `Room.one`."""
        try:
            async with self._unpacking:
                files = await asyncio.to_thread(lambda: tuple(members(data)))
                hold(sum(map(len, files)))
        except FileRefused as refusal:
            outcome = await asyncio.to_thread(self._ended, data, Ending("refused", refusal.code, str(refusal)))
            await self._record(outcome, who)
            return outcome
        return await self.receive_all(files, who, explain=explain)

    async def ask(self, event: ImagingRequest, who: str) -> Outcome | None:
        """Answer a film that a client made a picture of. None when another picture has its name."""
        digest = hashlib.sha256(event.picture.encode()).hexdigest()
        claimed = event.film_id, event.study_id or "", digest, self.desk.now()
        if not await asyncio.to_thread(self.ledger.claim, *claimed):
            return None
        outcome = await self._answered(event, ())
        await self._record(outcome, who)
        return outcome

    def _taken(self, data: bytes) -> tuple["Film | None", tuple[str, ...], Outcome]:
        """The film of a file, put down and kept on the disk; or how the file ended without one."""
        received = self.intake.receive(data)
        film = received.film
        if film is None:
            state: State = "quarantined" if received.state == "quarantined" else "refused"
            return None, (), self._ended(data, Ending(state, received.code, received.reason, received.steps))
        if not self.ledger.claim(film.film_id, film.study_id, film.digest, self.desk.now()):
            ended = self._ended(data, Ending("refused", DUPLICATE, _REASONS[DUPLICATE], received.steps), film.study_id)
            return None, (), replace(ended, uids=_uids(film))
        self.films.keep(film.film_id, film.dataset)
        return film, received.steps, Outcome(film.film_id, film.study_id, None)

    def _ended(self, data: bytes, ending: Ending, study_id: str = "") -> Outcome:
        """Put down a file that got no answer."""
        name = self._name(data)
        self.ledger.claim(name, study_id, name, self.desk.now())
        return Outcome(name, study_id, self.ledger.close(name, ending).ending)

    async def _answered(self, event: ImagingRequest, steps: tuple[str, ...]) -> Outcome:
        answer = await self.desk.predict(event)
        row = await asyncio.to_thread(self.ledger.close, event.film_id, _ending(answer, steps))
        return Outcome(event.film_id, row.study_id, row.ending, answer)

    def _name(self, data: bytes) -> str:
        """What a file is called that named itself in no way that counts."""
        return hmac.digest(self.desk.secret, b"file\0" + data, "sha256")[:16].hex()

    async def _record(self, outcome: Outcome, who: str) -> None:
        ending = outcome.ending
        assert ending is not None
        said = ("state", "code", "prediction_id", "model_version", "decision")
        details = {"study": outcome.study_id} | {name: getattr(ending, name) for name in said}
        await self.desk.record(who, "answer" if outcome.answer else "receive", outcome.film_id, details)
        self.desk.count("file", ending.state)
        if ending.code:
            self.desk.count("refusal", ending.code)
        if ood := (outcome.answer or {}).get("ood"):
            self.desk.count("ood", ood["verdict"])
        await self.show_waiting()

    async def show_waiting(self) -> None:
        """Say how many films wait for a reader, and for how long the oldest does."""
        waiting, now = await asyncio.to_thread(self.ledger.waiting), self.desk.now()
        oldest = min((since for _, since in waiting.values()), default=now)
        self.desk.level("unread_films", sum(films for films, _ in waiting.values()))
        self.desk.level("oldest_unread_seconds", (now - oldest).total_seconds())


def _uids(film: "Film") -> tuple[str, str]:
    return str(film.dataset.SOPClassUID), str(film.dataset.SOPInstanceUID)


def _event(film: "Film", now: datetime) -> ImagingRequest:
    """What is asked of a film. The map of what the model looks at always is: the log then has it when it is wanted.

    Its moment is that of its arrival. Its own dates have been moved by years, each patient's by others, so what was
    taken this week would be watched in a week of any year.
    """
    rows, columns = film.pixels.shape
    return ImagingRequest.model_validate(
        {
            "film_id": film.film_id,
            "study_id": film.study_id,
            "patient_id": film.patient_id,
            "taken_at": now,
            "age": film.age,
            "sex": film.sex,
            "view": film.view,
            "rows": rows,
            "columns": columns,
            "device_number": film.device_number,
            "picture": base64.b64encode(encode(film.picture)).decode(),
            "flags": film.flags,
            "explain": True,
        }
    )


def _ending(answer: Mapping[str, Any], steps: tuple[str, ...]) -> Ending:
    code = ""
    if answer["decision"] == "not_scored":
        code = STRANGE if answer.get("ood") else NO_MODEL
    said = {name: answer.get(name) for name in ("prediction_id", "model_version", "decision", "priority")}
    return Ending("refused" if code else "scored", code, _REASONS.get(code, ""), steps, **said)
