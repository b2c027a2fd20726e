"""What is known of an item by itself: its genres as bits, and its content as a vector."""

from zlib import crc32

import numpy as np

from orrery.usecase import Array

GENRES = (
    "Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama", "Fantasy", "Film-Noir",
    "Horror", "IMAX", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western", "Other",
)  # fmt: skip
"""the genres of MovieLens; what a catalogue calls otherwise is "Other" """
_PLACE = {name.lower(): place for place, name in enumerate(GENRES)}
_DECADES = (1960.0, 1980.0, 2000.0, 2020.0)
_DECADE_WIDTH = 12.0
_DECADE_WEIGHT = 0.5
VECTOR = len(GENRES) + len(_DECADES)


def genre_bits(genres: str) -> int:
    """Genres, separated by `|`, as a set of bits: bit i stands for `GENRES[i]`."""
    bits = 0
    for name in filter(None, (part.strip().lower() for part in genres.split("|"))):
        bits |= 1 << _PLACE.get(name, _PLACE["other"])
    return bits


def genres_of(bits: int) -> tuple[str, ...]:
    """The names of the genres in `bits`."""
    return tuple(name for place, name in enumerate(GENRES) if bits >> place & 1)


def genre_flags(bits: Array) -> Array:
    """Bits, int64, shape (n,), to flags, float32, shape (n, genres)."""
    flags: Array = (np.asarray(bits, dtype=np.int64)[:, None] >> np.arange(len(GENRES)) & 1).astype(np.float32)
    return flags


def content_vectors(bits: Array, years: Array) -> Array:
    """Genres and years, shape (n,), to float32 vectors of unit length, shape (n, VECTOR).

    A year (0: unknown) lies near the decades around it. The vector of an item of which nothing is known is zero.
    """
    since = np.asarray(years, dtype=np.float64)[:, None] - np.array(_DECADES)
    near = np.exp(-((since / _DECADE_WIDTH) ** 2)) * (np.asarray(years)[:, None] > 0) * _DECADE_WEIGHT
    genres = genre_flags(bits)
    share = genres / np.sqrt(np.maximum(genres.sum(axis=1, keepdims=True), 1))
    return unit(np.hstack([share, near]))


def unit(vectors: Array) -> Array:
    """Rows, shape (n, d), scaled to length 1, float32; rows of zeros stay."""
    length = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    scaled: Array = (vectors / np.where(length > 0, length, 1.0)).astype(np.float32)
    return scaled


def bucket(text: str, buckets: int) -> int:
    """A stable number in [0, buckets) for a text, the same in every process."""
    return crc32(text.encode()) % buckets
