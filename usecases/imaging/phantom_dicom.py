"""A phantom as a DICOM file, as hospitals write them: many machines, many habits, and people who do not exist."""

import io
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset, FileMetaDataset, dcmwrite, uid
from pydicom.encaps import encapsulate

from orrery.usecase import Array
from usecases.imaging.phantom import Phantom, draw
from usecases.imaging.phantom_people import Person, person

SYNTAXES = (
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
)
_ENCODERS = {uid.RLELossless: "pydicom", uid.JPEGLSLossless: "pyjpegls"}
"""gdcm's RLE encoder ends the process on some films, so none is left to chance"""
BITS = (8, 10, 12, 16)
_MACHINES = (("Ortho & Sons", "Lumen 3"), ("Radiante", "DX-Nova"), ("Kestrel Imaging", "K-100 CR"), ("", ""))
_SCALES = ((1, 0), (2, -1024), (0.5, 10))
"""slope and intercept"""
_WITHOUT_AGE, _WITHOUT_VIEW, _WITHOUT_SEX = 0.04, 0.05, 0.03
"""share of films that do not say"""


def written(
    film: Phantom,
    seed: int,
    *,
    moment: datetime,
    transfer_syntax: uid.UID = uid.ExplicitVRLittleEndian,
    text: bool = False,
    who: int | None = None,
    study: int | None = None,
    number: int = 1,
) -> bytes:
    """A file of CR or DX with the film, always the same for a seed; the header knows nothing of the finding.

    `moment` is aware. `text`: a name, a number and a date are burned into the pixels. `who` names the patient and
    `study` the study, by default one for each seed; `number` is the film's in its study.
    """
    rng = np.random.default_rng([22, seed])
    patient = person(seed if who is None else who, film.age)
    dataset = _identified(rng, patient, seed, seed if study is None else study, moment)
    dataset.InstanceNumber = number
    levels = _burned(rng, film.pixels, _lines(rng, patient, moment)) if text else film.pixels
    _say_film(rng, dataset, film, patient, moment)
    _say_pixels(rng, dataset, levels)
    said = rng.choice(["YES", "NO", ""]) if text else rng.choice(["NO", ""])
    if said:
        dataset.BurnedInAnnotation = str(said)
    return _file(dataset, transfer_syntax)


def study(seed: int, films: int, *, moment: datetime, text: bool = False) -> list[bytes]:
    """Several films of one patient, taken minutes apart: one StudyInstanceUID, another SOPInstanceUID each."""
    return [
        written(
            draw(1000 * seed + place, person=seed),
            1000 * seed + place,
            moment=moment + timedelta(minutes=3 * place),
            text=text,
            who=seed,
            study=seed,
            number=place + 1,
        )
        for place in range(films)
    ]


def _uid(kind: str, seed: int) -> uid.UID:
    return uid.generate_uid(entropy_srcs=["phantom", kind, str(seed)])


def _identified(rng: np.random.Generator, who: Person, seed: int, study_seed: int, moment: datetime) -> Dataset:
    """Who was seen, when, where and by whom; said again in sequences and private elements, as real files do."""
    dataset = Dataset()
    if who.charset is not None:
        dataset.SpecificCharacterSet = who.charset
    dataset.PatientName, dataset.PatientID = who.name, who.number
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = _uid("study", study_seed), _uid("series", study_seed)
    dataset.FrameOfReferenceUID, dataset.SOPInstanceUID = _uid("frame", study_seed), _uid("instance", seed)
    for what in ("Study", "Series", "Acquisition", "Content"):
        setattr(dataset, f"{what}Date", f"{moment:%Y%m%d}")
        setattr(dataset, f"{what}Time", f"{moment:%H%M%S}")
    dataset.StudyID, dataset.SeriesNumber, dataset.AccessionNumber = str(study_seed % 10**6), 1, who.accession
    dataset.ReferringPhysicianName, dataset.OperatorsName = who.doctor, who.operator
    dataset.InstitutionName, dataset.StationName = who.hospital, "ROOM-4"
    dataset.StudyDescription = "Thorax" if rng.random() < 0.5 else "XR CHEST"
    if rng.random() < 0.6:
        _gossip(dataset, who)
    maker, model = _MACHINES[rng.integers(len(_MACHINES))]
    dataset.Manufacturer = maker
    if model:
        dataset.ManufacturerModelName, dataset.DeviceSerialNumber = model, who.device
    return dataset


def _gossip(dataset: Dataset, who: Person) -> None:
    dataset.PatientAddress, dataset.PatientTelephoneNumbers = who.address, who.phone
    dataset.PatientComments = f"{who.printed} came with a neighbour"
    dataset.InstitutionAddress = who.address
    asked = Dataset()
    asked.RequestedProcedureDescription = f"CHEST {who.printed}"[:64]
    asked.RequestedProcedureID, asked.ScheduledProcedureStepID = who.accession, who.accession
    dataset.RequestAttributesSequence = [asked]
    other = Dataset()
    other.PatientID, other.IssuerOfPatientID, other.PatientName = who.number, who.hospital, who.name
    dataset.OtherPatientIDsSequence = [other]
    block = dataset.private_block(0x0029, "KESTREL WORKLIST", create=True)
    block.add_new(0x01, "LO", who.number)
    block.add_new(0x02, "PN", who.name)
    nested = Dataset()
    nested.PatientName, nested.PatientBirthDate = who.name, f"{who.born:%Y%m%d}"
    block.add_new(0x03, "SQ", [nested])


