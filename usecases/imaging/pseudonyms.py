"""Names that only the holder of a key could link to the ones in a file: identifiers, UIDs, and shifts of dates."""

import hmac
from datetime import timedelta

_LEAST_KEY, _LEAST_DAYS, _SPAN_DAYS = 32, 30, 3_650


class Pseudonyms:
    """The pseudonyms of one installation: the same name always gives the same one under the same key."""

    def __init__(self, key: bytes) -> None:
        if len(key) < _LEAST_KEY:
            raise ValueError(f"a key of pseudonyms has at least {_LEAST_KEY} bytes")
        self._key = key

    def film(self, uid: str) -> str:
        """32 hex digits for a SOP Instance UID."""
        return self._mac("film", uid)[:16].hex()

    def study(self, uid: str) -> str:
        """32 hex digits for a Study Instance UID."""
        return self._mac("study", uid)[:16].hex()

    def patient(self, identity: str) -> str:
        """32 hex digits for what names a patient."""
        return self._mac("patient", identity)[:16].hex()

    def uid(self, uid: str) -> str:
        """A UID under 2.25 (PS3.5 B.2) in place of another, whatever it is of."""
        return f"2.25.{int.from_bytes(self._mac('uid', uid)[:16])}"

    def shift(self, identity: str) -> timedelta:
        """By how many days all dates of a patient move, always into the past."""
        number = int.from_bytes(self._mac("shift", identity)[:8])
        return timedelta(days=-(_LEAST_DAYS + number % _SPAN_DAYS))

    def _mac(self, kind: str, name: str) -> bytes:
        return hmac.digest(self._key, f"{kind}\0{name}".encode(), "sha256")
