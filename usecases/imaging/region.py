"""The part of a picture that is classified: a square around the lungs, cut out, and what is found in it put back."""

import numpy as np
from PIL import Image

from orrery.usecase import Array
from usecases.imaging.picture import SIDE

_TAIL = 0.02
"""share of the lungs that may lie beyond each edge before the margin: a stray spot must not stretch the square"""
_MARGIN = 0.04
"""of the lungs' larger extent, added on each side"""
_LEAST_AREA = 0.02
"""of the picture; with less lung than that the whole picture is the region"""
_LEAST_SPREAD = 4.0
"""levels; an even picture is not made one of noise"""
_WHOLE = (0.0, 0.0, float(SIDE), float(SIDE))


def boxes(lungs: Array) -> Array:
    """Where to look, from lung probabilities of shape (n, 128, 128): (left, top, right, bottom) in pixels, (n, 4).

    Lungs of ones give the whole picture. The edges move smoothly with the probabilities, so that a tiny difference
    between two runtimes stays tiny.
    """
    return np.array([_box(one) for one in lungs], dtype=np.float64).reshape(-1, 4)


def crop(pictures: Array, lungs: Array, where: Array, side: int) -> Array:
    """Cut boxes, shape (n, 4), out of pictures with their lungs, shape (n, 128, 128): float32 of shape (n, side, side).

    In standard units of each film's own lungs, and 0 outside of them: how hard a film was exposed, and what lies beside
    the lungs, tells nothing of an opacity.
    """
    cut = [
        np.asarray(Image.fromarray(levelled).resize((side, side), Image.Resampling.BILINEAR, box=tuple(box)))
        for levelled, box in zip(map(_levelled, pictures, lungs), where, strict=True)
    ]
    return np.array(cut, dtype=np.float32).reshape(-1, side, side)


def place(maps: Array, where: Array) -> Array:
    """Put maps of regions, shape (n, rows, columns), where their boxes are: float32 of shape (n, 128, 128), else 0."""
    placed = np.zeros((len(maps), SIDE, SIDE), dtype=np.float32)
    for target, small, box in zip(placed, maps.astype(np.float32), where, strict=True):
        left, top = (int(edge) for edge in np.floor(box[:2]))
        right, bottom = (int(edge) for edge in np.ceil(box[2:]))
        size = (right - left, bottom - top)
        target[top:bottom, left:right] = np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BILINEAR))
    return placed


def _levelled(picture: Array, lungs: Array) -> Array:
    shares = lungs / max(float(lungs.sum(dtype=np.float64)), 1e-6)
    centred = picture - (picture * shares).sum(dtype=np.float64)
    spread = np.sqrt((centred**2 * shares).sum(dtype=np.float64))
    return np.asarray(centred / max(float(spread), _LEAST_SPREAD) * lungs, dtype=np.float32)


def _box(lungs: Array) -> tuple[float, ...]:
    if lungs.mean() < _LEAST_AREA:
        return _WHOLE
    (left, right), (top, bottom) = (_extent(lungs.sum(axis=axis, dtype=np.float64)) for axis in (0, 1))
    half = max(right - left, bottom - top) * (0.5 + _MARGIN)
    side = min(2 * half, SIDE)
    corner = [float(np.clip((low + high - side) / 2, 0, SIDE - side)) for low, high in ((left, right), (top, bottom))]
    return (*corner, corner[0] + side, corner[1] + side)


def _extent(profile: Array) -> tuple[float, float]:
    """Between which places all but the tails of the profile, shape (128,), lie."""
    risen = np.concatenate([[0.0], np.cumsum(profile)])
    low, high = np.interp((_TAIL * risen[-1], (1 - _TAIL) * risen[-1]), risen, np.arange(len(risen)))
    return float(low), float(high)
