"""What answers look like, by the web: pictures of the lungs and of what the model looked at, and DICOM objects."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import Path, Request, Response

from usecases.imaging.problem_route import problem
from usecases.imaging.reception import Reception
from usecases.imaging.requests import picture_of
from usecases.imaging.results import fitted, overlay, shown
from usecases.imaging.uploads import Room

Fields = Mapping[str, Any]
PredictionId = Annotated[str, Path(pattern=r"^[A-Za-z0-9-]{1,64}$")]
_NO_DICOM = "the film came as a picture; only a film that came as DICOM has DICOM results"
_NO_MODEL = "no model has looked at this film"
_NO_CAM = "nobody asked for it; ask with explain=true"


def result_endpoint(name: str, room: Room, reception: Reception) -> Callable[..., Any]:
    """The endpoint of the result `name`."""
    made_of, media_type = RESULTS[name], "image/png" if name.endswith(".png") else "application/dicom"
    desk = reception.desk

    async def result(request: Request, prediction_id: PredictionId) -> Response:
        who = await desk.allow(request, "read")
        found = await desk.logged(prediction_id)
        if found is None:
            return problem(404, "no_prediction", "there is no answer of that id", title="There is no such answer")
        asked, answer = found
        async with room.one():
            made = await asyncio.to_thread(made_of, reception, asked, answer)
        if isinstance(made, str):
            return problem(404, "no_result", made, title="This answer has no such result")
        details = {"what": name, "prediction_id": prediction_id, "model_version": answer.get("model_version")}
        await desk.record(who, "read", answer["film_id"], details)
        return Response(made, media_type=media_type)

    return result


def _mask(reception: Reception, _: Fields, answer: Fields) -> bytes | str:
    """The lungs, or why there are none."""
    mask = shown(answer, "mask")
    return _NO_MODEL if mask is None else fitted(mask, reception.films.header(answer["film_id"]))


def _cam(reception: Reception, _: Fields, answer: Fields) -> bytes | str:
    cam = shown(answer, "cam")
    return _NO_CAM if cam is None else fitted(cam, reception.films.header(answer["film_id"]))


def _overlay(reception: Reception, asked: Fields, answer: Fields) -> bytes:
    levels = reception.films.levels(answer["film_id"])
    levels = picture_of(asked["picture"]) if levels is None else levels
    return overlay(levels, shown(answer, "mask"), shown(answer, "cam"))


def _result(reception: Reception, _: Fields, answer: Fields) -> bytes | str:
    from usecases.imaging.structured_report import report

    header = reception.films.header(answer["film_id"])
    return _NO_DICOM if header is None else report(header, answer, reception.names)


def _seg(reception: Reception, _: Fields, answer: Fields) -> bytes | str:
    from usecases.imaging.segmentation_object import segmentation

    header, mask = reception.films.header(answer["film_id"]), shown(answer, "mask")
    if header is None or mask is None:
        return _NO_DICOM if header is None else _NO_MODEL
    return segmentation(header, mask, answer, reception.names)


RESULTS: Mapping[str, Callable[[Reception, Fields, Fields], bytes | str]] = {
    "mask.png": _mask,
    "cam.png": _cam,
    "overlay.png": _overlay,
    "result.dcm": _result,
    "seg.dcm": _seg,
}
"""name -> what makes it of a request and its answer, or says why there is none"""
