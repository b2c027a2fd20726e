"""STOW-RS: every instance its own result, by DICOM's codes, and only pseudonyms out."""

import io

import pytest
from pydicom import Dataset, dcmread

from usecases.imaging.dicomweb import OUT_OF_RESOURCES, failure_reason, status_of, stored
from usecases.imaging.ledger import Ending
from usecases.imaging.reception import Outcome
from usecases.imaging.test_imaging_endpoints import STOW, Client, FakeDesk, raw, small_film

KIND = 'multipart/related; type="application/dicom"; boundary=b1'


@pytest.fixture
def desk(tmp_path):
    return FakeDesk(tmp_path / "imaging")


@pytest.fixture
def client(desk):
    client = Client(desk, "ward-key")
    yield client
    client.close()


def related(*instances, kind="application/dicom"):
    parts = [f"--b1\r\nContent-Type: {kind}\r\n\r\n".encode() + data + b"\r\n" for data in instances]
    return b"".join(parts) + b"--b1--\r\n"


def store(client, *instances):
    """The status, and the module as pydicom reads it."""
    said = raw(client, related(*instances), KIND, STOW)
    assert said.headers["content-type"] == "application/dicom+json"
    return said.status_code, Dataset.from_json(said.text), said


def reasons(items):
    return [item.FailureReason for item in items]


def test_every_instance_is_stored(client, desk):
    status, module, said = store(client, small_film(1), small_film(2))
    assert status == 200
    assert "FailedSOPSequence" not in module
    first, second = module.ReferencedSOPSequence
    assert first.ReferencedSOPInstanceUID != second.ReferencedSOPInstanceUID
    assert all(item.ReferencedSOPInstanceUID.startswith("2.25.") for item in (first, second))
    assert "1.2.3.4" not in said.text
    found = client.get(first.RetrieveURL).json()
    assert found["state"] == "scored"
    assert len(client.get(module.RetrieveURL).json()["films"]) == 2
    kept = dcmread(desk.folder / "films" / f"{found['film_id']}.dcm")
    assert kept.SOPInstanceUID == first.ReferencedSOPInstanceUID
    assert kept.SOPClassUID == first.ReferencedSOPClassUID


def test_some_are_stored_and_the_others_say_why(client):
    status, module, _ = store(client, small_film(1), b"no film", b"")
    assert status == 202
    assert len(module.ReferencedSOPSequence) == 1
    assert reasons(module.OtherFailuresSequence) == [0xC000, 0xC000]


def test_none_is_stored(client):
    status, module, _ = store(client, b"no film")
    assert status == 409
    assert "ReferencedSOPSequence" not in module
    assert reasons(module.OtherFailuresSequence) == [0xC000]


def test_what_comes_twice_is_the_same_and_other_pixels_fail_by_their_pseudonym(client, desk):
    _, module, first = store(client, small_film(1))
    assert store(client, small_film(1))[2].text == first.text
    assert len(store(client, small_film(1), small_film(1))[1].ReferencedSOPSequence) == 2
    status, again, _ = store(client, small_film(1, brighter=9), small_film(2))
    assert status == 202
    (failed,) = again.FailedSOPSequence
    assert failed.FailureReason == 0x0111
    assert failed.ReferencedSOPInstanceUID == module.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert len(desk.predictions) == 2


def changed(data, **values):
    dataset = dcmread(io.BytesIO(data))
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    content = io.BytesIO()
    dataset.save_as(content)
    return content.getvalue()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CT"}, 0x0122),
        ({"BodyPartExamined": "KNEE"}, 0xA900),
        ({"NumberOfFrames": 2}, 0xA900),
    ],
)
def test_reasons_are_dicoms(client, values, reason):
    status, module, _ = store(client, changed(small_film(1), **values))
    assert status == 409
    assert reasons(module.OtherFailuresSequence) == [reason]


def test_two_studies_have_no_address_in_common(client):
    _, module, _ = store(client, small_film(1), small_film(2, study="1.2.9"))
    assert not module.RetrieveURL


def test_a_strange_film_is_stored_with_a_warning(client, desk):
    desk.said = {"decision": "not_scored", "probability": None, "ood": {"score": 4.0, "verdict": "out"}}
    status, module, _ = store(client, small_film(1))
    assert (status, module.ReferencedSOPSequence[0].WarningReason) == (202, 0xB007)


def test_what_cannot_be_taken_now_is_to_be_sent_again(client, desk):
    desk.away = 1
    status, module, _ = store(client, small_film(1), b"no film")
    assert status == 409
    assert sorted(reasons(module.OtherFailuresSequence)) == [OUT_OF_RESOURCES, 0xC000]
    desk.away = 1
    status, _, said = store(client, small_film(1))
    assert (status, said.headers["retry-after"]) == (503, "2")


@pytest.mark.parametrize(
    ("kind", "content", "status"),
    [
        ("application/dicom", b"x", 415),
        ("multipart/related; boundary=b1", related(b"x"), 415),
        ('multipart/related; type="application/dicom+json"; boundary=b1', related(b"x"), 415),
        (KIND, related(b"x", kind="text/plain"), 415),
        (KIND, b"--b1--\r\n", 400),
        (KIND, b"", 400),
        (KIND, related(b"x")[:-8], 400),
        ('multipart/related; type="application/dicom"', related(b"x"), 400),
        (KIND, related(*[b""] * 501), 413),
    ],
)
def test_a_bad_body_is_a_problem(client, kind, content, status):
    said = raw(client, content, kind, STOW)
    assert said.status_code == status, said.text
    assert said.headers["content-type"] == "application/problem+json"


def test_a_quarantined_and_a_redacted_film_have_codes_of_their_own():
    kept = Outcome("f", "s", Ending("quarantined", "text"))
    assert failure_reason(kept) == 0x0110
    redacted = Outcome("f", "s", Ending("scored"), {"decision": "finding"}, ("1.2", "2.25.1"), redacted=True)
    assert status_of([redacted]) == 202
    assert stored([redacted])["00081199"]["Value"][0]["00081196"]["Value"] == [0xB000]
