"""What changes when films are acquired in another way, and nothing else."""

import numpy as np
import pandas as pd
import pytest

from usecases.imaging.devices import number_of
from usecases.imaging.drifts import DRIFTS
from usecases.imaging.film_table import ACQUIRED, COLUMNS, DataRefused

ROWS = pd.DataFrame(
    {name: pd.Series(["x"] * 3, dtype=object) for name in COLUMNS}
    | {"rows": [300.0, 401.0, np.nan], "columns": [256.0, 1.0, np.nan], "device_number": [7.0, np.nan, 8.0]}
)


def test_all_films_are_by_the_device_that_is_named():
    found = DRIFTS["device"](ROWS, "K-200")
    assert (found["device_number"] == number_of("", "K-200")).all()
    pd.testing.assert_frame_equal(found.drop(columns="device_number"), ROWS.drop(columns="device_number"))


def test_films_grow_to_whole_pixels_and_an_unknown_size_stays_unknown():
    found = DRIFTS["size"](ROWS, "0.25")
    assert found["rows"].tolist()[:2] == [75.0, 100.0]
    assert found["columns"].tolist()[:2] == [64.0, 1.0]
    assert found[["rows", "columns"]].iloc[2].isna().all()
    others = [name for name in COLUMNS if name not in {"rows", "columns"}]
    pd.testing.assert_frame_equal(found[others], ROWS[others])


@pytest.mark.parametrize(("name", "value"), [("device", "K-200"), ("size", "1.5")])
def test_films_from_before_these_were_kept_are_no_error(name, value):
    found = DRIFTS[name](ROWS.drop(columns=list(ACQUIRED)), value)
    assert found["film_id"].tolist() == ["x"] * 3


@pytest.mark.parametrize(("name", "value"), [("device", " "), ("size", "x"), ("size", "0"), ("size", "nan")])
def test_another_value_is_refused_with_an_example(name, value):
    with pytest.raises(DataRefused, match=f"{name}=.*such as {name}="):
        DRIFTS[name](ROWS, value)
