"""Imaging's endpoints over HTTP, at a desk of their own: all is real but the model."""

import asyncio
import base64
import io
import json
import logging
import re
import tempfile
import uuid
import zipfile
from collections import Counter
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import pytest
from fastapi import FastAPI, HTTPException
from PIL import Image
from pydicom import dcmread, dcmwrite, uid
from pydicom.dataset import Dataset, FileMetaDataset

from orrery.adapters.access_log import AccessLog, verify
from orrery.errors import OrreryError, TransientError
from usecases.imaging import uploads
from usecases.imaging.endpoints import router
from usecases.imaging.phantom import draw
from usecases.imaging.phantom_dicom import written
from usecases.imaging.picture import SIDE, encode

MOMENT = datetime(2026, 1, 5, 10, 20, tzinfo=UTC)
PREDICT, STOW = "/v1/imaging/predict", "/dicomweb/studies"
KEYS = {"ward-key": ("ward", {"predict", "read", "feedback"}), "blind-key": ("blind", {"predict"})}
KEY = bytes(range(32))


class Away(TransientError):
    """The log is away, as the gateway would say."""


class FakeDesk:
    """A desk whose model says what `said` says, the same of the same film, and remembers everything."""

    def __init__(self, folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        self.folder, self.secret, self.moment = folder, KEY, MOMENT
        self.said, self.away, self.told = {}, 0, []
        self.counted, self.levels = Counter(), {}
        self.predictions = {}
        self._audit = AccessLog(folder / "access.jsonl", KEY)

    def now(self):
        return self.moment

    async def allow(self, request, verb):
        who, verbs = KEYS.get(request.headers.get("x-api-key"), (None, set()))
        if who is None:
            raise HTTPException(401, "an API key is needed")
        if verb not in verbs:
            raise HTTPException(403, f"this key lacks the scope {verb}")
        return who

    async def predict(self, event):
        if self.away:
            self.away -= 1
            raise Away("the log does not confirm")
        for asked, answer in self.predictions.values():
            if asked["film_id"] == event.film_id:
                return answer
        lungs = np.zeros((SIDE, SIDE), np.uint8)
        lungs[30:90, 20:110] = 255
        answer = {
            "prediction_id": uuid.uuid4().hex, "model_version": "3", "degraded": False, "film_id": event.film_id,
            "study_id": event.study_id, "probability": 0.83, "decision": "finding", "operating_point": 0.4,
            "uncertainty": 0.65, "ood": {"score": 0.3, "verdict": "in"}, "lung_share": 0.33, "priority": "high",
            "flags": list(event.flags), "device": "cpu", "mask": base64.b64encode(encode(lungs)).decode(),
            "cam": base64.b64encode(encode(lungs)).decode() if event.explain else None,
        } | self.said  # fmt: skip
        self.predictions[answer["prediction_id"]] = (json.loads(event.model_dump_json()), answer)
        return answer

    async def feedback(self, event):
        self.told.append(event)
        return {"identity": event.film_id, "prediction_id": None, "repeated": False}

    async def logged(self, prediction_id):
        return self.predictions.get(prediction_id)

    async def record(self, who, action, subject, details):
        await asyncio.to_thread(self._audit.append, action, subject, dict(details), who)

    def count(self, event, outcome):
        self.counted[event, outcome] += 1

    def level(self, what, value):
        self.levels[what] = value

    def audited(self):
        return [json.loads(line) for line in (self.folder / "access.jsonl").read_text().splitlines()]


def film(seed, **options):
    """A film as a modality would write it."""
    return written(draw(seed), seed, moment=MOMENT, **options)


def small_film(number, *, study="1.2.3", brighter=0):
    """A DICOM file that takes little time: 64 x 64."""
    dataset, meta = Dataset(), FileMetaDataset()
    dataset.file_meta = meta
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"1.2.3.4.{number}"
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.Modality = study, f"{study}.1", "DX"
    dataset.PatientName, dataset.PatientID = "Zyxwv^Qwertina", "ID-ZQ-77713"
    dataset.Rows = dataset.Columns = 64
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    down, right = np.mgrid[:64, :64]
    levels = (np.sin(right / 9 + number) + np.cos(down / 7) + 2) * 900 + brighter
    dataset.PixelData = levels.astype("<u2").tobytes()
    content = io.BytesIO()
    dcmwrite(content, dataset, enforce_file_format=True)
    return content.getvalue()


def zipped(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as study:
        for name, data in files.items():
            study.writestr(name, data)
    return content.getvalue()


def picture(**changed):
    levels = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE).astype(np.uint8)
    return {"film_id": "f-1", "picture": base64.b64encode(encode(levels)).decode()} | changed


class Client:
    """Asks an app without a network; what the app raises is raised here."""

    def __init__(self, desk, key):
        app = FastAPI()
        app.include_router(router(desk))
        self._loop = asyncio.new_event_loop()
        headers = {"x-api-key": key} if key else {}
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://gateway", headers=headers, timeout=120
        )

    def request(self, method, path, **asked):
        return self._loop.run_until_complete(self._client.request(method, path, **asked))

    def get(self, path, **asked):
        return self.request("GET", path, **asked)

    def post(self, path, **asked):
        return self.request("POST", path, **asked)

    def close(self):
        self._loop.run_until_complete(self._client.aclose())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


