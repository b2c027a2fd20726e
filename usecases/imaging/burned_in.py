"""Text that is burned into a film: suspected cheaply on every film, read where suspected, painted over."""

import logging
import threading
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from orrery.usecase import Array

if TYPE_CHECKING:
    from rapidocr_onnxruntime import RapidOCR

THREADS = 2
_SIDE, _LEAST_SIDE = 2048, 500
"""longest side (pixels) of the copy that letters are looked for on, and of the coarsest of its copies at least"""
_STROKE, _CONTRAST, _NOISE = 9, 16, 5.0
"""a stroke is thinner (pixels), and differs from what is beside it by more (of 255; times the noise)"""
_LEAST_HEIGHT, _MOST_HEIGHT, _WIDEST, _LONGEST, _LEAST_AREA, _MOST_MARKS = 6, 70, 4, 25, 8, 1000
"""of a letter, in pixels; how much wider than high it may be, and a word grown together; those that are compared"""
_THICKEST, _TALLEST, _FAR, _MOST_PLACES = 4, 12, 2, 8
"""letters' heights that a line, and a few lines together, are lower than, and that text may go on behind; places that
are read one by one, and not with the whole film"""
_READ_HEIGHTS, _WHOLE_SIDE, _LONGEST_SIDE, _LEAST_READ = (28, 44), 1280, 1600, 64
"""pixels of a letter that OCR reads well; longest side of a film that is read as a whole, and of anything that is;
a shorter side is enlarged by OCR itself"""
_SURE, _SURER, _WORD, _LARGEST = 0.6, 0.85, 4, 0.1
"""scores of a reading that counts, of so many characters or of fewer; and the film's share that a line is lower than"""
_MOST_PAINTED = 0.33
"""share of a film that may be painted over"""
_reading = threading.Lock()


