"""The README's story of imaging, told by the running platform: after `make demo`, `make story`."""

import io
import json
import os
import signal
import warnings
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pydicom
import pytest
from PIL import Image

from usecases.imaging.phantom import draw
from usecases.imaging.phantom_dicom import written
from usecases.imaging.phantom_strangers import photograph

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
SUMMARY = Path(__file__).parent.parent.parent / "build" / "demo" / "summary.json"
MOMENT = datetime(2026, 1, 5, 10, tzinfo=UTC)
PREDICT = "/v1/imaging/predict"


@pytest.fixture(scope="module")
def fresh():
    """Seeds of films that no earlier run has sent."""
    first = int(datetime.now(UTC).timestamp())
    return iter(range(first, first + 10_000))


@pytest.fixture
def film(fresh):
    """A film as a DICOM file."""

    def make(**options):
        seed = next(fresh)
        return written(draw(seed), seed, moment=MOMENT, **options)

    return make


def send(platform, data, name="film.dcm", **fields):
    return platform.client.post(PREDICT, files={"file": (name, data, "application/dicom")}, data=fields)


def served_by_torchserve(platform):
    """Requests that TorchServe counts, from its own metrics."""
    text = httpx.get(platform.settings.torchserve_metrics_url).text
    counted = [line for line in text.splitlines() if line.startswith("ts_inference_requests_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in counted if 'model_name="imaging"' in line)


def test_the_demo_tells_the_truth_of_films(platform):
    told = json.loads(SUMMARY.read_text())["use_cases"]["imaging"]
    assert told["gate"] == "passed"
    assert told["test"]["auc"] >= 0.93
    assert told["test"]["dice"] >= 0.95
    assert told["served"]["errors"] == 0
    assert told["parity"]["rows"] >= 200
    assert told["parity"]["mismatches"] == 0
    assert served_by_torchserve(platform) >= told["parity"]["rows"]


def test_a_dicom_file_is_answered_and_its_results_open(platform, film):
    answer = send(platform, film(), explain="true")
    assert answer.status_code == httpx.codes.OK, answer.text
    said = answer.json()
    assert not said["degraded"]
    assert said["decision"] in {"finding", "no_finding", "not_scored"}
    place = f"/v1/imaging/{said['prediction_id']}"
    for name in ("mask.png", "overlay.png"):
        picture = Image.open(io.BytesIO(platform.client.get(f"{place}/{name}").raise_for_status().content))
        assert np.asarray(picture).std() > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report, mask = (
            pydicom.dcmread(io.BytesIO(platform.client.get(f"{place}/{name}").raise_for_status().content))
            for name in ("result.dcm", "seg.dcm")
        )
    assert (report.Modality, mask.Modality) == ("SR", "SEG")
    assert report.PatientName == mask.PatientName == ""


def test_a_study_is_answered_film_by_film(platform, film):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as study:
        study.writestr("a", film())
        study.writestr("b", b"no film")
    answer = platform.client.post(PREDICT, files={"file": ("study.zip", data.getvalue(), "application/zip")})
    assert answer.is_success, answer.text
    assert sorted(each["state"] for each in answer.json()["instances"]) == ["refused", "scored"]


def test_a_photograph_is_not_scored(platform, fresh):
    seed = next(fresh)
    said = send(platform, written(photograph(seed), seed, moment=MOMENT)).json()
    assert (said["decision"], said["probability"]) == ("not_scored", None)


def test_no_identifier_is_kept_anywhere(platform, film, tmp_path):
    data = film(text=False)
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.PatientName, dataset.PatientID = "Zyxwv^Qwertina", "ID-ZQ-77713"
    dataset.ReferringPhysicianName, dataset.InstitutionName = "Vuxtor^Plimb", "Hospital Xanqua"
    dataset.add_new(0x00090010, "LO", "ZQ PRIVATE")
    dataset.add_new(0x00091001, "LO", "privately Zyxwv")
    changed = io.BytesIO()
    dataset.save_as(changed)
    assert send(platform, changed.getvalue(), name="Zyxwv_Qwertina.dcm").is_success
    home = platform.settings.home.absolute()
    words = [b"Zyxwv", b"Qwertina", b"ZQ-77713", b"Vuxtor", b"Xanqua", str(dataset.SOPInstanceUID).encode()]
    found = [
        (path, word)
        for path in home.rglob("*")
        if path.is_file() and not path.is_relative_to(home / "data")
        for content in (path.read_bytes(),)
        for word in words
        if word in content
    ]
    assert not found


def test_the_audit_holds(platform):
    done = platform.orrery("audit", "verify", "--json")
    assert done.returncode == 0, done.stderr + done.stdout


def test_without_torchserve_its_twin_answers_and_it_comes_back_by_itself(platform):
    with platform.load(rate=2, make=platform.film) as load:
        platform.wait(lambda: len(load.answered) >= 8)
        os.kill(platform.supervisor.states()["torchserve"].pid, signal.SIGKILL)
        platform.wait(lambda: any(answer["degraded"] for answer in load.answered))
        platform.wait(lambda: not load.answered[-1]["degraded"], 90)
    assert not load.failed
    for answer in load.answered:
        assert answer["model_version"]
        assert answer["decision"] in {"finding", "no_finding", "not_scored"}
