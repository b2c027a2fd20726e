"""The healthy chest of a phantom: how much each part of it holds back of the beam, on a canvas of its own."""

from dataclasses import dataclass

import cv2
import numpy as np

from orrery.usecase import Array

CANVAS = 320
UNIT = 123
"""pixels of the canvas from the middle of the chest to the inner edge of the ribs"""
_SUBPIXEL = 4
"""bits; how finely outlines are placed"""
DOWN = (np.arange(CANVAS, dtype=np.float32)[:, None] - CANVAS / 2) / UNIT
"""of each row, in units from the middle; shape (CANVAS, 1)"""
ACROSS = DOWN.T
"""of each column, to the patient's left; shape (1, CANVAS)"""
_BASIS = np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2
_PIECE = (np.linspace(0, 1, 8, endpoint=False)[:, None] ** np.arange(4)) @ _BASIS
"""eight points of a piece of a Catmull-Rom curve, of its four points"""

_LUNG = np.array(
    [
        *[(0.20, -0.72), (0.30, -0.98), (0.44, -1.05), (0.62, -0.92), (0.80, -0.58), (0.91, -0.10), (0.95, 0.38)],
        *[(0.95, 0.78), (0.95, 0.78), (0.74, 0.60), (0.52, 0.55), (0.30, 0.64), (0.30, 0.64), (0.2, 0.3), (0.16, -0.2)],
    ]
)
"""outline of a lung; a point twice is a corner"""
_BODY = np.array(
    [
        *[(0.0, -1.5), (0.27, -1.5), (0.30, -1.18), (0.62, -1.10), (1.0, -0.98), (1.6, -0.80), (1.6, -0.38)],
        *[(1.18, -0.34), (1.11, -0.20), (1.12, 0.3), (1.13, 0.9), (1.16, 1.5), (0.0, 1.5)],
    ]
)
_HEART = np.array(
    [
        *[(-0.19, -0.10), (-0.27, 0.20), (-0.25, 0.52), (-0.14, 0.85), (0.25, 0.92), (0.46, 0.80), (0.56, 0.52)],
        *[(0.46, 0.20), (0.29, -0.08), (0.21, -0.32), (0.0, -0.42), (-0.16, -0.34)],
    ]
)
_FORKS = ((0.030, 0.85), (0.021, 0.65), (0.014, 0.45), (0.009, 0.3))
"""width and density of vessels from the root outward"""


@dataclass(frozen=True)
class Build:
    """What a person is like, the same on each of their films."""

    width: float
    height: float
    heart: float
    """its size, 1 is usual"""
    thickness: float
    """of soft tissue"""
    breasts: float
    slope: float
    """of the ribs"""
    pairs: int
    """of ribs that can be seen"""
    bones: float
    """how dense they are"""
    vessels: float
    bend: float
    """of the spine"""


@dataclass(frozen=True)
class Chest:
    """A chest on the canvas. All float32 of shape (CANVAS, CANVAS)."""

    attenuation: Array
    right: Array
    """the patient's right lung, 0..1"""
    left: Array


def build(rng: np.random.Generator, sex: str) -> Build:
    """A person."""
    return Build(
        width=rng.uniform(0.92, 1.06),
        height=rng.uniform(0.90, 1.06),
        heart=rng.normal(1.0, 0.08),
        thickness=rng.uniform(0.8, 1.25),
        breasts=rng.uniform(0.03, 0.16) if sex == "F" else rng.uniform(0, 0.03),
        slope=rng.uniform(0.8, 1.3),
        pairs=int(rng.integers(8, 11)),
        bones=rng.uniform(0.7, 1.3),
        vessels=rng.uniform(0.7, 1.35),
        bend=rng.normal(0, 0.03),
    )


def chest(rng: np.random.Generator, who: Build, view: str) -> Chest:
    """A person as they stood (PA) or lay (AP) for one film: breath, turn and arms vary."""
    lying = view == "AP"
    breath = rng.normal(0.10 if lying else 0.0, 0.05)
    turn = rng.normal(0, 0.05)
    scale = np.array([who.width, who.height])
    heart_size = who.heart * (rng.uniform(1.08, 1.24) if lying else rng.uniform(0.95, 1.03))
    heart = fill(_bend(_HEART, rng, 0.012) * [heart_size, 0.96 * heart_size] * scale + [turn, 0.02 - 0.6 * breath])
    lungs = []
    for side in (-1, 1):
        outline = _bend(_LUNG, rng, 0.014)
        low = outline[:, 1] > 0.4
        outline[low, 1] -= breath + (0.05 if side < 0 else 0.0) + rng.normal(0, 0.015)
        lungs.append(fill(outline * [side, 1] * scale + [0.4 * turn, 0]) * (1 - heart))
    aired = cv2.GaussianBlur(lungs[0] + lungs[1], (0, 0), 1.5)
    attenuation = _soft(rng, who, aired, turn) + 0.14 * cv2.GaussianBlur(heart, (0, 0), 2)
    attenuation += _bones(rng, who, lying, turn) + _vessels(rng, who, lungs[0] + lungs[1], turn)
    return Chest(np.maximum(attenuation, 0), *lungs)