@pytest.fixture
def desk(tmp_path):
    return FakeDesk(tmp_path / "imaging")


@pytest.fixture
def client(desk):
    client = Client(desk, "ward-key")
    yield client
    client.close()


@pytest.fixture
def stranger(desk):
    """A client without a key."""
    client = Client(desk, "")
    yield client
    client.close()


@pytest.fixture
def blind(desk):
    """A client whose key may predict only."""
    client = Client(desk, "blind-key")
    yield client
    client.close()


def upload(client, data, name="film.dcm", **fields):
    return client.post(PREDICT, files={"file": (name, data, "application/octet-stream")}, data=fields)


def raw(client, data, kind="application/dicom", path=PREDICT):
    return client.post(path, content=data, headers={"content-type": kind})


def state_of(client, film_id):
    return client.get(f"/v1/imaging/films/{film_id}").json()


# --- one film ---------------------------------------------------------------------------------


def test_a_film_is_answered_put_down_kept_and_audited_before_the_answer_leaves(client, desk):
    answer = upload(client, film(3)).raise_for_status().json()
    assert (answer["decision"], answer["cam"]) == ("finding", None)
    found = state_of(client, answer["film_id"])
    assert (found["state"], found["code"], found["prediction_id"]) == ("scored", "", answer["prediction_id"])
    assert any("PatientName" in step for step in found["steps"])
    assert (found["received_at"], found["read_at"]) == (MOMENT.isoformat(), None)
    assert (desk.folder / "films" / f"{answer['film_id']}.dcm").exists()
    first = desk.audited()[0]
    assert (first["actor"], first["action"], first["subject"]) == ("ward", "answer", answer["film_id"])
    assert first["details"]["model_version"] == "3"
    assert first["details"]["decision"] == "finding"
    assert first["details"]["study"] == found["study_id"]
    assert desk.counted["file", "scored"] == desk.counted["ood", "in"] == 1
    assert (desk.levels["unread_films"], desk.levels["uploads"]) == (1, 0)


def test_every_way_of_sending_gives_the_same_answer(client):
    data = film(3)
    answers = [upload(client, data), raw(client, data), upload(client, data, explain="false")]
    assert len({answer.raise_for_status().text for answer in answers}) == 1
    listed = raw(client, zipped({"a": data}), "application/zip").raise_for_status().json()["instances"]
    assert [each["answer"] for each in listed] == [answers[0].json()]


def test_what_the_model_looked_at_is_shown_when_asked_for_even_later(client, desk):
    data = film(3)
    assert upload(client, data).json()["cam"] is None
    for answer in (upload(client, data, explain="true"), client.post(f"{PREDICT}?explain=1", content=data,
                   headers={"content-type": "application/dicom"})):  # fmt: skip
        assert answer.raise_for_status().json()["cam"]
    assert len(desk.predictions) == 1


