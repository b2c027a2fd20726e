"""`--drift NAME=VALUE@DATE`: a use case's past as it would be had the world changed on a day."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orrery.errors import OrreryError
from orrery.usecase import Training

if TYPE_CHECKING:
    import pandas as pd


class DriftRefused(OrreryError):
    """It is not a drift that the use case knows."""


@dataclass(frozen=True)
class Drift:
    """One change, from a moment on."""

    name: str
    value: str
    since: datetime

    @classmethod
    def read(cls, text: str, training: Training) -> "Drift":
        """Read NAME=VALUE@DATE. Raises DriftRefused."""
        name, _, rest = text.partition("=")
        value, _, day = rest.rpartition("@")
        if name not in training.drifts:
            known = ", ".join(training.drifts) or "none"
            raise DriftRefused(f"--drift {text}: there is no drift {name!r} here; there are: {known}")
        try:
            since = datetime.fromisoformat(day).replace(tzinfo=UTC)
        except ValueError as error:
            raise DriftRefused(f"--drift {text}: write NAME=VALUE@DATE, such as {name}=1.3@2018-08-10") from error
        return cls(name, value, since)


def drifted(rows: "pd.DataFrame", drifts: Sequence[Drift], training: Training) -> "pd.DataFrame":
    """Raw rows with every drift applied to those that are not earlier than it."""
    import pandas as pd

    for drift in drifts:
        later = rows[training.moment] >= drift.since
        changed = training.drifts[drift.name](rows[later], drift.value)
        rows = pd.concat([rows[~later], changed]).sort_index()
    return rows
