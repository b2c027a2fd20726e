"""What the DICOM objects of a result have in common: who made them, and that they tell no real moment."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from highdicom import AlgorithmIdentificationSequence
    from pydicom.dataset import Dataset

MAKER = "Orrery"
ALGORITHM = "Orrery chest film triage"
UNKNOWN = ("19000101", "000000")


def version_of(answer_version: str | None) -> str:
    """What stands for the model's version: a film without an answer of a model has none."""
    return answer_version or "none"


def identified(version: str) -> "AlgorithmIdentificationSequence":
    """The algorithm, as DICOM wants it said."""
    from highdicom import AlgorithmIdentificationSequence
    from pydicom.sr.codedict import codes

    return AlgorithmIdentificationSequence(name=ALGORITHM, family=codes.DCM.ArtificialIntelligence, version=version)


def finished(made: "Dataset", header: "Dataset") -> "Dataset":
    """The object at the film's own, shifted moment: the real one beside it would tell by how much it was shifted.

    So it is also the same object, to the last byte, whenever it is asked for.
    """
    date, time = header.get("StudyDate") or UNKNOWN[0], header.get("StudyTime") or UNKNOWN[1]
    made.ContentDate, made.ContentTime = date, time
    for keyword in ("InstanceCreationDate", "InstanceCreationTime", "SeriesDate", "SeriesTime"):
        made.pop(keyword, None)
    for equipment in made.get("ContributingEquipmentSequence", []):
        equipment.pop("ContributionDateTime", None)
    made.LongitudinalTemporalInformationModified = "MODIFIED"
    return made


def written(made: "Dataset") -> bytes:
    """The object as a DICOM file."""
    content = io.BytesIO()
    made.save_as(content, enforce_file_format=True)
    return content.getvalue()