def test_what_is_asked_of_a_film_says_its_size_as_acquired_and_its_device_by_a_number(client, desk):
    dataset, content = dcmread(io.BytesIO(film(3))), io.BytesIO()
    dataset.Manufacturer, dataset.ManufacturerModelName = "Radiante", "DX-Nova"
    dataset.save_as(content)
    upload(client, content.getvalue()).raise_for_status()
    raw(client, small_film(1)).raise_for_status()
    said = [[asked[name] for name in ("rows", "columns", "device_number")] for asked, _ in desk.predictions.values()]
    assert said == [[*draw(3).pixels.shape, 28_088], [64, 64, None]]


def test_a_film_is_an_event_of_its_arrival_and_of_its_patients_pseudonym(client, desk):
    """Its own dates were moved, each patient's by other years: they say nothing of when it came."""
    for seed, who in ((3, 7), (4, 7), (5, 8)):
        upload(client, film(seed, who=who)).raise_for_status()
    asked = [event for event, _ in desk.predictions.values()]
    assert {datetime.fromisoformat(event["taken_at"]) for event in asked} == {desk.now()}
    first, again, other = (event["patient_id"] for event in asked)
    assert first == again != other
    assert re.fullmatch("[0-9a-f]{32}", first)


REFUSED = {
    "empty": (b"", "empty"),
    "text": (b"no film", "not_dicom"),
    "cut": (small_film(1)[:900], "truncated"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_file_says_why_and_ends_in_one_state(client, desk, case):
    data, code = REFUSED[case]
    said = raw(client, data)
    assert said.status_code == 422
    assert said.headers["content-type"] == "application/problem+json"
    problem = said.json()
    assert (problem["code"], problem["state"], problem["status"]) == (code, "refused", 422)
    assert problem["detail"]
    assert state_of(client, problem["film_id"])["code"] == code
    assert raw(client, data).json() == problem
    assert desk.counted["refusal", code] == 2
    assert desk.audited()[0]["details"]["state"] == "refused"
    assert not list((desk.folder / "films").glob("*")) if (desk.folder / "films").exists() else True


def test_other_pixels_under_the_same_uid_fail_and_overwrite_nothing(client, desk):
    first = raw(client, small_film(1)).raise_for_status().json()
    kept = (desk.folder / "films" / f"{first['film_id']}.dcm").read_bytes()
    said = raw(client, small_film(1, brighter=50))
    assert said.status_code == 409
    assert said.json()["code"] == "duplicate_uid"
    assert said.json()["film_id"] != first["film_id"]
    assert (desk.folder / "films" / f"{first['film_id']}.dcm").read_bytes() == kept
    assert state_of(client, first["film_id"])["state"] == "scored"
    assert state_of(client, said.json()["film_id"])["state"] == "refused"
    assert raw(client, small_film(1)).json() == first
    assert len(desk.predictions) == 1


def test_the_same_film_in_another_transfer_syntax_is_the_same_film(client, desk):
    answers = {upload(client, film(3, transfer_syntax=syntax)).raise_for_status().text
               for syntax in (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.RLELossless)}  # fmt: skip
    assert len(answers) == 1


def test_a_strange_film_is_answered_and_refused_and_waits_for_a_person(client, desk):
    desk.said = {"decision": "not_scored", "probability": None, "ood": {"score": 4.0, "verdict": "out"}}
    answer = upload(client, film(3)).raise_for_status().json()
    found = state_of(client, answer["film_id"])
    assert (found["state"], found["code"]) == ("refused", "out_of_distribution")
    assert desk.counted["ood", "out"] == 1
    assert [each["film_id"] for each in client.get("/v1/imaging/worklist").json()["films"]] == [answer["film_id"]]


def test_without_a_model_a_film_is_answered_and_not_called_scored(client, desk):
    desk.said = {"decision": "not_scored", "probability": None, "ood": None, "mask": None, "model_version": None}
    answer = upload(client, film(3)).raise_for_status().json()
    assert state_of(client, answer["film_id"])["code"] == "no_model"
    assert client.get(f"/v1/imaging/{answer['prediction_id']}/mask.png").status_code == 404
    assert client.get(f"/v1/imaging/{answer['prediction_id']}/result.dcm").status_code == 200


def test_a_failure_after_the_answer_heals_when_the_film_comes_again(client, desk):
    desk.away = 1
    said = upload(client, film(3))
    assert (said.status_code, said.headers["retry-after"]) == (503, "2")
    assert client.get("/v1/imaging/worklist").json()["films"] == []
    answer = upload(client, film(3)).raise_for_status().json()
    assert state_of(client, answer["film_id"])["state"] == "scored"


# --- pictures ---------------------------------------------------------------------------------


def test_a_picture_in_json_is_answered_and_put_down_too(client, desk):
    answer = client.post(PREDICT, json=picture()).raise_for_status().json()
    assert state_of(client, "f-1")["prediction_id"] == answer["prediction_id"]
    assert client.post(PREDICT, json=picture()).json() == answer
    other = base64.b64encode(encode(np.zeros((SIDE, SIDE), np.uint8))).decode()
    said = client.post(PREDICT, json=picture(picture=other))
    assert (said.status_code, said.json()["code"]) == (409, "duplicate_uid")
    assert client.post(PREDICT, content=json.dumps(picture())).status_code == 200


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 422),
        (b'{"film_id": "f"}', 422),
        (json.dumps(picture(film_id="../x")).encode(), 422),
        (json.dumps(picture(patient="Zyxwv")).encode(), 422),
        (b" " * 70_000, 413),
    ],
)
def test_bad_json_is_a_problem_that_repeats_no_value(client, content, status):
    said = raw(client, content, "application/json")
    assert said.status_code == status
    assert said.headers["content-type"] == "application/problem+json"
    assert "Zyxwv" not in said.text
    assert "../x" not in said.text


