"""What is known of one request, and what the log keeps of it."""

import json
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from orrery.adapters.prediction_log import PredictionRecord
from orrery.moments import micros
from orrery.usecase import (
    Answer,
    Array,
    Asked,
    FeatureStatus,
    Key,
    Model,
    Outputs,
    RuleHit,
    Scored,
    Serving,
    StoredByKey,
)

_FEW = 32
"""values a row, up to which the log keeps an output"""
_WORST: tuple[FeatureStatus, ...] = ("present", "stale", "missing", "unavailable")


@dataclass(frozen=True)
class Served:
    """The bundle that answers, and where it came from."""

    model: Model
    version: str
    run_id: str
    digest: str
    source: str
    """registry, or cache when the catalogue was away"""
    variant: str = "champion"


@dataclass
class Work:
    """What is known of one request so far."""

    request: Any
    identity: str
    served: Served | None
    hits: tuple[RuleHit, ...]
    rules: Mapping[str, Any]
    keys: list[Key]
    stored: StoredByKey = field(default_factory=dict)
    inputs: Array | None = None
    outputs: Outputs | None = None
    device: str = "cpu"

    @property
    def asked(self) -> Asked:
        """The request as a use case sees it."""
        return Asked(self.request, self.hits, self.rules, self.stored)

    @property
    def scored(self) -> Scored:
        """The same once a model has seen it."""
        assert self.served is not None
        assert self.inputs is not None
        assert self.outputs is not None
        about = (self.request, self.hits, self.rules, self.stored)
        return Scored(*about, self.inputs, self.outputs, self.served.model, self.device)


def completed(work: Work, answer: Answer, reason: str | None, by: Served | None) -> Answer:
    """The answer with what every answer says about itself. `reason`: why it is degraded, or None; `by`: whose it is."""
    statuses: dict[str, FeatureStatus] = {}
    for key in work.keys:
        found = work.stored[key].status if key in work.stored else "unavailable"
        statuses[key.view] = max(statuses.get(key.view, "present"), found, key=_WORST.index)
    return answer.model_copy(
        update={
            "prediction_id": uuid.uuid4().hex,
            "model_version": by.version if by else None,
            "variant": by.variant if by else "fallback",
            "degraded": reason is not None,
            "degraded_reason": reason,
            "feature_status": statuses,
        }
    )


def record(use_case: str, serving: Serving, work: Work, answer: Answer, now: datetime) -> PredictionRecord:
    """The row that the log keeps of it."""
    served = work.served if answer.model_version is not None else None
    manifest = served.model.manifest if served else None
    outputs = {name: values[0].tolist() for name, values in (work.outputs or {}).items() if _is_small(values)}
    score = outputs.get(serving.monitored_output)
    return PredictionRecord(
        prediction_id=answer.prediction_id,
        use_case=use_case,
        identity=work.identity,
        event_time=micros(serving.moment(work.request)),
        recorded_at=micros(now),
        model_version=served.version if served else None,
        run_id=served.run_id if served else None,
        digest=served.digest if served else None,
        data_version=manifest.data_version if manifest else None,
        git_commit=manifest.git_commit if manifest else None,
        variant=answer.variant,
        degraded=answer.degraded,
        degraded_reason=answer.degraded_reason,
        rules_version=str(work.rules["version"]),
        score=score if score is not None and math.isfinite(score) else None,
        request=work.request.model_dump_json(),
        features=_named(serving, work),
        sources=_sources(work),
        outputs=json.dumps(outputs) if served else None,
        answer=answer.model_dump_json(),
    )


def _is_small(values: Array) -> bool:
    return values.ndim == 1 or (values.ndim == 2 and values.shape[1] <= _FEW)


def _named(serving: Serving, work: Work) -> str | None:
    if work.inputs is None:
        return None
    features, tags = work.inputs[: len(serving.feature_names)], serving.tagged(work.request)
    return json.dumps(dict(zip(serving.logged, [*features.tolist(), *tags.tolist()], strict=True)))


def _sources(work: Work) -> str:
    """Where the stored values came from: view -> entity, status and time of the latest event in it."""
    return json.dumps(
        {
            key.view: {
                "entity": key.entity,
                "status": found.status,
                "event_time": found.event_time.isoformat() if found.event_time else None,
            }
            for key, found in work.stored.items()
        }
    )
