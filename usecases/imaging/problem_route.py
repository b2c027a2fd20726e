"""What a client is told when imaging cannot do as asked: RFC 9457 problem details, as all of the gateway's."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import ValidationError

from orrery.errors import TransientError
from usecases.imaging.uploads import UploadRefused

_MOST_FIELDS = 20
_TITLES = {
    400: "The body is not readable",
    404: "There is no such film",
    408: "The body came too slowly",
    409: "Another film has this name",
    413: "The body is too large",
    415: "The body is of a kind that is not read",
    422: "The film is not taken",
    503: "It cannot be done now",
}


def problem(status: int, code: str, detail: str, **more: Any) -> JSONResponse:
    """A problem with a `code` to count by; `more` are members of its own (RFC 9457 3.2)."""
    content = {"type": "about:blank", "title": _TITLES[status], "status": status, "detail": detail, "code": code}
    headers = {"Retry-After": "2"} if status == 503 else {}
    return JSONResponse(content | more, status, headers, media_type="application/problem+json")


def _fields(error: ValidationError | RequestValidationError) -> Response:
    """What was wrong with which field. The values are never repeated."""
    errors = [
        {"field": ".".join(map(str, found["loc"]))[:100] or "body", "reason": found["msg"]}
        for found in error.errors()[:_MOST_FIELDS]
    ]
    if error.errors()[0]["type"] == "json_invalid":
        return problem(400, "no_json", errors[0]["reason"])
    detail = "; ".join(f"{each['field']}: {each['reason']}" for each in errors)
    return problem(422, "fields", detail, title="Fields are not as they must be", errors=errors)


class ProblemRoute(APIRoute):
    """A route whose refusals are problems. What only the gateway knows of, it answers itself."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        handler = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handler(request)
            except UploadRefused as error:
                return problem(error.status, error.code, str(error))
            except (ValidationError, RequestValidationError) as error:
                return _fields(error)
            except TransientError as error:
                return problem(503, "unavailable", str(error))

        return answered