# --- studies ----------------------------------------------------------------------------------


def test_a_study_in_a_zip_is_answered_file_by_file(client, desk):
    data = zipped({"a.dcm": small_film(1), "b.txt": b"no film", "c/d.dcm": small_film(2), "again": small_film(1)})
    said = upload(client, data, "study.zip")
    assert said.status_code == 202
    instances = said.json()["instances"]
    assert [(each["state"], each["code"]) for each in instances] == [
        ("scored", ""), ("refused", "not_dicom"), ("scored", ""), ("scored", ""),
    ]  # fmt: skip
    assert instances[0] == instances[3]
    assert instances[1]["answer"] is None
    study = client.get(f"/v1/imaging/studies/{instances[0]['study_id']}").json()
    assert {each["film_id"] for each in study["films"]} == {instances[0]["film_id"], instances[2]["film_id"]}
    assert upload(client, zipped({"a": small_film(1), "b": small_film(2)})).status_code == 200
    none = upload(client, zipped({"a": b"no film"}))
    assert (none.status_code, len(none.json()["instances"])) == (409, 1)


def test_several_files_in_one_form_are_answered_by_a_list(client):
    files = [("file", (f"{number}", small_film(number), "application/dicom")) for number in (1, 2)]
    assert [each["state"] for each in client.post(PREDICT, files=files).json()["instances"]] == ["scored", "scored"]


def test_a_study_of_500_films_is_answered_and_one_more_is_not(client, desk):
    films = {f"{number}.dcm": small_film(number % 125) for number in range(500)}
    said = raw(client, zipped(films), "application/zip")
    assert said.status_code == 200
    assert Counter(each["state"] for each in said.json()["instances"]) == {"scored": 500}
    assert len(desk.predictions) == 125
    assert verify(desk.folder / "access.jsonl", KEY).records == 500
    more = raw(client, zipped(films | {"one.dcm": small_film(500)}), "application/zip")
    assert (more.status_code, more.json()["state"]) == (422, "refused")


def test_a_bomb_does_not_go_off(client):
    bomb = zipped({"a": bytes(80 * 1024 * 1024)})
    assert len(bomb) < 200_000
    said = upload(client, bomb, "study.zip")
    assert (said.status_code, said.json()["code"]) == (422, "too_large")
    assert state_of(client, said.json()["film_id"])["state"] == "refused"


@pytest.mark.parametrize("data", [b"PK", b"PK\x05\x06" + bytes(18), b"", b"PK\x03\x04 cut"])
def test_a_broken_zip_is_refused(client, data):
    assert raw(client, data, "application/zip").status_code == 422


