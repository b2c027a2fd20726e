"""A folder of DICOM files becomes films without people, or is refused with the row that is wrong."""

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pydicom
import pytest
from PIL import Image

from orrery.usecase import SourceRequest, silent
from usecases.imaging import dicom
from usecases.imaging.film_table import DataRefused, mask_of
from usecases.imaging.phantom import draw
from usecases.imaging.phantom_dicom import study, written
from usecases.imaging.phantom_people import person
from usecases.imaging.picture import encode, to_picture
from usecases.imaging.source import SOURCES, describe, validate

MOMENT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.fixture(scope="module")
def drawn():
    return [replace(draw(seed), label=seed % 2) for seed in range(4)]


@pytest.fixture
def folder(drawn, tmp_path):
    """Four films of two patients, one in a folder below, with the masks of the first two."""
    for seed, film in enumerate(drawn):
        path = tmp_path / ("more" if seed == 3 else ".") / f"film{seed}.dcm"
        path.parent.mkdir(exist_ok=True)
        who = seed // 2
        path.write_bytes(written(film, seed, moment=MOMENT + timedelta(days=seed), who=who))
    (tmp_path / "masks").mkdir()
    for seed in (0, 1):
        Image.fromarray(drawn[seed].lungs).save(tmp_path / "masks" / f"film{seed}.png")
    table(tmp_path, *(f"{'more/' if seed == 3 else ''}film{seed}.dcm,{seed % 2}" for seed in range(4)))
    return tmp_path


def table(folder, *rows, header="file,label", name="labels.csv"):
    (folder / name).write_text("\n".join([header, *rows, ""]), encoding="utf-8")


def read(folder, progress=silent, **columns):
    return SOURCES["dicom"](SourceRequest("dicom", folder, columns), progress)


def refused(folder, **columns):
    with pytest.raises(DataRefused) as caught:
        read(folder, **columns)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def redated(data, date):
    dataset = pydicom.dcmread(io.BytesIO(data))
    for what in ("Study", "Series", "Acquisition", "Content"):
        setattr(dataset, f"{what}Date", date)
    dataset.PatientBirthDate = ""
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def test_a_folder_end_to_end(folder, drawn):
    films = validate(read(folder))
    assert describe(films) == {"films": 4, "patients": 2, "positives": 2}
    assert set(films["origin"]) == {"dicom"}
    assert set(films["finding"]) == {"none", ""}
    assert sorted(zip(films["rows"], films["columns"], strict=True)) == sorted(film.pixels.shape for film in drawn)
    assert set(films["device_number"].dropna()) <= {15_818, 28_088, 40_164}
    assert films["device_number"].notna().any()
    by_patient = films.groupby("patient_id")["taken_at"].agg(lambda times: times.max() - times.min())
    assert by_patient.tolist() == [timedelta(days=1)] * 2
    assert set(films["mask"]) == {mask_of(drawn[0].lungs), mask_of(drawn[1].lungs), b""}


def test_nobody_is_named(folder, drawn):
    films = read(folder)
    text = films.drop(columns=["picture", "mask"]).to_csv().encode()
    text += b"".join(films["picture"])
    for who in (0, 1):
        for word in person(who, drawn[2 * who].age).words():
            assert word.encode() not in text
    assert b"film0" not in text
    assert set(films["patient_id"]).isdisjoint(read(folder)["patient_id"])


def test_a_key_gives_the_same_names_again(folder, tmp_path):
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    first, again = (read(folder, key=str(key)) for _ in range(2))
    assert first.equals(again)
    key.write_bytes(b"short")
    assert "a file of 32 secret bytes" in refused(folder, key=str(key))
    assert "a file of 32 secret bytes" in refused(folder, key=str(tmp_path / "none"))


def test_what_the_intake_refuses_is_left_out_and_counted(folder):
    (folder / "broken.dcm").write_bytes(b"")
    (folder / "other.dcm").write_text("no film at all")
    table(folder, "film0.dcm,0", "broken.dcm,1", "film1.dcm,1", "other.dcm,0")
    notes = []
    films = read(folder, lambda stage, done, total, note="": notes.append((done, total, note)))
    assert films.index.tolist() == [2, 4]
    assert notes[-1] == (4, 4, "left out: empty 1, not_dicom 1")


def test_no_film_at_all_is_refused(folder):
    (folder / "film0.dcm").write_bytes(b"")
    table(folder, "film0.dcm,0")
    assert "can be used: left out: empty 1" in refused(folder)
    table(folder)
    assert "can be used: nothing is listed" in refused(folder)


def test_the_same_film_again_is_dropped(folder, drawn):
    (folder / "copy.dcm").write_bytes(written(drawn[0], 0, moment=MOMENT, who=7))
    table(folder, "film0.dcm,0", "film1.dcm,1", "copy.dcm,0")
    assert read(folder).index.tolist() == [2, 3]


