"""Made-up chest films: drawn from a seed, with the lungs, what is wrong, and who is shown."""

from dataclasses import dataclass

import cv2
import numpy as np

from orrery.usecase import Array
from usecases.imaging.phantom_anatomy import CANVAS, UNIT, build, chest
from usecases.imaging.phantom_findings import KINDS, harmless, opacity

NONE = "none"
FINDINGS = (NONE, *KINDS)
SMALLEST, LARGEST = 256, 512
"""rows and columns of a film"""
_ILL = 0.42
_AP = {0: 0.3, 1: 0.42}
_FEMALE = {0: 0.5, 1: 0.45}
_YEARS = {0: (52.0, 17.0), 1: (58.0, 17.0)}
"""what goes with an illness, weakly, as in life: label -> share or mean and deviation"""
_VISIBLE = 0.35
"""share of its densest from which a finding is marked"""


@dataclass(frozen=True)
class Phantom:
    """A film of shape (rows, columns)."""

    pixels: Array
    """float32, 0..1, bright is dense"""
    lungs: Array
    """bool"""
    finding_mask: Array
    """bool; empty when nothing was found"""
    label: int
    finding: str
    """one of FINDINGS"""
    age: float
    """years"""
    sex: str
    view: str


def draw(seed: int, *, person: int | None = None) -> Phantom:
    """The film of a seed, always the same; films of one `person` share build, age and sex."""
    who, rng = np.random.default_rng([11, seed if person is None else person]), np.random.default_rng([12, seed])
    tends = int(who.random() < _ILL)
    sex = "F" if who.random() < _FEMALE[tends] else "M"
    age = float(np.clip(np.rint(who.normal(*_YEARS[tends])), 18, 95))
    figure = build(who, sex)
    label = tends if rng.random() < 0.8 else int(rng.random() < _ILL)
    view = "AP" if rng.random() < _AP[label] else "PA"
    body = chest(rng, figure, view)
    finding = str(rng.choice(KINDS)) if label else NONE
    seen = opacity(rng, body, finding) if label else np.zeros_like(body.attenuation)
    attenuation = body.attenuation + harmless(rng, body) + seen
    place = Place(rng)
    return Phantom(
        pixels=expose(rng, place(attenuation), view),
        lungs=place(body.right + body.left) > 0.5,
        finding_mask=place(_marked(seen)) > 0.5,
        label=label,
        finding=finding,
        age=age,
        sex=sex,
        view=view,
    )


def _marked(seen: Array) -> Array:
    """0 or 1: a finding in one piece where it is one, without the holes of a net."""
    smooth = cv2.GaussianBlur(seen, (0, 0), 2.5)
    marked = np.asarray(smooth > max(_VISIBLE * float(smooth.max()), 1e-3), np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (13, 13))
    return np.asarray(cv2.morphologyEx(marked, cv2.MORPH_CLOSE, disc), np.float32)


class Place:
    """Where the canvas lies on a film: its size, turn, shift and enlargement."""

    def __init__(self, rng: np.random.Generator) -> None:
        longer = int(rng.integers(SMALLEST, LARGEST + 1))
        shorter = max(SMALLEST, round(longer * rng.uniform(0.78, 1)))
        columns, self.rows = (longer, shorter) if rng.random() < 0.4 else (shorter, longer)
        self.columns = columns + columns % 2  # gdcm encodes no odd number of bytes
        step = max(2.25 * UNIT / self.rows, 2.15 * UNIT / self.columns) * rng.uniform(0.96, 1.12)
        turn = np.deg2rad(rng.normal(0, 2.5))
        matrix = step * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        centre = np.array([CANVAS / 2, CANVAS / 2 - 0.05 * UNIT]) + rng.normal(0, 0.035 * UNIT, 2)
        offset = centre - matrix @ np.array([self.columns / 2, self.rows / 2])
        self.matrix = np.column_stack([matrix, offset])

    def __call__(self, canvas: Array) -> Array:
        size, flags = (self.columns, self.rows), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(canvas, self.matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE))


def expose(rng: np.random.Generator, attenuation: Array, view: str) -> Array:
    """What the detector shows: hardness, blur, noise and grey scale differ from film to film."""
    grey = 1 - np.exp(-rng.uniform(1.2, 2.0) * attenuation)
    blurred = cv2.GaussianBlur(grey, (0, 0), rng.uniform(0.4, 1.3))
    noise = rng.uniform(0.008, 0.022) * (1.5 if view == "AP" else 1.0)
    blurred += noise * np.sqrt(0.3 + blurred) * rng.standard_normal(blurred.shape, dtype=np.float32)
    low, high = rng.uniform(0.0, 0.1), rng.uniform(0.85, 1.0)
    shown = low + (high - low) * cv2.pow(np.clip(blurred, 0, 1), rng.uniform(0.75, 1.3))
    return np.asarray(shown, np.float32)
