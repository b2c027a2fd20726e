"""STOW-RS (PS3.18 10.5): DICOM instances in by the web, and for each how it ended. UIDs out are pseudonyms."""

from collections.abc import Sequence
from typing import Any

from usecases.imaging.reception import DUPLICATE, STRANGE, Outcome

JSON = "application/dicom+json"
FILMS, STUDIES = "/v1/imaging/films", "/v1/imaging/studies"
OUT_OF_RESOURCES, NOT_UNDERSTOOD = 0xA700, 0xC000
_DUPLICATE_INSTANCE, _NO_SUCH_CLASS, _PROCESSING = 0x0111, 0x0122, 0x0110
_DOES_NOT_MATCH, _TRANSFER_SYNTAX = 0xA900, 0xC122
_COERCED, _UNFIT = 0xB000, 0xB007
_FAILURES = {
    DUPLICATE: _DUPLICATE_INSTANCE,
    "wrong_object": _NO_SUCH_CLASS,
    "modality": _NO_SUCH_CLASS,
    "transfer_syntax": _TRANSFER_SYNTAX,
    "undecodable": _TRANSFER_SYNTAX,
    "too_slow": _TRANSFER_SYNTAX,
} | dict.fromkeys(
    ("multi_frame", "colour", "bits", "too_many_pixels", "too_small", "no_pixels", "blank", "body_part", "age"),
    _DOES_NOT_MATCH,
)
"""code of a refusal -> Failure Reason; what is not named here was not understood"""


def status_of(outcomes: Sequence[Outcome]) -> int:
    """200: all are stored; 202: some are, or with a warning; 409: none is; 503: none can be now."""
    if all(outcome.ending is None for outcome in outcomes):
        return 503
    if all(outcome.answer is None for outcome in outcomes):
        return 409
    return 202 if any(outcome.answer is None or _warning(outcome) for outcome in outcomes) else 200


def stored(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The Store Instances Response Module as DICOM JSON. A file without readable UIDs is among the other failures."""
    good = [outcome for outcome in outcomes if outcome.answer is not None]
    failed = [outcome for outcome in outcomes if outcome.answer is None]
    studies = {outcome.study_id for outcome in good}
    sequences = {
        "00081198": [_item(outcome) | _failure(outcome) for outcome in failed if outcome.uids],
        "00081199": [_stored(outcome) for outcome in good],
        "0008119A": [_failure(outcome) for outcome in failed if not outcome.uids],
    }
    module = {"00081190": _url(f"{STUDIES}/{studies.pop()}" if len(studies) == 1 else None)}
    return module | {tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items}


def failure_reason(outcome: Outcome) -> int:
    """Why an instance was not stored; out of resources where the sender should repeat it."""
    if outcome.ending is None:
        return OUT_OF_RESOURCES
    if outcome.ending.state == "quarantined":
        return _PROCESSING
    return _FAILURES.get(outcome.ending.code, NOT_UNDERSTOOD)


def _stored(outcome: Outcome) -> dict[str, Any]:
    item, warning = _item(outcome) | {"00081190": _url(f"{FILMS}/{outcome.film_id}")}, _warning(outcome)
    return item | ({"00081196": {"vr": "US", "Value": [warning]}} if warning else {})


def _warning(outcome: Outcome) -> int | None:
    if outcome.ending is not None and outcome.ending.code == STRANGE:
        return _UNFIT
    return _COERCED if outcome.redacted else None


def _item(outcome: Outcome) -> dict[str, Any]:
    kind, instance = outcome.uids or ("", "")
    return {"00081150": {"vr": "UI", "Value": [kind]}, "00081155": {"vr": "UI", "Value": [instance]}}


def _failure(outcome: Outcome) -> dict[str, Any]:
    return {"00081197": {"vr": "US", "Value": [failure_reason(outcome)]}}


def _url(address: str | None) -> dict[str, Any]:
    return {"vr": "UR", "Value": [address]} if address else {"vr": "UR"}