def test_the_same_film_with_another_label_is_refused(folder, drawn):
    (folder / "copy.dcm").write_bytes(written(drawn[0], 0, moment=MOMENT, who=7))
    table(folder, "film0.dcm,0", "film1.dcm,1", "copy.dcm,1")
    assert "row 4: the film of row 2 again, with another label" in refused(folder)


def test_a_name_for_two_films_is_refused(folder, drawn):
    dataset = pydicom.dcmread(folder / "film1.dcm")
    dataset.SOPInstanceUID = pydicom.dcmread(folder / "film0.dcm").SOPInstanceUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(folder / "film1.dcm")
    assert "row 3: the SOP Instance UID of row 2 with other pixels" in refused(folder)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("film0.dcm,2", "row 3, column label: it is not 0 or 1"),
        ("film0.dcm,", "row 3, column label: it is not 0 or 1"),
        ("film0.dcm,yes", "row 3, column label: it is not 0 or 1"),
        ("Sokolova_Maria.dcm,1", "row 3, column file: there is no such file"),
        (",1", "row 3, column file: there is no such file"),
        ("more,1", "row 3, column file: there is no such file"),
        ("../film0.dcm,1", "row 3, column file: there is no such file"),
        ("/etc/hostname,1", "row 3, column file: there is no such file"),
        ("film0.dcm,1,round", "row 3 of labels.csv has 3 values, its header 2"),
        ("film0.dcm", "row 3 of labels.csv has 1 values, its header 2"),
        ('"film0.dcm,1', "labels.csv is no CSV file"),
    ],
)
def test_a_bad_row_is_refused(folder, row, why):
    table(folder, "film1.dcm,1", row)
    message = refused(folder)
    assert why in message
    assert "Sokolova" not in message


def test_a_table_may_have_names_of_its_own(folder):
    table(folder, "1,film1.dcm,round,x", "", "0,film0.dcm,,y", header="ill,image,kind,note", name="mine.csv")
    films = read(folder, labels="mine.csv", file="image", label="ill", finding="kind")
    assert films.sort_index()["finding"].tolist() == ["round", "none"]
    assert films.sort_index().index.tolist() == [2, 4]
    assert "must have one column file; name it by --column file=THEIRS" in refused(folder, labels="mine.csv")
    assert "there is no table other.csv" in refused(folder, labels="other.csv")
    assert "there is no option path" in refused(folder, path="image")


def test_a_table_in_another_encoding_is_refused(folder):
    (folder / "labels.csv").write_bytes("file,label\nM\xfcller.dcm,1\n".encode("latin-1"))
    assert "no CSV file in UTF-8" in refused(folder)


def test_a_mask_must_fit_its_film(folder, drawn):
    mask = folder / "masks" / "film1.png"
    for pixels in (drawn[1].lungs[:-1], np.zeros_like(drawn[1].lungs), np.ones_like(drawn[1].lungs)):
        Image.fromarray(pixels).save(mask)
        assert "row 3: its mask must be as large as the film" in refused(folder)
    mask.write_bytes(b"no picture")
    assert "row 3: its mask is no PNG" in refused(folder)


def test_films_without_dates_follow_their_rows(folder, drawn):
    for seed in (0, 1):
        (folder / f"film{seed}.dcm").write_bytes(redated(written(drawn[seed], seed, moment=MOMENT), ""))
    table(folder, "film1.dcm,1", "film0.dcm,0")
    films = read(folder)
    assert films.index.tolist() == [2, 3]
    assert films["taken_at"].diff().iloc[1] == timedelta(seconds=1)
    table(folder, "film2.dcm,0", "film1.dcm,1")
    assert "row 3: its film has no date, others have" in refused(folder)


def test_a_study_stays_one_and_text_is_painted_over(tmp_path, drawn):
    for number, data in enumerate(study(3, 2, moment=MOMENT)):
        (tmp_path / f"{number}.dcm").write_bytes(data)
    printed = written(drawn[2], 2, moment=MOMENT, text=True)
    (tmp_path / "printed.dcm").write_bytes(printed)
    table(tmp_path, "0.dcm,0", "1.dcm,1", "printed.dcm,0")
    films = read(tmp_path)
    assert films["study_id"].nunique() == films["patient_id"].nunique() == 2
    assert films.at[2, "study_id"] == films.at[3, "study_id"]
    assert films.at[4, "picture"] != encode(to_picture(dicom.pixels(dicom.read(printed))))
    assert films.at[2, "picture"] == encode(to_picture(dicom.pixels(dicom.read(study(3, 1, moment=MOMENT)[0]))))


def test_what_is_no_folder_is_refused(folder):
    assert "which folder?" in refused(None)
    assert "which folder?" in refused(folder / "film0.dcm")
    with pytest.raises(DataRefused, match="--sample is for phantoms"):
        SOURCES["dicom"](SourceRequest("dicom", folder, sample=True), silent)
