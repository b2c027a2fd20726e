import logging
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from usecases.imaging import burned_in
from usecases.imaging.burned_in import Box
from usecases.imaging.phantom import draw


def chest(seed: int, side: int | None = None) -> np.ndarray:
    """A film in 12 bits, enlarged to a longer side if that is given, with the noise of its new size."""
    levels = draw(seed).pixels
    if side:
        factor = side / max(levels.shape)
        levels = cv2.resize(levels, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        levels = levels + 0.01 * np.random.default_rng(seed).standard_normal(levels.shape, dtype=np.float32)
    return np.rint(np.clip(levels, 0, 1) * 3500 + 200).astype(np.uint16)


def labelled(
    film: np.ndarray, text: str, place: tuple[int, int], size: int, ink: int = 4095, turns: int = 0
) -> np.ndarray:
    """The film with a text in it, by quarter turns."""
    font = ImageFont.load_default(size)
    left, top, right, bottom = (round(edge) for edge in font.getbbox(text))
    stamp = Image.new("L", (right - left + 2, bottom - top + 2))
    ImageDraw.Draw(stamp).text((1 - left, 1 - top), text, font=font, fill=255)
    share = np.rot90(np.asarray(stamp) / 255, turns)
    down, across = place[0] + share.shape[0], place[1] + share.shape[1]
    result = film.copy()
    under = result[place[0] : down, place[1] : across]
    result[place[0] : down, place[1] : across] = under * (1 - share) + ink * share
    return result


def redacted(film: np.ndarray) -> tuple[np.ndarray, list[Box]]:
    boxes = burned_in.find(film.astype(np.float32))
    return burned_in.redact(film, boxes), boxes


CASES = [
    (None, "DOE^JOHN", (20, 30), 12, 4095, 0),
    (None, "MRN 4711-0815", (200, 40), 14, 4095, 0),
    (None, "1961-03-12", (10, 10), 18, 0, 0),
    (None, "St. Mary Hosp", (120, 60), 12, 0, 0),
    (None, "Garcia Lopez", (40, 8), 14, 4095, 1),
    (1024, "Smith, Anna", (30, 600), 16, 4095, 0),
    (1024, "ID:88231", (600, 500), 40, 0, 0),
    (1024, "12/03/1961 10:11", (40, 960), 24, 4095, 3),
    (2048, "PORTABLE AP", (1200, 200), 20, 4095, 0),
    (2048, "Mueller, Hans", (60, 80), 72, 4095, 0),
]


@pytest.mark.parametrize(("side", "text", "place", "size", "ink", "turns"), CASES)
def test_text_is_found_and_painted_over(
    side: int | None, text: str, place: tuple[int, int], size: int, ink: int, turns: int
) -> None:
    film = chest(41, side)
    with_text = labelled(film, text, place, size, ink, turns)
    clean, boxes = redacted(with_text)
    written = np.abs(with_text.astype(int) - film) > 300
    assert written.sum() > 50
    assert (clean != with_text)[written].mean() > 0.97
    assert (clean != with_text).mean() < 0.1
    assert not burned_in.find(clean.astype(np.float32), thorough=True)
    assert boxes


def test_a_block_of_lines_goes_as_a_whole() -> None:
    film = chest(5)
    with_text = film.copy()
    for row, line in enumerate(("NOVAK TOMAS", "3229299", "DOB 1979-08-30", "06/05/2024 07:08")):
        with_text = labelled(with_text, line, (10 + 18 * row, 8), 14)
    clean, _ = redacted(with_text)
    written = np.abs(with_text.astype(int) - film) > 300
    assert (clean != with_text)[written].mean() > 0.97


def test_films_without_text_are_left_alone() -> None:
    for seed in range(50, 62):
        side = (None, 1024, 2048)[seed % 3]
        assert not burned_in.find(chest(seed, side).astype(np.float32)), seed
    assert not burned_in.find(chest(63).astype(np.float32), thorough=True)


def test_the_marker_of_a_side_stays() -> None:
    for letter in "LR":
        film = labelled(chest(7, 1024), letter, (60, 60), 60)
        assert not burned_in.find(film.astype(np.float32), thorough=True)


def test_noise_and_constant_films_have_no_text() -> None:
    noise = np.random.default_rng(2).normal(0, 1, (300, 300)).astype(np.float32)
    assert not burned_in.find(noise)
    assert not burned_in.find(np.ones((64, 6000), np.float32))


def test_redaction_takes_the_level_around() -> None:
    film = np.full((40, 60), 100, np.int16)
    film[10:20, 20:30] = 900
    film[30:, :] = 7
    box = Box(20, 10, 30, 20)
    painted = burned_in.redact(film, [box])
    assert painted.dtype == film.dtype
    assert (painted[:30] == 100).all()
    assert (film[10:20, 20:30] == 900).all(), "the film itself is not touched"
    assert (burned_in.redact(film, [Box(0, 0, 60, 40)]) == 100).any()


def test_boxes_over_most_of_a_film_are_too_much() -> None:
    film = np.zeros((100, 100))
    assert not burned_in.too_much(film, [])
    assert not burned_in.too_much(film, [Box(0, 0, 100, 30), Box(0, 0, 100, 30)])
    assert burned_in.too_much(film, [Box(0, 0, 100, 30), Box(0, 60, 100, 90)])


def test_threads_agree_and_nothing_that_was_read_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    film = labelled(chest(41), "DOE^JOHN", (20, 30), 14).astype(np.float32)
    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(burned_in.find, [film] * 3)
    assert first
    assert all(other == first for other in others)
    assert not [record for record in caplog.records if "DOE" in record.getMessage() or "JOHN" in record.getMessage()]
