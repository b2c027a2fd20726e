"""Which version serves: promotion and rollback, one alias move each, under a lock, with an audit entry."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orrery.adapters.audit_log import AuditLog
from orrery.adapters.locks import exclusive
from orrery.adapters.registry import CHAMPION, PREVIOUS, Registry, Version
from orrery.errors import OrreryError
from orrery.lifecycle import Release
from orrery.settings import Settings


class PromotionRefused(OrreryError):
    """That version may not serve."""


@dataclass(frozen=True)
class Promotion:
    """What serves now, and what served before."""

    use_case: str
    version: str
    previous: str | None
    changed: bool
    """False when it was so already"""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """what was found when it was made ready"""


class Promoter:
    """Moves the aliases `champion` and `previous`; nothing else does."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry | None = None,
        actor: str = "",
        ready: Callable[[Version], Mapping[str, Any]] = lambda _: {},
    ) -> None:
        """`ready` makes a version ready to serve, before an alias moves, or raises why it cannot."""
        self._ready = ready
        self._settings = settings
        self._registry = registry or Registry(settings)
        self._audit = AuditLog(settings)
        self._actor = actor

    def promote(self, release: Release) -> Promotion:
        """Make a release the champion. Doing it again, or after a crash at any point, ends in the same state."""
        use_case = release.use_case
        with exclusive(self._settings, f"promote-{use_case}"):
            version = self._registry.version(use_case, release.version)
            if not version.passed or version.digest != release.digest:
                raise PromotionRefused(f"{use_case} {release.version} is not the version that passed the gate")
            facts, champion = self._ready(version), self._settled_champion(use_case)
            if champion is not None and champion.version == version.version:
                return self._now(version, False, facts)
            # previous first: a crash in between leaves both aliases on the old, complete champion
            if champion is not None:
                self._registry.set_alias(use_case, PREVIOUS, champion.version)
            self._registry.set_alias(use_case, CHAMPION, version.version)
            self._record("promote", version, facts)
            return self._now(version, True, facts)

    def promote_version(self, use_case: str, reference: str) -> Promotion:
        """Make an older, gate-passed version the champion again. Raises PromotionRefused, UnknownVersion."""
        version = self._registry.version(use_case, reference)
        if not version.passed:
            raise PromotionRefused(
                f"{use_case} {version.version} did not pass the gate; only a version that did may serve"
            )
        return self.promote(Release(use_case, version.version, version.digest, version.run_id))

    def rollback(self, use_case: str) -> Promotion:
        """Make the previous champion the champion. Raises PromotionRefused when there is none."""
        with exclusive(self._settings, f"promote-{use_case}"):
            self._settled_champion(use_case)
            previous = self._registry.find(use_case, PREVIOUS)
            if previous is None:
                raise PromotionRefused(
                    f"{use_case} has no previous version; choose one with `orrery promote {use_case} VERSION`"
                )
            facts = self._ready(previous)
            self._registry.set_alias(use_case, CHAMPION, previous.version)
            # one step back only: a second rollback must not bring the bad version back
            self._registry.delete_alias(use_case, PREVIOUS)
            self._record("rollback", previous, facts)
            return self._now(previous, True, facts)

    def _settled_champion(self, use_case: str) -> Version | None:
        """The champion, once the audit log knows it too: an alias moved outside, or before a crash, is recorded."""
        champion = self._registry.find(use_case, CHAMPION)
        if champion is not None and self._last_recorded(use_case) != champion.version:
            self._record("recovered", champion, {})
        return champion

    def _last_recorded(self, use_case: str) -> str | None:
        mine = (record["details"] for record in self._audit.records() if record["subject"] == use_case)
        champions = [details["champion"] for details in mine if "champion" in details]
        return champions[-1] if champions else None

    def _record(self, action: str, version: Version, facts: Mapping[str, Any]) -> None:
        before = self._last_recorded(version.use_case)
        details = {"champion": version.version, "before": before, "digest": version.digest, "run_id": version.run_id}
        self._audit.append(action, version.use_case, {**details, **facts}, self._actor)

    def _now(self, champion: Version, changed: bool, facts: Mapping[str, Any]) -> Promotion:
        previous = self._registry.find(champion.use_case, PREVIOUS)
        return Promotion(champion.use_case, champion.version, previous.version if previous else None, changed, facts)
