"""Who asks, and whether the key may."""

import asyncio

from fastapi import Request

from orrery.adapters.api_keys import KeyRing
from services.gateway.problems import NotAuthenticated, ScopeMissing


async def require(request: Request, ring: KeyRing, scope: str) -> str:
    """Let a request pass whose key has `scope`; returns the key's name. Raises NotAuthenticated or ScopeMissing."""
    text = _shown(request)
    key = ring.verify(text)
    if key is None and text and ring.stale(unknown=True):
        await asyncio.to_thread(ring.refresh)
        key = ring.verify(text)
    if key is None:
        raise NotAuthenticated("send a living API key in X-API-Key or as Authorization: Bearer")
    if not key.allows(scope):
        raise ScopeMissing(f"this key lacks the scope {scope}")
    return key.name


def _shown(request: Request) -> str:
    headers = request.headers
    bearer = headers.get("authorization", "")
    return headers.get("x-api-key") or (bearer[7:].strip() if bearer[:7].lower() == "bearer " else "")
