"""Pictures that are no chest film, though their files say so: a shin, a hand, a photograph."""

from itertools import pairwise

import cv2
import numpy as np

from orrery.usecase import Array
from usecases.imaging.phantom import NONE, Phantom, Place, expose
from usecases.imaging.phantom_anatomy import fill, stroke

_FINGERS = np.array([(-0.66, -0.12), (-0.36, -0.86), (-0.06, -0.98), (0.22, -0.88), (0.48, -0.62)])
_KNUCKLES = np.array([(-0.36, 0.32), (-0.24, -0.06), (-0.04, -0.12), (0.14, -0.06), (0.30, 0.06)])


def shin(seed: int) -> Phantom:
    """Two long bones in a leg."""
    rng = np.random.default_rng([31, seed])
    wide = rng.uniform(0.8, 1.2)
    leg = np.array([(-0.45, -1.5), (0.45, -1.5), (0.52, -0.6), (0.34, 0.5), (0.30, 1.5), (-0.28, 1.5), (-0.38, 0.4)])
    tibia = np.array([[(-0.10, -1.5), (-0.09, -0.9), (-0.04, 0), (-0.02, 0.9), (-0.03, 1.5)]])
    fibula = np.array([[(0.20, -1.1), (0.19, -0.6), (0.16, 0.2), (0.14, 1.5)]])
    soft = cv2.GaussianBlur(fill(leg * [wide, 1]), (0, 0), 4)
    bones = _bone(tibia * [wide, 1], 0.2 * wide) + 0.8 * _bone(fibula * [wide, 1], 0.08 * wide)
    return _film(rng, 0.55 * soft + bones)


def hand(seed: int) -> Phantom:
    """Five fingers spread on a plate."""
    rng = np.random.default_rng([32, seed])
    tips = _FINGERS + rng.normal(0, 0.04, _FINGERS.shape)
    wrist = np.array([(-0.10, 0.66), (-0.06, 0.62), (0.0, 0.6), (0.06, 0.62), (0.12, 0.66)])
    rays = np.stack([wrist, _KNUCKLES, tips], axis=1)
    palm = fill(np.array([(-0.45, 0.2), (-0.2, -0.2), (0.3, -0.15), (0.42, 0.3), (0.24, 0.75), (-0.22, 0.75)]))
    arm = stroke(np.array([[(0.0, 0.5), (0.0, 1.6)]]), 0.42)
    soft = cv2.GaussianBlur(np.maximum.reduce([palm, stroke(rays, 0.2), arm]), (0, 0), 2.5)
    bones = _bone(_phalanges(rays), 0.085) + _bone(
        np.array([[(-0.08, 0.8), (-0.1, 1.6)], [(0.1, 0.8), (0.1, 1.6)]]), 0.13
    )
    return _film(rng, 0.5 * soft + bones)


def photograph(seed: int) -> Phantom:
    """A landscape: sky, hills, a house, and grain of every size, as nature has it."""
    rng = np.random.default_rng([33, seed])
    rows, columns = (2 * int(half) for half in rng.integers(128, 257, 2))
    down, across = np.mgrid[:rows, :columns].astype(np.float32) / [[[rows]], [[columns]]]
    picture = 0.85 - 0.3 * down + 0.1 * _grain(rng, rows, columns)
    for hill in range(4):
        ridge = 0.35 + 0.13 * hill + 0.08 * np.sin(rng.uniform(3, 9) * across + rng.uniform(0, 6))
        ground = 0.55 - 0.12 * hill + 0.16 * _grain(rng, rows, columns)
        picture = np.where(down > ridge, ground, picture)
    left, top, wide = rng.uniform(0.1, 0.6), rng.uniform(0.5, 0.65), rng.uniform(0.15, 0.3)
    house = (np.abs(across - left - wide / 2) < wide / 2) & (np.abs(down - top - 0.12) < 0.12)
    roof = (down < top) & (down > top - 0.14 + 0.9 * np.abs(across - left - wide / 2))
    picture[house], picture[roof] = rng.uniform(0.6, 0.95), rng.uniform(0.05, 0.3)
    return _stranger(rng, np.asarray(np.clip(picture, 0, 1), np.float32))


def _bone(paths: Array, width: float) -> Array:
    """Tubes with a dense rim."""
    hollow = 0.45 * stroke(paths, width) - 0.2 * stroke(paths, 0.6 * width)
    return np.asarray(cv2.GaussianBlur(hollow, (0, 0), 1.2))


def _phalanges(rays: Array) -> Array:
    """Four bones a finger, with joints between them."""
    bones = []
    for start, knuckle, tip in rays:
        joints = [start, *(knuckle + (tip - knuckle) * part for part in (0, 0.45, 0.75, 1))]
        bones += [np.stack([a + 0.12 * (b - a), b - 0.12 * (b - a)]) for a, b in pairwise(joints)]
    return np.stack(bones)


def _grain(rng: np.random.Generator, rows: int, columns: int) -> Array:
    total = np.zeros((rows, columns), np.float32)
    for octave in range(2, 8):
        coarse = rng.standard_normal((2**octave, 2**octave), dtype=np.float32)
        total += cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC) / 2 ** (octave - 2)
    return total


def _film(rng: np.random.Generator, attenuation: Array) -> Phantom:
    return _stranger(rng, expose(rng, Place(rng)(np.asarray(attenuation, np.float32)), "PA"))


def _stranger(rng: np.random.Generator, pixels: Array) -> Phantom:
    nothing = np.zeros(pixels.shape, bool)
    age, sex = float(rng.integers(18, 90)), str(rng.choice(["F", "M"]))
    return Phantom(pixels, lungs=nothing, finding_mask=nothing, label=0, finding=NONE, age=age, sex=sex, view="PA")
