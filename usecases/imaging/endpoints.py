"""Imaging's own endpoints: films in, answers out; what answers look like; and the list of films to read."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from orrery.usecase import Desk
from usecases.imaging import dicomweb
from usecases.imaging.ledger import Row
from usecases.imaging.problem_route import ProblemRoute, problem
from usecases.imaging.reception import DUPLICATE, Outcome, Reception
from usecases.imaging.requests import ImagingFeedback, ImagingRequest
from usecases.imaging.result_endpoints import RESULTS, result_endpoint
from usecases.imaging.uploads import (
    KINDS,
    MOST_FILMS,
    Room,
    Upload,
    UploadRefused,
    json_body,
    kind_of,
    parts_of,
    upload_of,
)
from usecases.imaging.worklist import worklist

FilmId = Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Documented = dict[str, Any]
Limit = Annotated[int, Query(ge=1, le=500)]
_KEY: Documented = {"security": [{"APIKeyHeader": []}]}
_V1 = "/v1/imaging"


def router(desk: Desk) -> APIRouter:
    """The endpoints of imaging at a desk of the gateway."""
    router = APIRouter(route_class=ProblemRoute, tags=["imaging"])
    room, reception = Room(), Reception(desk)
    films, queue = _Films(room, reception), _Queue(reception)
    bodies: Documented = {"requestBody": {"content": {kind: {} for kind in KINDS}}}
    related: Documented = {"requestBody": {"content": {'multipart/related; type="application/dicom"': {}}}}
    router.post(f"{_V1}/predict", openapi_extra=_KEY | bodies)(films.predict)
    router.post("/dicomweb/studies", openapi_extra=_KEY | related)(films.store)
    router.get(f"{_V1}/worklist", openapi_extra=_KEY)(queue.list_films)
    router.post(f"{_V1}/worklist/{{film_id}}/read", openapi_extra=_KEY)(queue.read)
    router.post(f"{_V1}/feedback", openapi_extra=_KEY)(queue.feedback)
    router.get(f"{_V1}/films/{{film_id}}", openapi_extra=_KEY)(queue.film)
    router.get(f"{_V1}/studies/{{study_id}}", openapi_extra=_KEY)(queue.study)
    router.post(f"{_V1}/studies/{{study_id}}/complete", openapi_extra=_KEY)(queue.complete)
    for name in RESULTS:
        router.get(f"{_V1}/{{prediction_id}}/{name}", openapi_extra=_KEY, name=name)(
            result_endpoint(name, room, reception)
        )
    return router


class _Films:
    """Films in."""

    def __init__(self, room: Room, reception: Reception) -> None:
        self._room, self._reception, self._desk = room, reception, reception.desk

    async def predict(self, request: Request) -> Response:
        """Score a film: as a picture in JSON, as a DICOM file, or a study of up to 500 films in a zip.

        With `explain=true` the answer has the map of what the model looked at. A study is answered by a list: 200 if
        every file got an answer, 202 if some did, 409 if none did.
        """
        who = await self._desk.allow(request, "predict")
        if kind_of(request)[0] in {"application/json", ""}:
            return await self._picture(request, who)
        async with self._work() as hold:
            upload = await upload_of(request, hold)
            return await self._taken(upload, who, hold)

    async def store(self, request: Request) -> Response:
        """STOW-RS (PS3.18 10.5): store instances, and score each. UIDs in the answer are pseudonyms."""
        who = await self._desk.allow(request, "predict")
        kind, options = kind_of(request)
        if kind != "multipart/related" or options.get(b"type", b"").lower() != b"application/dicom":
            raise UploadRefused(415, "media_type", 'send multipart/related; type="application/dicom"')
        async with self._work() as hold:
            parts = await parts_of(request, hold, MOST_FILMS)
            if not parts:
                raise UploadRefused(400, "no_file", "there is no instance in the body")
            if any(part.kind != "application/dicom" for part in parts):
                raise UploadRefused(415, "media_type", "every part of the body is application/dicom")
            outcomes = await self._reception.receive_all([part.content for part in parts], who)
        status = dicomweb.status_of(outcomes)
        headers = {"Retry-After": "2"} if status == 503 else {}
        return JSONResponse(dicomweb.stored(outcomes), status, headers, media_type=dicomweb.JSON)

    @asynccontextmanager
    async def _work(self) -> AsyncIterator[Callable[[int], None]]:
        """Room for one upload, and how many there are now shown."""
        try:
            async with self._room.one() as hold:
                self._desk.level("uploads", self._room.inside)
                yield hold
        finally:
            self._desk.level("uploads", self._room.inside)

    async def _taken(self, upload: Upload, who: str, hold: Callable[[int], None]) -> Response:
        explain = upload.explain
        if upload.zipped:
            ended = await self._reception.receive_zip(upload.files[0], who, explain=explain, hold=hold)
            return _listed(ended) if isinstance(ended, list) else _single(ended)
        if len(upload.files) > 1:
            return _listed(await self._reception.receive_all(upload.files, who, explain=explain))
        return _single(await self._reception.receive(upload.files[0], who, explain=explain))

    async def _picture(self, request: Request, who: str) -> Response:
        event = ImagingRequest.model_validate_json(await json_body(request))
        outcome = await self._reception.ask(event, who)
        if outcome is None:
            return problem(409, DUPLICATE, "another picture came under this film_id; nothing was overwritten")
        return JSONResponse(outcome.answer)


class _Queue:
    """What became of films, and which of them wait for a reader."""

    def __init__(self, reception: Reception) -> None:
        self._reception, self._desk = reception, reception.desk

    async def list_films(self, request: Request, limit: Limit = 50) -> Response:
        """The films to read next, in order: by priority, and nobody waits beyond what their priority allows."""
        who = await self._desk.allow(request, "read")
        films = await asyncio.to_thread(worklist, self._reception.ledger, self._desk.now(), limit)
        await self._desk.record(who, "list", "worklist", {"films": len(films)})
        await self._reception.show_waiting()
        return JSONResponse({"films": [film.model_dump() for film in films]})

    async def read(self, request: Request, film_id: FilmId) -> Response:
        """A person has read this film: it leaves the list."""
        who = await self._desk.allow(request, "feedback")
        if not await self._take_off(film_id, who):
            return _no_film("no film of that name waits or waited to be read")
        return JSONResponse({"film_id": film_id, "read": True})

    async def feedback(self, request: Request) -> Response:
        """What a reader found on a film: it teaches the platform, and the film leaves the list."""
        who = await self._desk.allow(request, "feedback")
        event = ImagingFeedback.model_validate_json(await json_body(request))
        acknowledged = await self._desk.feedback(event)
        await self._take_off(event.film_id, who)
        return JSONResponse(dict(acknowledged))

    async def film(self, request: Request, film_id: FilmId) -> Response:
        """How a film ended, why, and what was done to it."""
        who = await self._desk.allow(request, "read")
        row = await asyncio.to_thread(self._reception.ledger.find, film_id)
        if row is None:
            return _no_film("no file of that name has ended here; send it again")
        await self._desk.record(who, "read", film_id, {"what": "state"})
        return JSONResponse(_told(row))

    async def study(self, request: Request, study_id: FilmId) -> Response:
        """How the films of a study ended."""
        who = await self._desk.allow(request, "read")
        return await self._study(study_id, who, "read")

    async def complete(self, request: Request, study_id: FilmId) -> Response:
        """The sender has no more films of this study. Another one opens it again."""
        who = await self._desk.allow(request, "predict")
        await asyncio.to_thread(self._reception.ledger.complete, study_id, self._desk.now())
        return await self._study(study_id, who, "complete")

    async def _study(self, study_id: str, who: str, action: str) -> Response:
        rows = await asyncio.to_thread(self._reception.ledger.study, study_id)
        if not rows:
            return _no_film("no file of that study has ended here")
        await self._desk.record(who, action, study_id, {"films": len(rows)})
        return JSONResponse({"study_id": study_id, "films": [_told(row) for row in rows]})

    async def _take_off(self, film_id: str, who: str) -> bool:
        known = await asyncio.to_thread(self._reception.ledger.read, film_id, self._desk.now())
        if known:
            await self._desk.record(who, "finish", film_id, {})
            await self._reception.show_waiting()
        return known


def _single(outcome: Outcome) -> Response:
    """The answer to one file, or why it has none."""
    if outcome.answer is not None:
        return JSONResponse(outcome.answer)
    said = _ended(outcome)
    status = 409 if said["code"] == DUPLICATE else 422
    return problem(status, said.pop("code"), said.pop("reason"), **said)


def _listed(outcomes: Sequence[Outcome]) -> Response:
    """How each file of a study ended."""
    instances = [_ended(outcome) | {"answer": outcome.answer} for outcome in outcomes]
    status = dicomweb.status_of(outcomes)
    if status in {409, 503}:
        title = "No film is taken"
        return problem(status, "none", "none of the files got an answer", title=title, instances=instances)
    return JSONResponse({"instances": instances}, status)


def _ended(outcome: Outcome) -> dict[str, Any]:
    names = {"film_id": outcome.film_id, "study_id": outcome.study_id}
    if outcome.ending is None:
        return names | {"state": None, "code": "unavailable", "reason": "it cannot be taken now; send it again"}
    ending = outcome.ending
    return names | {"state": ending.state, "code": ending.code, "reason": ending.reason, "steps": list(ending.steps)}


def _told(row: Row) -> dict[str, Any]:
    read_at = row.read_at.isoformat() if row.read_at else None
    names = {"film_id": row.film_id, "study_id": row.study_id}
    return names | vars(row.ending) | {"received_at": row.received_at.isoformat(), "read_at": read_at}


def _no_film(detail: str) -> Response:
    return problem(404, "no_film", detail)
