"""The DICOM listener between a real sender (SCU) and a real HTTP server with imaging's endpoints."""

import io
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn
from fastapi import FastAPI
from pydicom import dcmread
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pynetdicom import AE

from orrery.dicom_settings import DicomSettings
from orrery.settings import GatewaySettings, Settings, child_environment
from usecases.imaging import listener as module
from usecases.imaging.endpoints import router
from usecases.imaging.listener import Listener, ListenerRefused
from usecases.imaging.test_imaging_endpoints import FakeDesk, small_film

ECHO = "1.2.840.10008.1.1"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(happened, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def desk(tmp_path):
    return FakeDesk(tmp_path / "imaging")


@pytest.fixture
def gateway(desk):
    """The address of a server with imaging's endpoints."""
    app = FastAPI()
    app.include_router(router(desk))
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def configured():
    return DicomSettings(port=free_port(), allow="MODALITY, OTHER", quiet_seconds=60)


@pytest.fixture
def listening(gateway, configured):
    with Listener(configured, gateway, "ward-key"):
        yield configured


@contextmanager
def associated(configured, title="MODALITY", called="ORRERY"):
    sender = AE(title)
    sender.add_requested_context(DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian)
    sender.add_requested_context(ECHO)
    association = sender.associate("127.0.0.1", configured.port, ae_title=called)
    line = association.dul.socket.socket if association.dul.socket else None
    yield association
    if association.is_established:
        association.release()
    if line is not None:  # pynetdicom leaves it open when its peer was first
        line.close()


def sent(association, data):
    return association.send_c_store(dcmread(io.BytesIO(data))).Status


def send(configured, *instances):
    with associated(configured) as association:
        assert association.is_established
        return [sent(association, data) for data in instances]


def actions(desk):
    return [record["action"] for record in desk.audited()]


def test_what_a_modality_sends_is_scored_before_it_is_told(listening, desk):
    with associated(listening) as association:
        assert association.send_c_echo().Status == 0x0000
        assert sent(association, small_film(1)) == 0x0000
        assert len(desk.predictions) == 1
        assert sent(association, small_film(2)) == 0x0000
    assert desk.counted["file", "scored"] == 2
    assert actions(desk) == ["answer", "answer"]


def test_an_instance_is_sent_twice_and_there_once(listening, desk):
    assert send(listening, small_film(1), small_film(1)) == [0x0000, 0x0000]
    assert len(desk.predictions) == 1
    assert send(listening, small_film(1, brighter=9)) == [0xC000]
    assert len(desk.predictions) == 1


def test_what_is_refused_is_not_to_be_sent_again_and_what_could_not_be_taken_is(listening, desk):
    shin = dcmread(io.BytesIO(small_film(1)))
    shin.BodyPartExamined = "KNEE"
    content = io.BytesIO()
    shin.save_as(content)
    assert send(listening, content.getvalue()) == [0xC000]
    desk.away = 1
    assert send(listening, small_film(2), small_film(2)) == [0xA700, 0x0000]


def test_without_the_gateway_the_sender_is_to_repeat(configured):
    with Listener(configured, f"http://127.0.0.1:{free_port()}", "ward-key"):
        assert send(configured, small_film(1)) == [0xA700]


def test_with_a_key_that_does_not_fit_the_sender_is_to_repeat(gateway, configured):
    with Listener(configured, gateway, "no-key"):
        assert send(configured, small_film(1)) == [0xA700]


@pytest.mark.parametrize(("title", "called"), [("STRANGER", "ORRERY"), ("MODALITY", "ELSEWHERE")])
def test_only_who_is_named_may_send_and_only_to_us(listening, title, called):
    with associated(listening, title, called) as association:
        assert association.is_rejected
    with associated(listening, "OTHER") as association:
        assert association.is_established


def test_nobody_is_named_so_it_does_not_start():
    with pytest.raises(ListenerRefused, match="ORRERY_DICOM__ALLOW"):
        Listener(DicomSettings(allow=" , "), "http://127.0.0.1:9", "key")


def test_other_objects_are_not_agreed_on(listening):
    sender = AE("MODALITY")
    sender.add_requested_context("1.2.840.10008.5.1.4.1.1.2")
    association = sender.associate("127.0.0.1", listening.port, ae_title="ORRERY")
    assert not association.is_established


def test_a_study_is_complete_when_it_has_been_quiet_and_again_after_another_film(gateway, desk, configured):
    quick = configured.model_copy(update={"quiet_seconds": 0.3})
    with Listener(quick, gateway, "ward-key"):
        send(quick, small_film(1), small_film(2), small_film(3, study="1.2.9"))
        until(lambda: actions(desk).count("complete") == 2)
        send(quick, small_film(4))
        until(lambda: actions(desk).count("complete") == 3)
    completed = [record for record in desk.audited() if record["action"] == "complete"]
    assert completed[2]["subject"] in {record["subject"] for record in completed[:2]}
    assert completed[2]["details"] == {"films": 3}


def test_a_study_that_is_not_quiet_yet_is_complete_when_the_listener_stops(gateway, desk, configured):
    with Listener(configured, gateway, "ward-key"):
        send(configured, small_film(1))
        assert "complete" not in actions(desk)
    assert actions(desk).count("complete") == 1


def test_a_study_that_the_gateway_lost_is_told_once_and_one_that_it_did_not_hear_of_again(gateway, configured):
    for address, left in ((gateway, set()), (f"http://127.0.0.1:{free_port()}", {"/v1/imaging/studies/none"})):
        with Listener(configured, address, "ward-key") as listener:
            listener._came(["/v1/imaging/studies/none"])
        assert set(listener._studies) == left


def test_it_ends_with_what_is_in_work(gateway, desk, configured):
    listener = Listener(configured, gateway, "ward-key")
    with associated_to(listener, configured) as association:
        stopping = threading.Thread(target=listener.__exit__)
        stopping.start()
        time.sleep(0.2)
        assert sent(association, small_film(1)) == 0x0000
    stopping.join(20)
    assert not stopping.is_alive()
    assert actions(desk) == ["answer", "complete"]


@contextmanager
def associated_to(listener, configured):
    listener.__enter__()
    with associated(configured) as association:
        yield association


@pytest.mark.parametrize("limit", ["LARGEST", "_LARGEST_PDU"])
def test_who_sends_more_than_may_be_is_cut_off(listening, monkeypatch, limit):
    monkeypatch.setattr(module, "_COMMANDS", 0)
    monkeypatch.setattr(module, limit, 4_000)
    with associated(listening) as association:
        assert association.is_established
        assert "Status" not in association.send_c_store(dcmread(io.BytesIO(small_film(1))))


@pytest.mark.parametrize(
    "noise", [b"GET / HTTP/1.1\r\n\r\n", b"\x01\x00\xff\xff\xff\xff", b"\x04\x00\x7f\xff\xff\xff" + bytes(99)]
)
def test_what_is_no_dicom_harms_nobody(listening, noise):
    with socket.create_connection(("127.0.0.1", listening.port)) as peer:
        peer.sendall(noise)
    assert send(listening, small_film(1)) == [0x0000]


def test_nothing_of_an_instance_is_logged(listening, caplog):
    caplog.set_level(logging.DEBUG, logger="usecases")
    caplog.set_level(logging.DEBUG, logger="httpx")
    send(listening, small_film(1), small_film(1, brighter=9))
    assert "from MODALITY ended as 0000" in caplog.text
    assert not [word for word in ("Zyxwv", "ZQ-77713", "1.2.3.4") if word in caplog.text]


def started(**named):
    command = [sys.executable, "-m", "usecases.imaging.listener"]
    return subprocess.Popen(command, env=child_environment(Settings(**named), {}), stderr=subprocess.PIPE)


def test_as_a_process_it_ends_by_sigterm(gateway, desk, tmp_path):
    key, configured = (
        tmp_path / "key",
        DicomSettings(port=free_port(), allow="MODALITY", key_file=str(tmp_path / "key")),
    )
    key.write_text("ward-key\n")
    process = started(home=tmp_path, dicom=configured, gateway=GatewaySettings(url=gateway))
    try:
        until(lambda: reachable(configured.port))
        assert send(configured, small_film(1)) == [0x0000]
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, log
    assert actions(desk) == ["answer", "complete"]


def reachable(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(("key", "word"), [("", b"no API key"), (__file__, b"ORRERY_DICOM__ALLOW")])
def test_as_a_process_it_says_what_is_missing(tmp_path, key, word):
    process = started(home=tmp_path, dicom=DicomSettings(key_file=key))
    _, log = process.communicate(timeout=30)
    assert process.returncode == 1
    assert word in log
    assert b"Traceback" not in log
