"""One writer at a time, across processes: the one place to put another kind of lock."""

from collections.abc import Iterator
from contextlib import contextmanager

from orrery.errors import TransientError
from orrery.settings import Settings


class Busy(TransientError):
    """Someone else is doing the same thing."""


@contextmanager
def exclusive(settings: Settings, name: str, seconds: float = 30.0) -> Iterator[None]:
    """Hold the lock `name` of this installation; a killed holder lets go. Raises Busy after `seconds`."""
    from filelock import FileLock, Timeout

    path = settings.home.absolute() / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=seconds):
            yield
    except Timeout as error:
        raise Busy(f"another process holds {path}; try again when it has ended") from error
