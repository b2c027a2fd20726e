"""Moments as the databases keep them: whole microseconds since the epoch, in UTC."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """Microseconds since the epoch."""
    return (moment - EPOCH) // _MICRO


def moment(micros: int) -> datetime:
    """The moment so many microseconds after the epoch."""
    return EPOCH + micros * _MICRO