def fill(outline: Array) -> Array:
    """A smooth closed outline (points, 2) in units -> 0..1 inside, antialiased."""
    layer = np.zeros((CANVAS, CANVAS), np.uint8)
    cv2.fillPoly(layer, [_placed(_smooth(outline, closed=True))], 255, cv2.LINE_AA, _SUBPIXEL)
    return layer.astype(np.float32) / 255


def stroke(paths: Array, width: float) -> Array:
    """Smooth lines through points, shape (lines, points, 2) in units, of a width in units -> float32, 0 or 1."""
    layer = np.zeros((CANVAS, CANVAS), np.uint8)
    cv2.polylines(layer, list(_placed(_smooth(paths))), False, 1, max(1, round(width * UNIT)), cv2.LINE_8, _SUBPIXEL)
    return layer.astype(np.float32)


def clouds(rng: np.random.Generator, grain: int) -> Array:
    """Smooth noise of mean 0 and deviation about 1; `grain` is how many bumps the canvas is wide."""
    coarse = rng.standard_normal((grain, grain), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (CANVAS, CANVAS), interpolation=cv2.INTER_CUBIC))


def distance(x: float, y: float, wide: float, high: float) -> Array:
    """Of each pixel from a point, in radii of an ellipse around it, squared."""
    return np.asarray(((ACROSS - x) / wide) ** 2 + ((DOWN - y) / high) ** 2)


def bump(x: float, y: float, wide: float, high: float) -> Array:
    """A Gaussian hill of height 1."""
    return np.asarray(np.exp(-(((ACROSS - x) / wide) ** 2)) * np.exp(-(((DOWN - y) / high) ** 2)))


def step(values: Array, width: float) -> Array:
    """From 0 below to 1 above zero, smoothly."""
    return np.asarray(0.5 + 0.5 * np.tanh(values / width))


def _soft(rng: np.random.Generator, who: Build, aired: Array, turn: float) -> Array:
    half = _bend(_BODY, rng, 0.01) * [0.96 + 0.06 * who.thickness, 1]
    body = fill(np.vstack([half, half[::-1] * [-1, 1]]))
    tissue = cv2.GaussianBlur(body, (0, 0), 7) * (1 + 0.05 * clouds(rng, 6))
    middle = np.exp(-(((ACROSS - 0.6 * turn) / 0.17) ** 4))
    abdomen = 0.2 * np.clip((DOWN - 0.45) / 0.3, 0, 1)
    solid = 1 - aired
    if rng.random() < 0.5:  # gas in the stomach
        abdomen = abdomen - rng.uniform(0.1, 0.3) * np.clip(1 - distance(0.5, 0.92, 0.22, 0.1), 0, 1)
    breast = sum(np.sqrt(np.clip(1.2 - distance(side * 0.58, 0.42, 0.42, 0.36), 0, 1)) for side in (-1, 1))
    air = 0.62 * who.thickness**0.5 * (1 + 0.05 * clouds(rng, 5)) * (1 - 0.12 * (DOWN - 0.4))
    soft = 0.9 * who.thickness * tissue + 0.16 * middle + abdomen * solid + who.breasts * breast
    return np.asarray(soft * body - air * aired, np.float32)


def _bones(rng: np.random.Generator, who: Build, lying: bool, turn: float) -> Array:
    number = np.arange(who.pairs, dtype=np.float64)
    top = (1.75 * number / who.pairs - 1.02 + rng.normal(0, 0.01, who.pairs)) * who.height
    reach = np.minimum(1.0, 0.55 + 0.16 * number) * who.width
    drop = who.slope * (0.10 + 0.022 * number)
    down = np.column_stack([0 * drop, 0 * drop - 0.05, 0 * drop + 0.02, drop, drop + 0.12])
    rise = drop[:, None] + 0.12 + np.array([0, 0.14, 0.27 * who.slope, 0.3 * who.slope])
    back = np.stack([0.08 + reach[:, None] * [0, 0.35, 0.7, 0.95, 1.02], top[:, None] + down], axis=-1)
    front = np.stack([0.08 + reach[:, None] * [1.02, 0.9, 0.6, 0.4], top[:, None] + rise], axis=-1)
    lift = rng.normal(0.06 if lying else 0, 0.03)
    collar = np.array([[(0.10, -0.74), (0.38, -0.82 - lift), (0.66, -0.90 - lift), (1.0, -0.96 - lift)]])
    parts = ((back, 0.075, 0.13, 0.3), (back, 0.045, -0.04, 0.3), (front, 0.085, 0.06, 0.3), (collar, 0.085, 0.15, 1.2))
    bones = sum(density * stroke(_pair(paths, shift * turn), width) for paths, width, density, shift in parts)
    bones += _shoulder_blades(rng, lying)
    return np.asarray(cv2.GaussianBlur(bones, (0, 0), 1.5) * who.bones + _spine(who, turn), np.float32)


