"""The lungs as DICOM Segmentation (SEG), pixel for pixel on the film they were found on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from orrery.usecase import Array
from usecases.imaging.picture import restore
from usecases.imaging.pseudonyms import Pseudonyms
from usecases.imaging.result_object import MAKER, finished, identified, version_of, written

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def segmentation(header: "Dataset", mask: Array, answer: Mapping[str, Any], names: Pseudonyms) -> bytes:
    """A SEG of one frame. `header`: the film without its pixels; `mask`: uint8 of shape (128, 128), not 0 is lung."""
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.sr.codedict import codes

    version, key = version_of(answer.get("model_version")), f"{answer['prediction_id']}/seg"
    for keyword in ("PixelSpacing", "FrameOfReferenceUID"):  # a projection has no place in space
        header.pop(keyword, None)
    lungs = restore(np.asarray(mask > 0, np.uint8), header.Rows, header.Columns)
    described = SegmentDescription(
        segment_number=1,
        segment_label="Lungs",
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=codes.SCT.Lung,
        algorithm_type="AUTOMATIC",
        algorithm_identification=identified(version),
    )
    seg = Segmentation(
        source_images=[header],
        pixel_array=lungs,
        segmentation_type="BINARY",
        segment_descriptions=[described],
        series_instance_uid=names.uid(f"{key}/series"),
        series_number=102,
        sop_instance_uid=names.uid(key),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=version,
        device_serial_number="0",
        content_label="LUNGS",
        omit_empty_frames=False,
    )
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = names.uid(f"{key}/dimensions")
    seg.PatientOrientation = header.get("PatientOrientation")
    return written(finished(seg, header))
