"""The make and model of what took a film, as a number: a header may say anything there, and none of it is kept."""

import hashlib

DEVICES = 65_536
"""numbers there are"""


def number_of(maker: str, model: str) -> int | None:
    """0 to 65,535, the same wherever and however spaced the same words are written; None if there are none.

    Without a key, so that films that were learned from elsewhere have the same numbers. So short that many words share
    each: it does not tell which were there.
    """
    words = ["".join(said.split()).casefold() for said in (maker, model)]
    if not any(words):
        return None
    return int.from_bytes(hashlib.sha256("\0".join(words).encode(errors="replace")).digest()[:2])
