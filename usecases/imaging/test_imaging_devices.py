"""Of what took a film a number is kept that is the same everywhere, and nothing of what a header says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from usecases.imaging import dicom
from usecases.imaging.deidentify import deidentify
from usecases.imaging.devices import DEVICES, number_of
from usecases.imaging.intake import Intake
from usecases.imaging.pseudonyms import Pseudonyms
from usecases.imaging.test_imaging_deidentify import bytes_of
from usecases.imaging.test_imaging_dicom import film, written

SECRET = "ZEBRA471108"


def taken(key=bytes(32), syntax=uid.ExplicitVRLittleEndian, **said):
    return deidentify(dicom.read(written(film(**said), syntax)), Pseudonyms(key))


def test_numbers_are_those_that_bundles_have_kept():
    """With other numbers every film would look as if an unknown device had taken it."""
    known = {("Ortho & Sons", "Lumen 3"): 15_818, ("Radiante", "DX-Nova"): 28_088, ("", "K-200"): 48_575}
    assert {said: number_of(*said) for said in known} == known


@given(maker=st.text(), model=st.text())
def test_whatever_a_header_says_is_one_of_few_numbers_or_nothing(maker, model):
    number = number_of(maker, model)
    if number is None:
        assert not (maker + model).strip()
    else:
        assert 0 <= number < DEVICES
    assert number_of(f"  {maker}\n", f" {model} ") == number


def test_make_and_model_both_count_and_neither_is_the_other():
    said = [("Acme", "One"), ("Acme", "Two"), ("Umbra", "One"), ("One", "Acme"), ("AcmeOne", "")]
    assert len({number_of(*each) for each in said}) == len(said)
    assert number_of("ACME", "o n e") == number_of("Acme", "One")


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_a_film_has_the_number_under_every_key_and_however_it_is_written(syntax):
    said = {"Manufacturer": "Radiante ", "ManufacturerModelName": "DX-Nova"}
    assert taken(syntax=syntax, **said).device_number == taken(b"k" * 32, **said).device_number == 28_088


def test_one_machine_is_not_told_from_another_of_its_model():
    said = {"Manufacturer": "Radiante", "ManufacturerModelName": "DX-Nova"}
    numbers = {
        taken(**said, DeviceSerialNumber=serial, StationName=room, InstitutionName=room).device_number
        for serial, room in (("SN-1", "ROOM-1"), ("SN-2", "ROOM-2"))
    }
    assert numbers == {28_088}


def test_a_film_that_says_neither_or_cannot_be_read_there_has_no_number():
    assert taken().device_number is None
    assert taken(Manufacturer="", ManufacturerModelName=" ").device_number is None
    dataset = dicom.read(written(film()))
    dataset[0x00080070] = RawDataElement(Tag(0x00080070), "LO", 3, object(), 0, False, True)
    assert dicom.device_of(dataset) is None


def test_no_text_of_them_is_kept_and_the_steps_say_what_was_done():
    found = taken(Manufacturer=SECRET, ManufacturerModelName=f"{SECRET} II")
    assert isinstance(found.device_number, int)
    assert SECRET.encode() not in bytes_of(found.dataset) + "".join(found.steps).encode()
    assert "kept as a number of both, removed: Manufacturer, ManufacturerModelName" in found.steps


def test_a_film_that_was_taken_in_has_it():
    received = Intake(bytes(32), read_text=False).receive(written(film(Manufacturer="", ManufacturerModelName="K-200")))
    assert received.film is not None
    assert received.film.device_number == 48_575
