"""A user's own file is read as it is meant, or refused by row and column."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrery.usecase import SourceRequest, silent
from usecases.fraud.source import CANONICAL, SOURCES, DataRefused, describe, validate

START = "2018-04-01T00:00:31Z"


def rows(count: int = 12) -> pd.DataFrame:
    """Canonical rows, one a day, the third a fraud."""
    moments = pd.date_range(START, periods=count, freq="D", unit="us")
    return pd.DataFrame(
        {
            "TRANSACTION_ID": np.arange(100, 100 + count),
            "TX_DATETIME": moments,
            "CUSTOMER_ID": np.arange(count) % 3,
            "TERMINAL_ID": np.arange(count) % 4,
            "TX_AMOUNT": np.arange(count) + 0.25,
            "TX_TIME_SECONDS": np.arange(count) * 86_400 + 31,
            "TX_TIME_DAYS": np.arange(count),
            "TX_FRAUD": (np.arange(count) == 2).astype("int64"),
            "TX_FRAUD_SCENARIO": np.zeros(count, dtype="int64"),
        }
    )


def read(path: Path, **columns: str) -> pd.DataFrame:
    return validate(SOURCES["file"](SourceRequest("file", path, columns), silent))


def csv_with(tmp_path: Path, column: str, value: object, row: int = 5) -> Path:
    """A CSV whose file row `row` (the header is 1) holds `value` in `column`."""
    frame = rows().astype(object)
    frame.loc[row - 2, column] = value
    return csv_of(tmp_path, frame)


def csv_of(tmp_path: Path, frame: pd.DataFrame) -> Path:
    frame.to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path / "rows.csv"


def parquet_of(tmp_path: Path, frame: pd.DataFrame) -> Path:
    frame.to_parquet(tmp_path / "rows.parquet", index=False)
    return tmp_path / "rows.parquet"


def refused(path: Path, **columns: str) -> str:
    with pytest.raises(DataRefused) as caught:
        read(path, **columns)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("write", [csv_of, parquet_of])
def test_what_was_written_is_read(tmp_path, write):
    pd.testing.assert_frame_equal(read(write(tmp_path, rows())), rows())


def test_the_sample_is_valid_as_it_comes_and_the_default():
    sample = SOURCES[next(iter(SOURCES))](SourceRequest("simulator", sample=True), silent)
    pd.testing.assert_frame_equal(validate(sample), sample)
    counts = describe(sample)
    assert counts["rows"] == len(sample)
    assert 0 < counts["frauds"] < counts["rows"] / 5


def test_what_can_be_derived_is(tmp_path):
    needed = rows().drop(columns=["TRANSACTION_ID", "TX_TIME_SECONDS", "TX_TIME_DAYS", "TX_FRAUD_SCENARIO"])
    expected = rows().assign(TRANSACTION_ID=np.arange(12))
    pd.testing.assert_frame_equal(read(csv_of(tmp_path, needed)), expected)


def test_columns_are_mapped_and_others_left_out(tmp_path):
    frame = rows().rename(columns={"TX_AMOUNT": "amount", "CUSTOMER_ID": "card"}).assign(note="x")
    found = read(csv_of(tmp_path, frame), TX_AMOUNT="amount", CUSTOMER_ID="card")
    assert tuple(found.columns) == CANONICAL
    pd.testing.assert_frame_equal(found, rows())


def test_rows_are_sorted_by_time(tmp_path):
    pd.testing.assert_frame_equal(read(csv_of(tmp_path, rows().iloc[::-1])), rows())


@pytest.mark.parametrize(
    "dtype", ["datetime64[us]", "datetime64[ns]", "datetime64[ns, Europe/Paris]", "datetime64[ms, UTC]"]
)
def test_moments_of_every_kind_become_utc_microseconds(tmp_path, dtype):
    frame = rows()
    utc = frame["TX_DATETIME"]
    frame["TX_DATETIME"] = utc.astype(dtype) if "," in dtype else utc.dt.tz_localize(None).astype(dtype)
    pd.testing.assert_frame_equal(read(parquet_of(tmp_path, frame)), rows())


def test_nanoseconds_are_cut_and_offsets_understood(tmp_path):
    frame = rows().astype({"TX_DATETIME": object})
    frame.loc[0, "TX_DATETIME"] = "2018-04-01 00:00:31.000000999"
    frame.loc[1, "TX_DATETIME"] = "2018-04-02T02:00:31+02:00"
    frame.loc[2, "TX_DATETIME"] = "2018-04-03T00:00:31"  # without a zone, after one with another
    pd.testing.assert_frame_equal(read(csv_of(tmp_path, frame)), rows())


def test_amounts_are_rounded_to_cents(tmp_path):
    assert read(csv_with(tmp_path, "TX_AMOUNT", 12.250000001))["TX_AMOUNT"].iloc[3] == 12.25


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("TX_AMOUNT", "abc"),
        ("TX_AMOUNT", -3.5),
        ("TX_AMOUNT", "nan"),
        ("TX_AMOUNT", "inf"),
        ("TX_AMOUNT", ""),
        ("TX_AMOUNT", "1e12"),
        ("TX_AMOUNT", "12,50"),
        ("CUSTOMER_ID", 1.5),
        ("CUSTOMER_ID", -1),
        ("TERMINAL_ID", "99999999999999999999"),
        ("TRANSACTION_ID", ""),
        ("TRANSACTION_ID", "x" * 500),
        ("TX_FRAUD", 2),
        ("TX_FRAUD", "yes"),
        ("TX_FRAUD", "0.5"),
        ("TX_FRAUD_SCENARIO", -1),
        ("TX_DATETIME", "31/04/2018"),
        ("TX_DATETIME", "2018-04-31"),
        ("TX_DATETIME", "1522540831"),
        ("TX_DATETIME", "1970-01-01T00:00:00Z"),
        ("TX_DATETIME", "9999-12-31T00:00:00Z"),
        ("TX_DATETIME", ""),
    ],
)
def test_a_bad_value_is_refused_by_row_and_column(tmp_path, column, value):
    message = refused(csv_with(tmp_path, column, value, row=5))
    assert f"row 5, column {column}: {str(value)[:60]!r} is not " in message
    assert len(message) < 250


def test_the_first_bad_row_is_named(tmp_path):
    frame = rows().astype(object)
    frame.loc[9, "CUSTOMER_ID"] = "a"
    frame.loc[7, "TX_AMOUNT"] = -1
    assert "row 9, column TX_AMOUNT" in refused(csv_of(tmp_path, frame))


def test_rows_of_parquet_and_of_frames_count_from_one(tmp_path):
    assert "row 4, column TX_AMOUNT" in refused(parquet_of(tmp_path, rows().replace({"TX_AMOUNT": {3.25: -1}})))
    with pytest.raises(DataRefused, match="row 4, column TX_AMOUNT"):
        validate(rows().replace({"TX_AMOUNT": {3.25: np.nan}}))


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("TX_DATETIME", range(12)),
        ("TX_AMOUNT", [[1.0]] * 12),
        ("TX_FRAUD", ["no"] * 12),
        ("CUSTOMER_ID", [None] * 12),
    ],
)
def test_a_column_of_the_wrong_type_is_refused(tmp_path, column, values):
    assert f"row 1, column {column}: " in refused(parquet_of(tmp_path, rows().assign(**{column: values})))


def test_a_label_may_be_boolean(tmp_path):
    frame = rows().assign(TX_FRAUD=rows()["TX_FRAUD"] == 1)
    pd.testing.assert_frame_equal(read(parquet_of(tmp_path, frame)), rows())


def test_a_transaction_twice_is_refused(tmp_path):
    assert "row 5, column TRANSACTION_ID: '100' is there twice" in refused(csv_with(tmp_path, "TRANSACTION_ID", 100))


def test_rows_that_end_before_a_label_arrives_are_refused(tmp_path):
    assert "labels come 7 days after" in refused(csv_of(tmp_path, rows(7)))


def test_rows_without_a_fraud_are_refused(tmp_path):
    assert "no row is a fraud" in refused(csv_of(tmp_path, rows().assign(TX_FRAUD=0)))


def test_a_missing_column_is_refused_with_what_there_is(tmp_path):
    message = refused(csv_of(tmp_path, rows().drop(columns="TX_AMOUNT")))
    assert "has no column TX_AMOUNT; it has: TRANSACTION_ID, TX_DATETIME," in message
    assert "--column TX_AMOUNT=THEIRS" in message
    with pytest.raises(DataRefused, match="no column TX_FRAUD"):
        validate(rows().drop(columns="TX_FRAUD"))


def test_a_mapping_to_or_from_nothing_is_refused(tmp_path):
    path = csv_of(tmp_path, rows())
    assert "no column sum; it has" in refused(path, TX_AMOUNT="sum")
    assert "no column AMOUNT to map to; ours are" in refused(path, AMOUNT="TX_AMOUNT")


def test_a_column_twice_is_refused(tmp_path):
    path = csv_of(tmp_path, rows())
    path.write_text(path.read_text().replace("TX_TIME_DAYS", "TX_AMOUNT"))
    assert "2 columns TX_AMOUNT" in refused(path)


def test_blank_lines_at_the_end_are_no_rows_but_others_are(tmp_path):
    path = csv_of(tmp_path, rows())
    text = path.read_text()
    path.write_text(text + "\n\n")
    pd.testing.assert_frame_equal(read(path), rows())
    lines = text.splitlines()
    path.write_text("\n".join([*lines[:4], "", *lines[4:]]))
    assert "row 5, column TRANSACTION_ID: ''" in refused(path)


def test_files_that_are_none_are_refused(tmp_path):
    assert "there is no file" in refused(tmp_path / "none.csv")
    assert "there is no file" in refused(tmp_path)
    (tmp_path / "rows.xlsx").touch()
    assert "only .csv and .parquet" in refused(tmp_path / "rows.xlsx")
    for name in ("empty.csv", "empty.parquet"):
        (tmp_path / name).touch()
        assert str(tmp_path / name) in refused(tmp_path / name)
    assert "has no rows" in refused(csv_of(tmp_path, rows(0)))
    assert "has no rows" in refused(parquet_of(tmp_path, rows(0)))


def test_a_cut_parquet_is_refused(tmp_path):
    path = parquet_of(tmp_path, rows())
    path.write_bytes(path.read_bytes()[:-100])
    assert "not a whole Parquet file" in refused(path)


@pytest.mark.parametrize("line", ["4,5", ",".join("123456789012")])
def test_a_row_with_too_few_or_too_many_fields_is_refused(tmp_path, line):
    path = csv_of(tmp_path, rows())
    path.write_text(path.read_text() + line + "\n")
    assert "Row #14" in refused(path)


def test_a_file_in_another_encoding_is_refused_and_a_byte_order_mark_is_not(tmp_path):
    path = csv_of(tmp_path, rows())
    text = path.read_text()
    path.write_text(text, encoding="utf-8-sig")
    pd.testing.assert_frame_equal(read(path), rows())
    path.write_text(text, encoding="utf-16")
    assert "UTF-8" in refused(path)
    path.write_bytes(text.replace("100,", "\xe9,").encode("latin-1"))
    assert "UTF-8" in refused(path)


@pytest.mark.parametrize(
    "request_",
    [
        SourceRequest("file"),
        SourceRequest("file", Path("x.csv"), sample=True),
        SourceRequest("simulator", Path("x.csv")),
        SourceRequest("simulator", columns={"TX_AMOUNT": "a"}),
    ],
)
def test_options_that_do_not_fit_the_source_are_refused(request_):
    with pytest.raises(DataRefused, match="--"):
        SOURCES[request_.source](request_, silent)


@given(st.lists(st.integers(0, 2**53), min_size=12, max_size=12, unique=True), st.randoms())
def test_any_order_of_rows_gives_the_same_data(ids, random):
    frame = rows().assign(TRANSACTION_ID=ids)
    order = list(range(len(frame)))
    random.shuffle(order)
    pd.testing.assert_frame_equal(validate(frame.iloc[order]), validate(frame))