def test_of_many_films_those_that_cannot_be_taken_now_are_said(client, desk):
    desk.away = 1
    said = raw(client, zipped({"a": small_film(1), "b": small_film(2)}), "application/zip")
    assert said.status_code == 202
    assert sorted(each["code"] for each in said.json()["instances"]) == ["", "unavailable"]
    desk.away = 2
    said = raw(client, zipped({"a": small_film(1), "b": small_film(2)}), "application/zip")
    assert (said.status_code, said.headers["retry-after"]) == (503, "2")


# --- bodies -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "content", "status"),
    [
        ("text/plain", b"x", 415),
        ("image/png", b"x", 415),
        ("multipart/form-data", b"x", 400),
        ("multipart/form-data; boundary=b", b"", 400),
        ("multipart/form-data; boundary=b", b"garbage", 400),
        ("multipart/form-data; boundary=b", b"--b\r\nno header", 400),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\ncut', 400),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form; name="x"\r\n\r\n1\r\n--b--\r\n', 422),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: x; name="explain"\r\n\r\n1\r\n--b--', 422),
        ("multipart/form-data; boundary=" + "b" * 300, b"x", 400),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"a" * 20_000 + b": 1\r\n\r\n\r\n--b--\r\n", 400),
    ],
)  # fmt: skip
def test_a_bad_body_is_a_problem(client, kind, content, status):
    said = raw(client, content, kind)
    assert said.status_code == status, said.text
    assert said.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("fields", [{"explain": "perhaps"}, {"comment": "Zyxwv"}])
def test_a_bad_field_is_refused(client, fields):
    said = upload(client, small_film(1), **fields)
    assert said.status_code == 422
    assert "Zyxwv" not in said.text


def test_a_body_may_be_so_large_and_no_larger(client, monkeypatch):
    monkeypatch.setattr(uploads, "LARGEST_BODY", 5_000)
    assert raw(client, bytes(5_001)).status_code == 413
    assert upload(client, bytes(5_000)).status_code == 413


