"""Every error a client can meet, as RFC 9457 problem details, in one table."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException

from orrery.adapters.api_keys import KeysUnavailable
from orrery.adapters.log_writer import IdentityRefused
from orrery.adapters.prediction_log import LogUnavailable
from orrery.errors import OrreryError
from orrery.prediction import FeedbackRefused, MomentRefused, UnknownPrediction

logger = logging.getLogger(__name__)


class NotAuthenticated(OrreryError):
    """No living API key came with the request."""


class LoginNeeded(OrreryError):
    """No living API key came from a browser, which can be asked for it."""


class ScopeMissing(OrreryError):
    """The API key may not do this."""


class BodyTooLarge(OrreryError):
    """The request's body is larger than the gateway reads."""


class BodyRefused(OrreryError):
    """The request's body is not JSON that the gateway reads."""


class Overloaded(OrreryError):
    """Too many requests are in work."""


class NoSuchPrediction(OrreryError):
    """No prediction of that id is in the log."""


class NoSuchReport(OrreryError):
    """There is no such page of a report."""


class ReportsUnavailable(OrreryError):
    """The list of reports or their pages cannot be read now."""


class FieldProblem(BaseModel):
    """What is wrong with one field. The value itself is never repeated."""

    field: str
    reason: str


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = Field(default_factory=list)


class FieldsRefused(OrreryError):
    """Fields of the request are missing, unknown, of the wrong type or out of bounds."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        super().__init__("; ".join(f"{each.field}: {each.reason}" for each in problems))
        self.problems = problems


_MOST_FIELDS, _MOST_PATH = 20, 100
_AGAIN = {"Retry-After": "1"}
_TABLE: Mapping[type[Exception], tuple[int, str, Mapping[str, str]]] = {
    BodyRefused: (400, "The body is not readable JSON", {}),
    NotAuthenticated: (401, "An API key is needed", {"WWW-Authenticate": "Bearer"}),
    LoginNeeded: (
        401,
        "An API key is needed",
        {"WWW-Authenticate": 'Basic realm="API key as password", charset="UTF-8"'},
    ),
    ScopeMissing: (403, "The API key may not do this", {}),
    UnknownPrediction: (404, "There is no such prediction", {}),
    NoSuchPrediction: (404, "There is no such prediction", {}),
    NoSuchReport: (404, "There is no such report", {}),
    BodyTooLarge: (413, "The body is too large", {}),
    FieldsRefused: (422, "Fields are not as they must be", {}),
    FeedbackRefused: (422, "The feedback does not belong to that answer", {}),
    MomentRefused: (422, "Fields are not as they must be", {}),
    IdentityRefused: (422, "Fields are not as they must be", {}),
    Overloaded: (503, "Too many requests are in work", _AGAIN),
    LogUnavailable: (503, "The answer cannot be recorded now", _AGAIN),
    ReportsUnavailable: (503, "Reports cannot be read now", _AGAIN),
    KeysUnavailable: (503, "API keys cannot be checked now", _AGAIN),
}


def status_of(error: Exception) -> int:
    """The HTTP status that an error becomes."""
    if isinstance(error, HTTPException):
        return error.status_code
    return _TABLE[type(error)][0] if type(error) in _TABLE else 500


def refused(error: ValidationError) -> OrreryError:
    """What pydantic refused, by field and reason, without the values."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        return BodyRefused(found[0]["msg"])
    return FieldsRefused([FieldProblem(field=_path(each["loc"]), reason=each["msg"]) for each in found[:_MOST_FIELDS]])


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location))[:_MOST_PATH] or "body"


def handle_errors(app: FastAPI) -> None:
    """Turn every error of `app` into a problem."""
    for kind in (*_TABLE, HTTPException, Exception):
        app.add_exception_handler(kind, _answer)


async def _answer(_: Request, error: Exception) -> JSONResponse:
    if isinstance(error, HTTPException):
        return _problem(Problem(title=str(error.detail), status=error.status_code, detail=str(error.detail)), {})
    if type(error) not in _TABLE:
        logger.error("a request failed: %s", type(error).__name__, exc_info=error)
        return _problem(Problem(title="Internal error", status=500, detail="the gateway's log has the details"), {})
    status, title, headers = _TABLE[type(error)]
    problem = Problem(title=title, status=status, detail=str(error), errors=_fields(error))
    return _problem(problem, headers)


def _fields(error: Exception) -> list[FieldProblem]:
    if isinstance(error, FieldsRefused):
        return error.problems
    return [FieldProblem(field=error.field, reason=error.reason)] if isinstance(error, MomentRefused) else []


def _problem(problem: Problem, headers: Mapping[str, str]) -> JSONResponse:
    content = problem.model_dump(exclude=set() if problem.errors else {"errors"})
    return JSONResponse(content, problem.status, dict(headers), media_type="application/problem+json")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems an endpoint can answer with, for its documentation."""
    return {
        status: {"model": Problem, "content": {"application/problem+json": {}}, "description": title}
        for kind in _TABLE
        for status, title, _ in (_TABLE[kind],)
        if status in statuses
    }
