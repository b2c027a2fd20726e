"""Reports on what was served: a list, the newest first, and their pages, for people with a browser and a key."""

import asyncio
from collections.abc import Mapping, Sequence
from html import escape
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from orrery.adapters.model_source import CatalogueUnavailable
from orrery.adapters.prediction_log import LogUnavailable
from orrery.adapters.report_log import Kept
from services.gateway.access import require, shown_by_browser
from services.gateway.problems import LoginNeeded, NoSuchReport, NotAuthenticated, ReportsUnavailable, documented
from services.gateway.routes import runtime_of
from services.gateway.runtime import Runtime

reports = APIRouter(prefix="/reports", tags=["reports"])
_SECURITY: dict[str, Any] = {"security": [{"APIKeyHeader": []}]}
_SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "private, no-store"}
_LIST_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
# what Evidently writes brings all it needs; as `sandbox` it has no origin, so no key and no cookie can be read or used
_PAGE_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
)
_STYLE = "body{font:16px system-ui;margin:2rem}td,th{padding:.3rem 1rem;text-align:left;border-bottom:1px solid #ccc}"
_COLUMNS = ("use case", "from (event time)", "to", "version", "rows", "labels", "made", "pages")


@reports.get("", responses=documented(401, 403, 503), openapi_extra=_SECURITY)
async def listed(request: Request) -> Response:
    """The reports there are, the one on the newest window first; a page for a browser, JSON for others."""
    runtime = runtime_of(request)
    await _login(request, runtime)
    known = await _known(runtime)
    headers = _SAFE | {"Vary": "Accept"}
    if "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(_table(known), headers=headers | {"Content-Security-Policy": _LIST_POLICY})
    return JSONResponse({"reports": [_described(kept) for kept in known]}, headers=headers)


@reports.get("/{use_case}/{window}/{name}", responses=documented(401, 403, 404, 503), openapi_extra=_SECURITY)
async def page(
    request: Request,
    use_case: Annotated[str, Path(description="as the list has it")],
    window: Annotated[str, Path(description="as the list has it, such as 20180810T000000Z")],
    name: Annotated[str, Path(description="as the list has it, such as data-drift.html")],
) -> Response:
    """One page of a report, from the artifact store."""
    runtime = runtime_of(request)
    await _login(request, runtime)
    # only what is on the list is asked for, under the address that is on the list
    found = next((kept for kept in await _known(runtime) if (kept.use_case, kept.window) == (use_case, window)), None)
    if found is None or name not in found.pages:
        raise NoSuchReport("there is no such page; GET /reports lists those there are, and older ones are deleted")
    try:
        content = await runtime.catalogue.page(found.address, name)
    except CatalogueUnavailable as error:
        raise ReportsUnavailable(str(error)) from error
    if content is None:
        raise NoSuchReport("the page was deleted; GET /reports lists those there are")
    return HTMLResponse(content, headers=_SAFE | {"Content-Security-Policy": _PAGE_POLICY})


async def _login(request: Request, runtime: Runtime) -> None:
    """As everywhere; but whoever shows no key is asked for it in a way that a browser knows."""
    try:
        await require(request, runtime.keys, "read", shown_by_browser)
    except NotAuthenticated as error:
        raise LoginNeeded(f"{error}, or as the password of HTTP Basic") from error


async def _known(runtime: Runtime) -> Sequence[Kept]:
    try:
        return await asyncio.to_thread(runtime.reports.newest)
    except LogUnavailable as error:
        raise ReportsUnavailable(str(error)) from error


def _address(kept: Kept, name: str) -> str:
    return f"/reports/{kept.use_case}/{kept.window}/{name}"


def _described(kept: Kept) -> Mapping[str, Any]:
    return {
        "use_case": kept.use_case,
        "first": kept.first.isoformat(),
        "last": kept.last.isoformat(),
        "version": kept.version,
        "run_id": kept.run_id,
        "rows": kept.rows,
        "labelled": kept.labelled,
        "made_at": kept.made_at.isoformat(),
        "pages": {name.removesuffix(".html"): _address(kept, name) for name in kept.pages},
    }


def _table(known: Sequence[Kept]) -> str:
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    body = "".join(_row(kept) for kept in known) or f"<tr><td colspan={len(_COLUMNS)}>none yet</td></tr>"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Reports</title><style>{_STYLE}</style>'
        "<h1>Reports on served traffic</h1><p>Each window beside the rows its model was judged on. The pages hold no "
        f"rows; values are rounded.</p><table><tr>{head}</tr>{body}</table></html>"
    )


def _row(kept: Kept) -> str:
    links = ", ".join(
        f'<a href="{escape(_address(kept, name))}">{escape(name.removesuffix(".html"))}</a>' for name in kept.pages
    )
    first, last, made = (f"{moment:%Y-%m-%d %H:%M}" for moment in (kept.first, kept.last, kept.made_at))
    labels = "arrived" if kept.labelled else "to come"
    cells = (kept.use_case, first, last, kept.version, f"{kept.rows:,}", labels, made)
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + f"<td>{links}</td></tr>"