def test_more_than_there_is_room_for_is_sent_away_quickly_and_room_is_given_back(client, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(uploads, "_MOST_AT_ONCE", 0)
        said = upload(client, small_film(1))
        assert (said.status_code, said.headers["retry-after"], said.json()["code"]) == (503, "2", "busy")
    with monkeypatch.context() as patch:
        patch.setattr(uploads, "_MOST_HELD", 1_000)
        assert upload(client, small_film(1)).status_code == 503
    study = zipped({"a": small_film(1), "b": small_film(2)})
    with monkeypatch.context() as patch:
        patch.setattr(uploads, "_MOST_HELD", len(study) + 10_000)
        assert raw(client, study, "application/zip").status_code == 503
    assert upload(client, small_film(1)).status_code == 200


def test_nothing_that_is_not_de_identified_touches_the_disk(client, tmp_path, monkeypatch):
    """A form's file over a megabyte would be spooled by Starlette's own parser."""

    def forbidden(*_, **__):
        raise AssertionError("a temporary file was made")

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", forbidden)
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", forbidden)
    monkeypatch.setattr(tempfile, "TemporaryFile", forbidden)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    noise = np.random.default_rng(1).integers(0, 255, 3_000_000, np.uint8).tobytes()
    files = [("file", ("a", small_film(1), "")), ("file", ("b", noise, ""))]
    assert client.post(PREDICT, files=files).status_code == 202
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_client_that_goes_away_harms_nobody(desk, client):
    app = FastAPI()
    app.include_router(router(desk))
    sent = []

    async def gone():
        messages = iter([{"type": "http.request", "body": b"half", "more_body": True}, {"type": "http.disconnect"}])

        async def receive():
            return next(messages)

        async def send(message):
            sent.append(message)

        headers = [(b"x-api-key", b"ward-key"), (b"content-type", b"application/dicom")]
        scope = {"type": "http", "method": "POST", "path": PREDICT, "raw_path": PREDICT.encode(), "query_string": b"",
                 "headers": headers, "http_version": "1.1", "scheme": "http", "server": ("x", 80)}  # fmt: skip
        await app(scope, receive, send)

    asyncio.run(gone())
    assert sent[0]["status"] == 400
    assert client.get("/v1/imaging/worklist").json() == {"films": []}


# --- who may ----------------------------------------------------------------------------------

ASKED = [
    ("POST", PREDICT),
    ("POST", STOW),
    ("GET", "/v1/imaging/worklist"),
    ("GET", "/v1/imaging/films/f"),
    ("GET", "/v1/imaging/studies/s"),
    ("GET", "/v1/imaging/p/mask.png"),
    ("GET", "/v1/imaging/p/seg.dcm"),
    ("POST", "/v1/imaging/worklist/f/read"),
    ("POST", "/v1/imaging/studies/s/complete"),
    ("POST", "/v1/imaging/feedback"),
]


@pytest.mark.parametrize(("method", "path"), ASKED)
def test_every_endpoint_asks_for_a_key(stranger, method, path):
    assert stranger.request(method, path).status_code == 401


@pytest.mark.parametrize(("method", "path"), [each for each in ASKED if each[0] == "GET" or "read" in each[1]])
def test_a_key_that_may_predict_may_not_read(blind, method, path):
    assert blind.request(method, path).status_code == 403


# --- results ----------------------------------------------------------------------------------


def test_results_of_a_film_open_and_their_reading_is_audited(client, desk):
    answer = upload(client, film(3)).json()
    place = f"/v1/imaging/{answer['prediction_id']}"
    rows, columns = draw(3).pixels.shape
    for name in ("mask.png", "cam.png", "overlay.png"):
        found = client.get(f"{place}/{name}")
        assert found.headers["content-type"] == "image/png"
        assert Image.open(io.BytesIO(found.content)).size == (columns, rows)
    for name, modality in (("result.dcm", "SR"), ("seg.dcm", "SEG")):
        found = client.get(f"{place}/{name}")
        assert found.headers["content-type"] == "application/dicom"
        assert dcmread(io.BytesIO(found.content)).Modality == modality
    read = [record["details"]["what"] for record in desk.audited() if record["action"] == "read"]
    assert read == ["mask.png", "cam.png", "overlay.png", "result.dcm", "seg.dcm"]


def test_a_picture_has_pictures_and_no_dicom(client):
    answer = client.post(PREDICT, json=picture()).json()
    place = f"/v1/imaging/{answer['prediction_id']}"
    for name in ("mask.png", "overlay.png"):
        assert Image.open(io.BytesIO(client.get(f"{place}/{name}").content)).size == (SIDE, SIDE)
    for name, reason in (("result.dcm", "as a picture"), ("seg.dcm", "as a picture"), ("cam.png", "explain")):
        found = client.get(f"{place}/{name}")
        assert found.status_code == 404
        assert reason in found.json()["detail"]


@pytest.mark.parametrize("path", ["none/mask.png", "none/seg.dcm", "films/none", "studies/none"])
def test_what_is_not_known_is_not_found(client, path):
    found = client.get(f"/v1/imaging/{path}")
    assert found.status_code == 404
    assert found.headers["content-type"] == "application/problem+json"


def test_a_name_that_cannot_be_is_refused_and_not_repeated(client):
    found = client.get("/v1/imaging/films/Zyxwv%20Qwertina")
    assert found.status_code == 422
    assert "Zyxwv" not in found.text


# --- the worklist -----------------------------------------------------------------------------


def test_films_are_listed_until_they_are_read_or_reported_on(client, desk):
    ids = []
    for number, priority in ((1, "routine"), (2, "stat"), (3, "high")):
        desk.said, desk.moment = {"priority": priority}, MOMENT + timedelta(minutes=number)
        ids.append(raw(client, small_film(number)).json()["film_id"])
    listed = client.get("/v1/imaging/worklist").json()["films"]
    assert [each["film_id"] for each in listed] == [ids[1], ids[2], ids[0]]
    assert len(client.get("/v1/imaging/worklist?limit=1").json()["films"]) == 1
    assert client.get("/v1/imaging/worklist?limit=0").status_code == 422
    assert client.post(f"/v1/imaging/worklist/{ids[1]}/read").json() == {"film_id": ids[1], "read": True}
    assert client.post("/v1/imaging/worklist/none/read").status_code == 404
    arrived = {"arrived_at": MOMENT.isoformat(), "finding": True}
    assert client.post("/v1/imaging/feedback", json={"film_id": ids[2], **arrived}).json()["identity"] == ids[2]
    assert [each["film_id"] for each in client.get("/v1/imaging/worklist").json()["films"]] == [ids[0]]
    assert [event.film_id for event in desk.told] == [ids[2]]
    assert desk.levels["unread_films"] == 1
    assert client.post("/v1/imaging/feedback", json={"film_id": "elsewhere", **arrived}).status_code == 200
    assert client.post("/v1/imaging/feedback", content=b"{}").status_code == 422
    finished = [record["subject"] for record in desk.audited() if record["action"] == "finish"]
    assert finished == [ids[1], ids[2]]


def test_a_study_is_complete_when_its_sender_says_so(client, desk):
    study = raw(client, small_film(1)).json()["study_id"]
    assert not client.get("/v1/imaging/worklist").json()["films"][0]["study_complete"]
    assert len(client.post(f"/v1/imaging/studies/{study}/complete").json()["films"]) == 1
    assert client.get("/v1/imaging/worklist").json()["films"][0]["study_complete"]
    assert client.post("/v1/imaging/studies/none/complete").status_code == 404
    assert "complete" in {record["action"] for record in desk.audited()}


# --- no person anywhere -----------------------------------------------------------------------


def planted(data):
    """A film with names wherever a header has room for one."""
    dataset, content = dcmread(io.BytesIO(data)), io.BytesIO()
    dataset.PatientName, dataset.PatientID = "Zyxwv^Qwertina", "ID-ZQ-77713"
    dataset.ReferringPhysicianName, dataset.InstitutionName = "Vuxtor^Plimb", "Hospital Xanqua"
    dataset.Manufacturer, dataset.ManufacturerModelName = "Vuxtor Xanqua", "of Qwertina Zyxwv"
    dataset.add_new(0x00090010, "LO", "ZQ PRIVATE")
    dataset.add_new(0x00091001, "LO", "privately Zyxwv")
    dataset.save_as(content)
    return content.getvalue()


def test_no_identifier_is_in_any_store_answer_or_log(client, desk, caplog):
    caplog.set_level(logging.DEBUG)
    data, other = (planted(film(seed, text=text)) for seed, text in ((11, True), (12, False)))
    words = ["Zyxwv", "Qwertina", "ZQ-77713", "Vuxtor", "Xanqua", "20260105"]
    words += [str(dcmread(io.BytesIO(each))[name].value) for each in (data, other)
              for name in ("SOPInstanceUID", "StudyInstanceUID")]  # fmt: skip
    said = [
        upload(client, data, "Zyxwv_Qwertina.dcm"),
        upload(client, zipped({"Zyxwv_Qwertina.dcm": other, "Zyxwv.txt": b"Zyxwv Qwertina"}), "Zyxwv.zip"),
        upload(client, data[:3_000], "Zyxwv_Qwertina.dcm"),
        raw(client, b"Zyxwv" * 100),
        raw(client, small_film(1)),
        raw(client, small_film(1, brighter=9)),
        client.get("/v1/imaging/worklist"),
    ]
    assert "text_redacted" in said[0].json()["flags"]
    assert [each.status_code for each in said[1:]] == [202, 422, 422, 200, 409, 200]
    for answer in list(desk.predictions.values()):
        for name in ("overlay.png", "result.dcm", "seg.dcm"):
            said.append(client.get(f"/v1/imaging/{answer[1]['prediction_id']}/{name}"))  # noqa: PERF401
    stores = {path: path.read_bytes() for path in desk.folder.rglob("*") if path.is_file()}
    assert len(stores) >= 4
    texts = stores | {"answers": b"".join(each.content for each in said), "log": caplog.text.encode(),
                      "predictions": json.dumps(list(desk.predictions.values())).encode()}  # fmt: skip
    found = [(str(where), word) for where, content in texts.items() for word in words if word.encode() in content]
    assert not found
    assert verify(desk.folder / "access.jsonl", KEY).records == len(desk.audited())


def test_errors_of_the_gateway_pass_through(desk, client):
    class Overloaded(OrreryError):
        """As the gateway's."""

    async def predict(_):
        raise Overloaded("too many")

    desk.predict = predict
    with pytest.raises(Overloaded):
        raw(client, small_film(1))
