"""Opacities of a phantom, and the harmless shadows that look a little like them."""

from collections.abc import Callable, Mapping

import cv2
import numpy as np

from orrery.usecase import Array
from usecases.imaging.phantom_anatomy import ACROSS, DOWN, Chest, bump, clouds, distance, step, stroke

Draw = Callable[[np.random.Generator, Chest], Array]


def opacity(rng: np.random.Generator, chest: Chest, kind: str) -> Array:
    """What a finding adds to the attenuation: float32, shape of the canvas. Faint more often than dense."""
    shape = _KINDS[kind](rng, chest)
    low, high = _STRENGTH[kind]
    return np.asarray(shape * (low + (high - low) * rng.beta(1.3, 1.6)), np.float32)


def harmless(rng: np.random.Generator, chest: Chest) -> Array:
    """Calcified spots, nipples, wires, folds of skin: on ill and healthy alike."""
    added = np.zeros(chest.right.shape, np.float32)
    if rng.random() < 0.25:
        for _ in range(rng.integers(1, 4)):
            added += rng.uniform(0.1, 0.4) * _disc(*_inside(rng, chest.right + chest.left), rng.uniform(0.015, 0.025))
    if rng.random() < 0.2:
        size, strength, down = rng.uniform(0.03, 0.045), rng.uniform(0.04, 0.12), rng.uniform(0.3, 0.5)
        for side in (-1, 1):
            added += strength * _disc(side * 0.55 + rng.normal(0, 0.04), down, size)
    if rng.random() < 0.3:
        across = rng.uniform(-1, 1, (3, 1)) + rng.normal(0, 0.25, (3, 4))
        wires = np.stack([across, np.broadcast_to(np.linspace(-1.3, 1.2, 4), (3, 4))], axis=-1)
        added += rng.uniform(0.05, 0.15) * stroke(wires[: rng.integers(1, 4)], 0.014)
    if rng.random() < 0.15:
        added += rng.uniform(0.02, 0.06) * (rng.uniform(-1.5, 1.5) * ACROSS + DOWN > rng.uniform(-0.3, 0.3))
    return np.asarray(cv2.GaussianBlur(added, (0, 0), 1.0))


def _round(rng: np.random.Generator, chest: Chest) -> Array:
    added = np.zeros(chest.right.shape, np.float32)
    for _ in range(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1])):
        x, y = _inside(rng, chest.right + chest.left)
        size = rng.uniform(0.08, 0.185)
        far = distance(x, y, size, size * rng.uniform(0.8, 1.25)) + 0.2 * clouds(rng, 24)
        added = np.maximum(added, step(1 - far, 0.4))
    return added


def _patchy(rng: np.random.Generator, chest: Chest) -> Array:
    added = np.zeros(chest.right.shape, np.float32)
    lungs = chest.right + chest.left if rng.random() < 0.5 else chest.right if rng.random() < 0.5 else chest.left
    for _ in range(rng.integers(2, 6)):
        x, y = _inside(rng, lungs)
        added += bump(x, y, rng.uniform(0.1, 0.22), rng.uniform(0.08, 0.18))
    return np.asarray(np.clip(added, 0, 1) * lungs * np.clip(0.8 + 0.35 * clouds(rng, 30), 0, 1.4))


def _lobar(rng: np.random.Generator, chest: Chest) -> Array:
    lung = chest.right if rng.random() < 0.5 else chest.left
    rows = np.flatnonzero(lung.max(axis=1) > 0.5)
    side = -1 if lung is chest.right else 1
    level = DOWN[int(rows[0] + (rows[-1] - rows[0]) * rng.uniform(0.3, 0.65)), 0]
    fissure = DOWN - level - rng.uniform(-0.1, 0.35) * (side * ACROSS - 0.5)
    lobe = step(-fissure if rng.random() < 0.35 else fissure, rng.uniform(0.02, 0.16))
    angles = rng.uniform(-1.2, 1.2, 6)
    ways = np.column_stack([side * np.cos(angles), np.sin(angles)])
    bronchi = stroke(np.array([side * 0.25, -0.1]) + ways[:, None] * np.array([[0], [0.3], [0.7]]), 0.02)
    solid = lobe * lung * (1 + 0.12 * clouds(rng, 20))
    return np.asarray(solid * (1 - 0.35 * cv2.GaussianBlur(bronchi, (0, 0), 1.2)))


def _diffuse(rng: np.random.Generator, chest: Chest) -> Array:
    lungs = chest.right + chest.left
    net = np.exp(-((clouds(rng, int(rng.integers(38, 60))) / 0.35) ** 2))
    down = np.clip(0.75 + rng.uniform(-0.1, 0.6) * DOWN, 0.2, 1.3)
    return lungs * down * (0.75 * net + 0.25 + 0.1 * clouds(rng, 10))


def _effusion(rng: np.random.Generator, chest: Chest) -> Array:
    added = np.zeros(chest.right.shape, np.float32)
    lungs = (chest.right, chest.left)
    for lung in lungs if rng.random() < 0.25 else (lungs[rng.integers(2)],):
        rows, columns = np.nonzero(lung > 0.5)
        across = np.abs(ACROSS) / np.abs(ACROSS[0, columns]).max()
        surface = DOWN[rows.max(), 0] - rng.uniform(0.04, 0.5)
        rise = rng.uniform(0.15, 0.45) * np.clip(across, 0, 1.1) ** 4
        added += lung * step(DOWN - surface + rise, 0.06)
    return added


_KINDS: Mapping[str, Draw] = {
    "round": _round,
    "patchy": _patchy,
    "lobar": _lobar,
    "diffuse": _diffuse,
    "effusion": _effusion,
}
KINDS = tuple(_KINDS)
_STRENGTH = {
    "round": (0.23, 0.52),
    "patchy": (0.23, 0.50),
    "lobar": (0.17, 0.50),
    "diffuse": (0.18, 0.38),
    "effusion": (0.19, 0.58),
}
"""attenuation at the densest; a rib has about .13, soft tissue without lung .6"""


def _disc(x: float, y: float, radius: float) -> Array:
    return step(1 - distance(x, y, radius, radius), 0.6)


def _inside(rng: np.random.Generator, lungs: Array) -> tuple[float, float]:
    rows, columns = np.nonzero(cv2.erode(lungs, np.ones((11, 11), np.uint8)) > 0.9)
    one = rng.integers(rows.size)
    return float(ACROSS[0, columns[one]]), float(DOWN[rows[one], 0])
