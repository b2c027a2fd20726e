"""An answer as DICOM Structured Report: Enhanced SR by the template TID 1500, Measurement Report."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from usecases.imaging.answers import RESEARCH
from usecases.imaging.pseudonyms import Pseudonyms
from usecases.imaging.result_object import ALGORITHM, MAKER, finished, version_of, written

if TYPE_CHECKING:
    from highdicom.sr import CodedConcept, MeasurementReport, MeasurementsAndQualitativeEvaluations
    from pydicom.dataset import Dataset

SCHEME = "99ORRERY"
"""our own codes: no public one says these"""
NUMBERS = {
    "probability": ("Probability of an opacity", "1"),
    "operating_point": ("Operating point of the decision", "1"),
    "uncertainty": ("Binary entropy of the probability", "bit"),
    "lung_share": ("Share of the picture that is lung", "1"),
    "ood": ("Distance from the films learned from, 1 is the limit", "1"),
}
"""what is measured -> its meaning and its unit in UCUM; the names are our codes"""
DECISIONS = {
    "finding": "Opacity suspected",
    "no_finding": "No opacity suspected",
    "not_scored": "Not scored",
}
_LIBRARY = ("PatientOrientation", "ImagerPixelSpacing")
"""what the image library must say of a radiograph (TID 1603); without it the film is referred to by the group only"""
PRIORITIES = {"stat": "Read at once", "high": "Read soon", "routine": "Routine"}


def report(header: "Dataset", answer: Mapping[str, Any], names: Pseudonyms) -> bytes:
    """The report of an answer. `header`: the film without its pixels. The same answer always makes the same file."""
    from highdicom.sr import EnhancedSR

    key = f"{answer['prediction_id']}/sr"
    made = EnhancedSR(
        evidence=[header],
        content=_content(header, answer, names.uid(f"{key}/film"), names.uid("observer")),
        series_instance_uid=names.uid(f"{key}/series"),
        series_number=101,
        sop_instance_uid=names.uid(key),
        instance_number=1,
        manufacturer=MAKER,
        is_complete=True,
        is_final=False,
    )
    return written(finished(made, header))


def _content(header: "Dataset", answer: Mapping[str, Any], tracking: str, observer: str) -> "MeasurementReport":
    from highdicom.sr import (
        CodedConcept,
        DeviceObserverIdentifyingAttributes,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
    )
    from pydicom.sr.codedict import codes

    device = DeviceObserverIdentifyingAttributes(
        uid=observer,
        name=f"{ALGORITHM}. {RESEARCH}",
        manufacturer_name=MAKER,
        model_name=version_of(answer.get("model_version")),
    )
    context = ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    return MeasurementReport(
        observation_context=ObservationContext(observer_device_context=context),
        procedure_reported=CodedConcept("399208008", "SCT", "Plain chest X-ray"),
        imaging_measurements=[_group(header, answer, tracking)],
        title=codes.DCM.ImagingMeasurementReport,
        referenced_images=[header] if all(header.get(keyword) for keyword in _LIBRARY) else None,
    )


def _group(header: "Dataset", answer: Mapping[str, Any], tracking: str) -> "MeasurementsAndQualitativeEvaluations":
    from highdicom.sr import (
        AlgorithmIdentification,
        CodedConcept,
        FindingSite,
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
    )
    from pydicom.sr.codedict import codes

    ood = answer.get("ood") or {}
    values = {**answer, "ood": ood.get("score")}
    numbers = [
        Measurement(name=_ours(name, meaning), value=round(values[name], 6), unit=CodedConcept(unit, "UCUM", unit))
        for name, (meaning, unit) in NUMBERS.items()
        if values.get(name) is not None
    ]
    said = [
        QualitativeEvaluation(name=_ours(name, name.capitalize()), value=_ours(answer[name], meanings[answer[name]]))
        for name, meanings in (("decision", DECISIONS), ("priority", PRIORITIES))
    ]
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=tracking, identifier=answer["prediction_id"]),
        algorithm_id=AlgorithmIdentification(name=ALGORITHM, version=version_of(answer.get("model_version"))),
        finding_sites=[FindingSite(codes.SCT.Lung)],
        measurements=numbers,
        qualitative_evaluations=said,
        source_images=[SourceImageForMeasurementGroup.from_source_image(header)],
    )


def _ours(value: str, meaning: str) -> "CodedConcept":
    from highdicom.sr import CodedConcept

    return CodedConcept(value, SCHEME, meaning)