def _pair(paths: Array, shift: float) -> Array:
    """Lines (lines, points, 2) of the left, and the same on the right."""
    return np.asarray(np.concatenate([paths, paths * [-1, 1]]) + np.array([shift, 0]))


def _shoulder_blades(rng: np.random.Generator, lying: bool) -> Array:
    shape = np.array([(0.72, -0.86), (1.12, -0.84), (1.02, -0.4), (0.86, 0.02), (0.80, -0.1), (0.74, -0.5)])
    out = rng.normal(0.0 if lying else 0.17, 0.04)
    both = sum(fill((shape + np.array([out, 0])) * [side, 1]) for side in (-1, 1))
    return np.asarray(0.06 * both, np.float32)


def _spine(who: Build, turn: float) -> Array:
    middle = 0.3 * turn + who.bend * np.sin(2 * DOWN)
    discs = 0.75 + 0.25 * np.tanh(4 * np.sin(DOWN * (2 * np.pi / (0.16 * who.height))))
    return np.asarray(0.22 * who.bones * step(0.095 - np.abs(ACROSS - middle), 0.024) * discs)


def _vessels(rng: np.random.Generator, who: Build, lungs: Array, turn: float) -> Array:
    layer = np.zeros((CANVAS, CANVAS), np.uint8)
    hila = np.zeros((CANVAS, CANVAS), np.float32)
    for side in (-1, 1):
        root = np.array([side * 0.24 + turn, -0.08 if side < 0 else -0.13])
        hila += bump(root[0], root[1], 0.09, 0.14)
        angles = np.linspace(-1.35, 1.25, 11) + rng.normal(0, 0.12, 11)
        ways = np.column_stack([side * np.cos(angles), np.sin(angles)])
        _branches(rng, layer, np.repeat(root[None], 11, axis=0), ways)
    blurred = cv2.GaussianBlur(layer, (0, 0), 1.0).astype(np.float32) * np.float32(0.17 / 255)
    texture = 0.012 * clouds(rng, 90)
    return np.asarray((who.vessels * (blurred + 0.13 * hila) + texture) * (0.15 + 0.85 * lungs), np.float32)


def _branches(rng: np.random.Generator, layer: Array, starts: Array, ways: Array) -> None:
    """Draw vessels from their roots outward: each forks, and is thinner after it."""
    for width, level in _FORKS:
        length = rng.uniform(0.16, 0.3, (len(starts), 1))
        turned = ways + rng.normal(0, 0.18, ways.shape)
        middle, ends = starts + length / 2 * ways, starts + length / 2 * (ways + turned)
        paths = _placed(np.stack([starts, middle, ends], axis=1))
        cv2.polylines(layer, list(paths), False, int(255 * level), max(1, round(width * UNIT)), cv2.LINE_AA, _SUBPIXEL)
        forks = rng.random(len(starts)) < 0.6
        ways = np.vstack([turned, turned[forks] + rng.normal(0, 0.5, (int(forks.sum()), 2))])
        ways /= np.linalg.norm(ways, axis=1, keepdims=True)
        starts = np.vstack([ends, ends[forks]])


def _bend(outline: Array, rng: np.random.Generator, by: float) -> Array:
    moved = outline + rng.normal(0, by, outline.shape)
    twice = (outline == np.roll(outline, 1, axis=0)).all(axis=1)
    moved[twice] = np.roll(moved, 1, axis=0)[twice]
    return moved


def _smooth(points: Array, *, closed: bool = False) -> Array:
    """Curves through points (..., points, 2); an outline is one such."""
    first, last = (points[-1:], points[:2]) if closed else (points[..., :1, :], points[..., -1:, :])
    around = np.concatenate([first, points, last], axis=-2)
    count = around.shape[-2] - 3
    pieces = np.stack([around[..., place : place + count, :] for place in range(4)], axis=-2)
    curve = (_PIECE @ pieces).reshape(*points.shape[:-2], -1, 2)
    return np.concatenate([curve, around[..., -2:-1, :]], axis=-2)


def _placed(points: Array) -> Array:
    return np.asarray(np.rint((points * UNIT + CANVAS / 2) * 2**_SUBPIXEL), np.int32)
