"""Who asks, and whether the key may."""

import asyncio
import base64
import binascii
from collections.abc import Callable

from fastapi import Request

from orrery.adapters.api_keys import KeyRing
from services.gateway.problems import NotAuthenticated, ScopeMissing


def shown(request: Request) -> str:
    """The key that came with a request; nothing where none did."""
    headers = request.headers
    bearer = headers.get("authorization", "")
    return headers.get("x-api-key") or (bearer[7:].strip() if bearer[:7].lower() == "bearer " else "")


def shown_by_browser(request: Request) -> str:
    """The key, also where it is the password of HTTP Basic.

    Only for what changes nothing: a browser sends it along with requests that other sites make it send.
    """
    basic = request.headers.get("authorization", "")
    if basic[:6].lower() != "basic ":
        return shown(request)
    try:
        return base64.b64decode(basic[6:].strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


async def require(request: Request, ring: KeyRing, scope: str, asked: Callable[[Request], str] = shown) -> str:
    """Let a request pass whose key has `scope`; returns the key's name. Raises NotAuthenticated or ScopeMissing."""
    text = asked(request)
    key = ring.verify(text)
    if key is None and text and ring.stale(unknown=True):
        await asyncio.to_thread(ring.refresh)
        key = ring.verify(text)
    if key is None:
        raise NotAuthenticated("send a living API key in X-API-Key or as Authorization: Bearer")
    if not key.allows(scope):
        raise ScopeMissing(f"this key lacks the scope {scope}")
    return key.name
