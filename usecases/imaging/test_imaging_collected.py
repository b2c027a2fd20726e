"""What readers say of served films becomes rows to learn from; what would leak from one side to the other does not."""

import base64
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from usecases.imaging.collected import collected
from usecases.imaging.film_table import table
from usecases.imaging.picture import SIDE, decode, encode
from usecases.imaging.requests import ImagingFeedback, ImagingRequest
from usecases.imaging.source import validate

AT = datetime(2026, 1, 5, tzinfo=UTC)


def png(number):
    return encode(np.random.default_rng(number).integers(0, 256, (SIDE, SIDE), dtype=np.uint8))


def asked(number, **others):
    said = {
        "film_id": f"f{number}", "patient_id": f"p{number}", "taken_at": AT + timedelta(hours=number), "age": 50.0,
        "sex": "F", "view": "PA", "rows": 2_000, "columns": 1_800, "device_number": 7,
        "picture": base64.b64encode(png(number)).decode(),
    }  # fmt: skip
    return ImagingRequest(**said | others)


def read(number, *, finding):
    return ImagingFeedback(film_id=f"f{number}", finding=finding, arrived_at=AT)


def nothing(columns):
    return pd.DataFrame(columns=list(columns))


def knowing(*films):
    rows = table(
        {
            "film_id": f"f{number}", "study_id": "s", "patient_id": f"p{number}", "taken_at": AT, "age": np.nan,
            "sex": "U", "view": "U", "picture": png(number), "mask": png(0), "label": 0, "finding": "kind",
            "origin": "phantoms", "part": "train",
        }
        for number in films
    )  # fmt: skip
    return lambda columns: rows[list(columns)]


def test_a_film_that_was_read_is_a_row_with_what_was_said_last():
    requests = [asked(number) for number in range(1, 4)]
    told = [read(1, finding=False), read(2, finding=False), read(1, finding=True)]
    rows = validate(collected(requests, told, nothing))
    assert rows["film_id"].tolist() == ["f1", "f2"]
    assert rows["label"].tolist() == [1, 0]
    assert rows["origin"].tolist() == ["served"] * 2
    assert rows["study_id"].tolist() == ["f1", "f2"]
    assert rows.loc[0, ["rows", "columns", "device_number", "age"]].tolist() == [2_000, 1_800, 7, 50]
    np.testing.assert_array_equal(decode(rows.loc[1, "picture"]), decode(png(2)))
    assert collected(requests, [], nothing).empty


def test_nothing_is_learned_from_a_film_of_nobody():
    rows = collected([asked(1, patient_id=None), asked(2)], [read(1, finding=True), read(2, finding=True)], nothing)
    assert rows["film_id"].tolist() == ["f2"]


def test_a_copy_under_another_name_is_left_out():
    copies = [asked(1), asked(2, picture=asked(1).picture), asked(3, picture=asked(9).picture)]
    told = [read(number, finding=True) for number in (1, 2, 3)]
    assert collected(copies, told, nothing)["film_id"].tolist() == ["f1", "f3"]
    assert collected(copies, told, knowing(9))["film_id"].tolist() == ["f1"]


def test_what_is_known_of_a_film_stays_and_a_patient_stays_in_his_part():
    told = [read(1, finding=True), read(2, finding=True), read(3, finding=True)]
    rows = collected([asked(1), asked(2, patient_id="p1"), asked(3)], told, knowing(1)).set_index("film_id")
    assert rows.loc["f1", ["finding", "origin", "part", "label"]].tolist() == ["kind", "phantoms", "train", 1]
    assert rows.loc["f1", "mask"] == png(0)
    assert rows.loc["f2", ["finding", "origin", "part", "mask"]].tolist() == ["", "served", "train", b""]
    assert rows.loc["f3", "part"] == ""
