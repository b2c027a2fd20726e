"""From a passed verdict to a version that serves: register it, move the alias, see the gateway follow."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from orrery.adapters.audit_log import AuditLog
from orrery.adapters.registry import Registry
from orrery.errors import TransientError
from orrery.lifecycle import Candidate, Check, Passed, Refused, Release
from orrery.model_serving import ModelServing
from orrery.promotion import Promoter, Promotion
from orrery.retraining import REFUSED
from orrery.settings import Settings
from orrery.usecase import Serving

logger = logging.getLogger(__name__)
Served = Literal["serving", "waiting", "no gateway"]
_BETWEEN_LOOKS = 0.2


@dataclass(frozen=True)
class Deployment:
    """What a deploy did, and whether the gateway was seen to serve it."""

    promotion: Promotion
    served: Served
    seconds: float
    """from the alias move to the first answer that names the version"""


def register(passed: Passed, settings: Settings) -> Release:
    """Make a version of what passed the gate; the same key is registered once."""
    candidate = passed.candidate
    manifest = candidate.bundle.manifest
    tags = {
        "idempotency_key": candidate.key,
        "digest": candidate.bundle.digest,
        "data_version": manifest.data_version,
        "git_commit": manifest.git_commit,
        "lock_hash": manifest.lock_hash,
        "gate": "passed",
    }
    version = Registry(settings).register(candidate.use_case, candidate.run_id, tags)
    return Release(candidate.use_case, version.version, version.digest, candidate.run_id)


def record_refusal(
    candidate: Candidate, refused: Refused, settings: Settings, actor: str = "", cause: str = ""
) -> None:
    """Write the gate's no to the audit log. `cause`: the key of the alert that asked for the release."""
    manifest = candidate.bundle.manifest
    details = {
        "cause": cause,
        "reasons": list(refused.reasons),
        "gate": _answers(refused.checks),
        "run_id": candidate.run_id,
        "digest": candidate.bundle.digest,
        "data_version": manifest.data_version,
        "as_of": candidate.window.as_of.isoformat(),
    }
    AuditLog(settings).append(REFUSED, candidate.use_case, details, actor)


def deploy(
    release: Release,
    serving: Serving,
    settings: Settings,
    actor: str = "",
    seconds: float = 15.0,
    cause: str = "",
    checks: Sequence[Check] = (),
) -> Deployment:
    """Promote the release and wait, at most `seconds`, until a running gateway serves it. No gateway is no error.

    For the audit log: `cause`, the key of the alert that asked for it, and `checks`, what the gate asked.
    Where the use case asks for a model server, the version is there and proven before the alias moves: raises
    ServingParityBroken or VersionRefused, or ModelServerUnavailable.
    """
    about = ({"cause": cause} if cause else {}) | ({"gate": _answers(checks)} if checks else {})
    return _switched(lambda promoter: promoter.promote(release), serving, settings, actor, seconds, about)


def _answers(checks: Sequence[Check]) -> dict[str, bool]:
    return {check.name: check.passed for check in checks}


def promote(use_case: str, reference: str, settings: Settings, serving: Serving) -> Deployment:
    """Deploy an older, gate-passed version again. Raises as `deploy` does, PromotionRefused, UnknownVersion."""
    return _switched(lambda promoter: promoter.promote_version(use_case, reference), serving, settings)


def rollback(use_case: str, settings: Settings, serving: Serving) -> Deployment:
    """Deploy the previous champion. Raises as `deploy` does, PromotionRefused when there is none."""
    return _switched(lambda promoter: promoter.rollback(use_case), serving, settings)


def _switched(
    move: Callable[[Promoter], Promotion],
    serving: Serving,
    settings: Settings,
    actor: str = "",
    seconds: float = 15.0,
    about: Mapping[str, Any] = {},
) -> Deployment:
    models = ModelServing(settings, serving)
    promotion = move(Promoter(settings, actor=actor, ready=lambda version: {**models.ready(version), **about}))
    served, waited = wait_until_served(promotion.use_case, promotion.version, settings, seconds)
    if served == "serving":
        try:
            models.settle(promotion.use_case)
        except TransientError as error:  # the next deploy does it
            logger.warning(
                "%s: versions that serve no more are still on the model server: %s", promotion.use_case, error
            )
    return Deployment(promotion, served, waited)


def wait_until_served(use_case: str, version: str, settings: Settings, seconds: float = 15.0) -> tuple[Served, float]:
    """Look at the gateway until it serves the version; returns what was seen, and after how many seconds."""
    started = time.monotonic()
    while (waited := time.monotonic() - started) < seconds:
        found = served_version(settings, use_case)
        if found is None:
            return "no gateway", waited
        if found == version:
            return "serving", waited
        time.sleep(_BETWEEN_LOOKS)
    return "waiting", waited


def served_version(settings: Settings, use_case: str) -> str | None:
    """The version that the gateway serves; empty when it serves none, None when no gateway answers."""
    import httpx

    key = settings.secrets_folder / "client.key"
    headers = {"Authorization": f"Bearer {key.read_text().strip()}"} if key.is_file() else {}
    try:
        answer = httpx.get(f"{settings.gateway_url}/v1/models", headers=headers, timeout=2)
    except httpx.HTTPError:
        return None
    if answer.status_code != HTTPStatus.OK:
        return None
    found = {each["use_case"]: each.get("version") for each in answer.json()["models"]}
    return str(found.get(use_case) or "")
