"""What becomes of each element of a film: the Basic Profile of PS3.15 Annex E, and the few that are kept."""

import csv
from collections.abc import Mapping
from functools import cache
from itertools import permutations, product
from pathlib import Path

from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

EDITION = "2026c"
"""of DICOM, whose table E.1-1 `deid_profile.csv` is: tag, keyword, action codes of the column Basic Profile"""

CLASSES = frozenset(
    {
        ComputedRadiographyImageStorage,
        DigitalXRayImageStorageForPresentation,
        DigitalXRayImageStorageForProcessing,
        SecondaryCaptureImageStorage,
    }
)
MODALITIES = frozenset({"CR", "DX", "RG"})
"""what is taken at all"""
CODES: Mapping[str, frozenset[str]] = {
    "SOPClassUID": CLASSES,
    "Modality": MODALITIES,
    "ImageType": frozenset({"ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY"}),
    "ConversionType": frozenset({"DV", "DI", "DF", "WSD", "SD", "SI", "DRW", "SYN"}),
    "PresentationIntentType": frozenset({"FOR PRESENTATION", "FOR PROCESSING"}),
    "PatientSex": frozenset({"F", "M", "O"}),
    "ViewPosition": frozenset({"PA", "AP", "LL", "RL"}),
    "PatientOrientation": frozenset(map("".join, (*product("LRAPHF"), *permutations("LRAPHF", 2)))),
    "Laterality": frozenset({"L", "R"}),
    "ImageLaterality": frozenset({"L", "R", "B", "U"}),
    "PhotometricInterpretation": frozenset({"MONOCHROME1", "MONOCHROME2"}),
    "PixelIntensityRelationship": frozenset({"LIN", "LOG", "DISP"}),
    "PresentationLUTShape": frozenset({"IDENTITY", "INVERSE"}),
    "LossyImageCompression": frozenset({"00", "01"}),
    "LossyImageCompressionMethod": frozenset({"ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_13818_2"}),
    "RescaleType": frozenset({"US", "OD", "HU", "Z_EFF", "UNSPECIFIED"}),
    "ModalityLUTType": frozenset({"US", "OD", "HU", "UNSPECIFIED"}),
    "VOILUTFunction": frozenset({"LINEAR", "LINEAR_EXACT", "SIGMOID"}),
}
"""kept where they say one of these: any other text in them could be a name"""
NUMBERS = frozenset(
    {
        "Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
        "PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio", "PixelPaddingValue", "PixelPaddingRangeLimit",
        "PixelIntensityRelationshipSign", "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth",
        "LossyImageCompressionRatio", "LUTDescriptor", "LUTData",
    }
)  # fmt: skip
UIDS = frozenset({"SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"})
DATES = frozenset({"StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "AcquisitionDateTime"})
TIMES = frozenset({"StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime"})
SEQUENCES = frozenset({"ModalityLUTSequence"})
REWRITTEN = frozenset({"PatientName", "PatientID", "PatientAge", "BodyPartExamined"})
"""written anew: pseudonyms, whole years, CHEST"""
DEVICE = ("Manufacturer", "ManufacturerModelName")
"""of which a number is kept, and no text: who wrote them may have written anything"""
EMPTY = (
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID", "PatientBirthDate", "PatientSex",
    "Manufacturer", "SeriesNumber", "InstanceNumber", "BodyPartExamined", "ViewPosition", "PatientOrientation",
)  # fmt: skip
"""written without a value where there is none: the modules of a radiograph want them there (type 2)"""
EMPTY_DX = ("DetectorType", "AcquisitionContextSequence")
"""and those of a digital one these"""
OPTIONS = {
    "113100": "Basic Application Confidentiality Profile",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
}
CLEAN_PIXELS = {"113101": "Clean Pixel Data Option"}
"""codes of DCM that say what was done (PS3.16 CID 7050)"""


def action_of(tag: int) -> str | None:
    """The action codes of the Basic Profile, as X/Z/D; None for an element that it does not name."""
    exact, repeating = _table()
    digits = f"{tag:08X}"
    if (tag >> 16) % 2:
        return "X"
    group = digits[:2] + "xx"
    return exact.get(digits) or repeating.get(group + digits[4:]) or repeating.get(group + "xxxx")


@cache
def _table() -> tuple[Mapping[str, str], Mapping[str, str]]:
    with Path(__file__).with_suffix(".csv").open(newline="") as file:
        rows = {row["tag"]: row["action"] for row in csv.DictReader(file)}
    repeating = {tag: action for tag, action in rows.items() if "x" in tag}
    return {tag: action for tag, action in rows.items() if tag not in repeating}, repeating