class Box(NamedTuple):
    """Pixels of a film: those at right and bottom are outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def area(self) -> int:
        return (self.right - self.left) * (self.bottom - self.top)

    def beside(self, other: "Box", room: float) -> bool:
        """Whether they overlap, or less than `room` is between them."""
        across = min(self.right, other.right) - max(self.left, other.left)
        return min(across, min(self.bottom, other.bottom) - max(self.top, other.top)) > -room

    def of(self, film: Array) -> Array:
        """What the box shows of a film, a view."""
        return film[self.top : self.bottom, self.left : self.right]

    def grown(self, across: int, down: int, film: Array) -> "Box":
        """With margins, as far as the film goes."""
        rows, columns = film.shape
        left, top = max(self.left - across, 0), max(self.top - down, 0)
        return Box(left, top, min(self.right + across, columns), min(self.bottom + down, rows))

    def with_more_text(self, film: Array) -> "Box":
        """With margins for what was not seen: half a letter, and two where the text may go on."""
        wide, high = self.right - self.left, self.bottom - self.top
        beside, along = 2 + min(wide, high) // 2, 2 + 2 * min(wide, high)
        return self.grown(*((along, beside) if wide > high else (beside, along)), film)


class _Line(NamedTuple):
    """Where a line of text could be."""

    box: Box
    height: float
    """of its letters, in pixels"""
    letters: int

    def turned(self) -> "_Line":
        left, top, right, bottom = self.box
        return self._replace(box=Box(top, left, bottom, right))

    def scaled(self, factor: float) -> "_Line":
        return self._replace(box=Box(*(round(factor * edge) for edge in self.box)), height=self.height * factor)

    def touches(self, other: "_Line") -> bool:
        """Whether they may be read as one: beside each other, and together neither tall nor mostly empty."""
        both = self.joined(other)
        small = min(both.box.right - both.box.left, both.box.bottom - both.box.top) < _TALLEST * both.height
        full = both.box.area < 2 * (self.box.area + other.box.area)
        return small and full and self.box.beside(other.box, min(self.height, other.height))

    def near(self, boxes: Iterable[Box]) -> bool:
        """Whether it may go on what was read in one of the boxes."""
        return any(self.box.beside(box, _FAR * self.height) for box in boxes)

    def joined(self, other: "_Line") -> "_Line":
        edges = zip(self.box, other.box, (min, min, max, max), strict=True)
        clearer = max(self, other, key=lambda line: (line.letters, -line.height))
        return clearer._replace(box=Box(*(choose(one, two) for one, two, choose in edges)))

    def place(self, film: Array) -> Box:
        """Where to read it: with room for letters that were not seen."""
        room = round(2 * self.height) + 8
        return self.box.grown(room, room, film)


def find(levels: Array, *, thorough: bool = False) -> list[Box]:
    """Where text of two characters or more can be read on a film, levels of shape (rows, columns).

    A single letter, as the marker of a side, is none. `thorough`: read the whole film, suspected or not.
    """
    grey, (rows, columns) = _grey(levels), levels.shape
    lines = _suspects(grey)
    places = _merged(lines)
    crowded = len(places) > _MOST_PLACES or sum(place.place(grey).area for place in places) > grey.size / 2
    found = [] if crowded else [box for place in places for box in _read_line(grey, place)]
    if thorough or crowded:
        scale = min(_WHOLE_SIDE / max(rows, columns), 2)
        if crowded:
            scale = max(scale, _READ_HEIGHTS[0] / float(np.median([place.height for place in places])))
        found += _read(grey, Box(0, 0, columns, rows), scale)
    more = [line.box.grown(2, 2, grey) for line in lines if line.near(found)]
    return [box.with_more_text(grey) for box in found] + more


def redact(values: Array, boxes: Iterable[Box]) -> Array:
    """A copy of stored values with every box painted in the level around it."""
    painted = values.copy()
    for box in boxes:
        outer = box.grown(2, 2, values)
        frame = np.concatenate([outer.of(painted)[[0, -1]].ravel(), outer.of(painted)[:, [0, -1]].ravel()])
        box.of(painted)[:] = np.median(frame).astype(values.dtype)
    return painted


def too_much(film: Array, boxes: Iterable[Box]) -> bool:
    """Whether the boxes cover so much of a film that painting them over would spoil it."""
    covered = np.zeros(film.shape, bool)
    for box in boxes:
        box.of(covered)[:] = True
    return float(covered.mean()) > _MOST_PAINTED


def _suspects(grey: Array) -> list[_Line]:
    """Rows of marks, two at least, that could be letters: of a height, side by side, thin and crisp."""
    scale = min(1.0, _SIDE / max(grey.shape))
    copy = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else grey
    found: list[_Line] = []
    while True:
        for marks in _marks(copy):
            lines = _rows(marks) + [line.turned() for line in _rows(marks[:, [1, 0, 3, 2, 4]])]
            found += [line.scaled(1 / scale) for line in lines]
        if max(copy.shape) < 2 * _LEAST_SIDE:
            return found
        copy = cv2.resize(copy, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        scale /= 2


def _marks(grey: Array) -> list[Array]:
    """What is brighter than its surroundings, then what is darker: left, top, width, height, area of each mark."""
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (_STROKE, _STROKE))
    found = []
    for operation in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        contrast = cv2.morphologyEx(grey, operation, kernel)
        least = max(_CONTRAST, _NOISE * float(np.median(contrast[::2, ::2])))
        marks = cv2.connectedComponentsWithStats(cv2.compare(contrast, least, cv2.CMP_GT))[2][1:]
        found.append(marks[marks[:, cv2.CC_STAT_AREA] >= _LEAST_AREA])
    return found


def _rows(marks: Array) -> list[_Line]:
    """Marks that stand side by side and are of about one height, and those that could be a word grown together."""
    left, top, width, height, area = marks.T.astype(np.float32)
    low, full = (height >= _LEAST_HEIGHT) & (height <= _MOST_HEIGHT), area / (width * height)
    alone = low & (width > _WIDEST * height + 4) & (width <= _LONGEST * height) & (full > 0.3) & (full < 0.8)
    lines = [_Line(Box(x, y, x + wide, y + high), high, 2) for x, y, wide, high, _ in marks[alone].tolist()]
    marks = marks[low & (width >= 2) & (width <= _WIDEST * height + 4) & (full >= 0.12)]
    marks = marks[np.argsort(-marks[:, 4])[:_MOST_MARKS]]
    left, top, width, height, area = marks[np.argsort(marks[:, 0])].T.astype(np.float32)
    middle, right, bottom = top + height / 2, left + width, top + height
    gap, taller = left[None] - right[:, None], np.maximum(height[:, None], height[None])
    lower = np.minimum(height[:, None], height[None])
    beside = (gap < 1.2 * taller) & (gap > -0.5 * lower) & (taller < 2 * lower)
    beside &= np.abs(middle[:, None] - middle[None]) < 0.45 * taller
    for group in _connected(np.argwhere(np.triu(beside, 1)), len(left)):
        edges = left[group].min(), top[group].min(), right[group].max(), bottom[group].max()
        box = Box(*(int(edge) for edge in edges))
        lines.append(_Line(box, float(np.median(height[group])), len(group)))
    return [line for line in lines if line.box.bottom - line.box.top < _THICKEST * line.height]


def _connected(pairs: Array, count: int) -> list[list[int]]:
    """Groups of two or more of `count` things that pairs connect."""
    group = {number: [number] for number in range(count)}
    for one, other in pairs.tolist():
        if group[one] is not group[other]:
            group[one] += group[other]
            for number in group[other]:
                group[number] = group[one]
    return [members for number, members in group.items() if len(members) > 1 and members[0] == number]


def _merged(lines: list[_Line]) -> list[_Line]:
    """Lines that touch, their margins included, as one."""
    done: list[_Line] = []
    for line in sorted(lines, key=lambda line: line.box):
        for number, other in enumerate(done):
            if line.touches(other):
                done[number] = other.joined(line)
                break
        else:
            done.append(line)
    return done if len(done) == len(lines) else _merged(done)


def _grey(levels: Array) -> Array:
    """uint8, with room beyond the percentiles: text is often whiter than white."""
    low, high = np.percentile(levels[::3, ::3], (0.1, 99.9))
    room = max(0.1 * float(high - low), 1e-6)
    shown = (np.clip(levels, low - room, high + room) - (low - room)) * (255 / (high - low + 2 * room))
    return np.asarray(shown, np.uint8)


def _read_line(grey: Array, line: _Line) -> list[Box]:
    for height in _READ_HEIGHTS:
        if found := _read(grey, line.place(grey), height / line.height):
            return found
    return []


def _read(grey: Array, place: Box, scale: float) -> list[Box]:
    """The boxes in a place of a film where OCR reads two characters or more. What they are is not kept."""
    scale = min(max(scale, 0.25), 4.0, _LONGEST_SIDE / max(place.of(grey).shape))
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    crop = cv2.resize(place.of(grey), None, fx=scale, fy=scale, interpolation=how)
    crop = cv2.normalize(crop, crop, 0, 255, cv2.NORM_MINMAX)
    image, engine = cv2.cvtColor(crop, cv2.COLOR_GRAY2BGR), _engine()
    with _reading:
        quads = engine.text_det(image)[0]
        if quads is None or not len(quads):
            return []
        strips = engine.get_crop_img_list(image, quads)
        readable = np.array([_is_text(*said) for said in engine.text_rec(strips)[0]])
        turned = [cv2.rotate(strips[number], cv2.ROTATE_180) for number in np.flatnonzero(~readable)]
        if turned:
            readable[~readable] = [_is_text(*said) for said in engine.text_rec(turned)[0]]
    found = []
    for quad in np.asarray(quads)[readable]:
        left, top, right, bottom = (round(edge / scale) for edge in (*quad.min(axis=0), *quad.max(axis=0)))
        if min(right - left, bottom - top) < _LARGEST * max(grey.shape):
            found.append(Box(place.left + left, place.top + top, place.left + right + 1, place.top + bottom + 1))
    return found


def _is_text(text: str, score: float) -> bool:
    letters = sum(letter.isalnum() for letter in text)
    return letters > 1 and float(score) >= (_SURE if letters >= _WORD else _SURER)


@cache
def _engine() -> "RapidOCR":
    from rapidocr_onnxruntime import RapidOCR

    for name in ("RapidOCR", "OrtInferSession"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return RapidOCR(det_limit_side_len=_LEAST_READ, intra_op_num_threads=THREADS, inter_op_num_threads=1)