def _say_film(rng: np.random.Generator, dataset: Dataset, film: Phantom, who: Person, moment: datetime) -> None:
    digital = rng.random() < 0.5
    dataset.SOPClassUID = uid.DigitalXRayImageStorageForPresentation if digital else uid.ComputedRadiographyImageStorage
    dataset.Modality, dataset.BodyPartExamined = "DX" if digital else "CR", "CHEST"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.PatientSex = ["", "O"][rng.integers(2)] if rng.random() < _WITHOUT_SEX else film.sex
    dataset.ViewPosition = "" if rng.random() < _WITHOUT_VIEW else film.view
    dataset.PatientOrientation = ["L", "F"]
    if digital:
        dataset.PresentationIntentType, dataset.ImageLaterality = "FOR PRESENTATION", "U"
    dataset.PatientBirthDate = ""
    if rng.random() >= _WITHOUT_AGE:
        way = rng.integers(3)
        if way != 0:
            dataset.PatientAge = f"{(moment.date() - who.born).days // 365.25:03.0f}Y"
        if way != 1:
            dataset.PatientBirthDate = f"{who.born:%Y%m%d}"
    spacing = f"{rng.uniform(0.7, 1.4):.4f}"
    setattr(dataset, "ImagerPixelSpacing" if digital else "PixelSpacing", [spacing, spacing])
    dataset.KVP = int(rng.integers(70, 126))


def _say_pixels(rng: np.random.Generator, dataset: Dataset, levels: Array) -> None:
    """Store levels of 0..1 as a machine does: its bits, its sense, its scale."""
    bits = int(rng.choice(BITS))
    most = 2**bits - 1
    stored = np.rint(levels * most)
    inverted = rng.random() < 0.4
    if inverted:
        stored = most - stored
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    dataset.Rows, dataset.Columns = levels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 if bits == 8 else 16, bits, bits - 1
    dataset.PixelData = stored.astype("<u1" if bits == 8 else "<u2").tobytes()
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    digital = dataset.Modality == "DX"
    if digital:
        dataset.PixelIntensityRelationship, dataset.PixelIntensityRelationshipSign = "LOG", 1 if inverted else -1
        dataset.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    if digital or rng.random() < 0.5:
        slope, intercept = (1, 0) if digital else _SCALES[rng.integers(len(_SCALES))]
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = slope, intercept, "US"
    if rng.random() < 0.7:
        dataset.WindowCenter, dataset.WindowWidth = most // 2, most


def _lines(rng: np.random.Generator, who: Person, moment: datetime) -> tuple[str, ...]:
    """What is printed on the film; its number is sometimes not the one in the header."""
    number = who.number if rng.random() < 0.7 else f"{rng.integers(10**6, 10**7)}"
    born = f"{who.born:%d.%m.%Y}" if rng.random() < 0.5 else f"DOB {who.born:%Y-%m-%d}"
    return who.printed, number, born, f"{moment:%d/%m/%Y %H:%M}"


def _burned(rng: np.random.Generator, levels: Array, lines: Sequence[str]) -> Array:
    """Two to four lines in a corner, on a box or on the film itself, large enough for a person to read."""
    words = "\n".join(lines[: int(rng.integers(2, len(lines) + 1))])
    image = Image.fromarray(levels)
    canvas = ImageDraw.Draw(image)
    font = ImageFont.load_default(int(rng.integers(11, 12 + levels.shape[1] // 24)))
    box = [int(edge) for edge in canvas.multiline_textbbox((0, 0), words, font=font)]
    left = 4 if rng.random() < 0.6 else max(0, levels.shape[1] - box[2] - 4)
    top = 4 if rng.random() < 0.6 else max(0, levels.shape[0] - box[3] - 6)
    under = (left - 2, top - 2, left + box[2] + 2, top + box[3] + 2)
    paper = float(image.crop(under).resize((1, 1), Image.Resampling.BOX).getpixel((0, 0)) > 0.5)  # type: ignore[operator]
    if rng.random() < 0.5:
        paper = float(rng.integers(2))
        canvas.rectangle(under, fill=paper)
    canvas.multiline_text((left, top), words, fill=1 - paper, font=font)
    return np.asarray(image, dtype=np.float32)


def _file(dataset: Dataset, syntax: uid.UID) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    packed = syntax.is_compressed and not syntax.is_deflated
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian if packed else syntax
    dataset.file_meta = meta
    if syntax in _ENCODERS:
        dataset.compress(syntax, encoding_plugin=_ENCODERS[syntax], generate_instance_uid=False)
    elif packed:
        _pack(dataset, syntax)
    file = io.BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def _pack(dataset: Dataset, syntax: uid.UID) -> None:
    """What pydicom has no encoder for: JPEG lossless, JPEG 2000."""
    import gdcm

    writer = gdcm.ImageWriter()  # must outlive its image
    image = writer.GetImage()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((dataset.Columns, dataset.Rows, 1))
    sense = gdcm.PhotometricInterpretation.GetPIType(dataset.PhotometricInterpretation)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(sense))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.ImplicitVRLittleEndian))
    image.SetPixelFormat(gdcm.PixelFormat(1, dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, 0))
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetByteStringValue(dataset.PixelData)
    image.SetDataElement(element)
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
    change.SetInput(image)
    change.Change()
    fragment = change.GetOutput().GetDataElement().GetSequenceOfFragments().GetFragment(0)
    frame = fragment.GetByteValue().GetBuffer().encode("utf-8", "surrogateescape")
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.file_meta.TransferSyntaxUID = syntax
