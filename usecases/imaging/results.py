"""What an answer looks like: lungs and what the model looked at, on the film; and the films kept for that."""

import base64
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from orrery.errors import TransientError
from orrery.usecase import Array
from usecases.imaging.picture import decode, encode, restore

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


class FilmNotKept(TransientError):
    """A film cannot be written to the disk now."""


BANNER = "RESEARCH USE ONLY"
_LARGEST = 1024
"""pixels a side of an overlay"""
_LUNGS, _HEAT, _INK = (64, 200, 255), (255, 96, 0), (255, 255, 255)
_MOST_HEAT = 0.55
_BANNER_SHARE = 0.07


class Films:
    """De-identified films in a folder, for its owner's eyes only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def keep(self, film_id: str, dataset: "Dataset") -> None:
        """Write a film whole or not at all; the same film again stays as it is. Raises FilmNotKept."""
        path, fresh = self._path(film_id), self._folder / f".{film_id}.{os.urandom(6).hex()}"
        if path.exists():
            return
        content = io.BytesIO()
        dataset.save_as(content, enforce_file_format=True)
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except OSError as error:
            raise FilmNotKept("a film cannot be kept now; is the disk full?") from error
        finally:
            fresh.unlink(missing_ok=True)

    def header(self, film_id: str) -> "Dataset | None":
        """What is said of a film, without its pixels. None if it is not kept."""
        from pydicom import dcmread

        path = self._path(film_id)
        if not path.exists():
            return None
        dataset = dcmread(path, stop_before_pixels=True)
        dataset.PatientName = ""  # the identifier is the pseudonym; as a name it would want parts (PS3.5 6.2.1)
        return dataset

    def levels(self, film_id: str) -> Array | None:
        """The film's levels, float32 of shape (rows, columns), bright is dense. None if it is not kept."""
        from usecases.imaging import dicom

        path = self._path(film_id)
        return dicom.pixels(dicom.read(path.read_bytes())) if path.exists() else None

    def _path(self, film_id: str) -> Path:
        return self._folder / f"{film_id}.dcm"


def shown(answer: Mapping[str, Any], name: str) -> Array | None:
    """The mask or cam of an answer, uint8 of shape (128, 128), if it has one."""
    text = answer.get(name)
    return decode(base64.b64decode(text)) if text else None


def overlay(levels: Array, mask: Array | None, cam: Array | None) -> bytes:
    """A PNG of the film in its own size, at most 1024 a side: lungs outlined, heat where the model looked, a banner.

    `levels` is float32 or uint8 of shape (rows, columns); `mask` and `cam` are of shape (128, 128).
    """
    film = _visible(levels)
    if cam is not None:
        heat = _placed(cam, film).point([round(_MOST_HEAT * level) for level in range(256)])
        film.paste(_HEAT, mask=heat)
    if mask is not None:
        film.paste(_LUNGS, mask=_outline(_placed(mask, film)))
    _stamp(film)
    content = io.BytesIO()
    film.save(content, "PNG", compress_level=1)
    return content.getvalue()


def fitted(small: Array, header: "Dataset | None") -> bytes:
    """A PNG of a mask or cam: in the size of its film, or 128 x 128 where there is none."""
    return encode(small if header is None else restore(small, header.Rows, header.Columns))


def _visible(levels: Array) -> Image.Image:
    """The film in a window by percentiles, as its picture is: a marker or a dead pixel does not set it."""
    film = Image.fromarray(np.asarray(levels, dtype=np.float32))
    film.thumbnail((_LARGEST, _LARGEST), Image.Resampling.BOX)
    small = np.asarray(film)
    low, high = np.percentile(small, (0.5, 99.5))
    scaled = np.clip((small - low) / max(float(high - low), 1e-6), 0, 1) * 255
    return Image.fromarray(np.asarray(np.rint(scaled), dtype=np.uint8)).convert("RGB")


def _placed(small: Array, film: Image.Image) -> Image.Image:
    """A map of the picture in its place on the film, without its steps."""
    placed = Image.fromarray(restore(small, film.height, film.width))
    return placed.filter(ImageFilter.GaussianBlur(max(film.size) / 200))


def _outline(lungs: Image.Image) -> Image.Image:
    inside = lungs.point([0] * 128 + [255] * 128)
    width = 1 + 2 * max(1, max(lungs.size) // 512)
    return ImageChops.subtract(inside, inside.filter(ImageFilter.MinFilter(width)))


def _stamp(film: Image.Image) -> None:
    """The banner, along the lower edge."""
    height = max(10, round(_BANNER_SHARE * min(film.size)))
    draw = ImageDraw.Draw(film)
    draw.rectangle((0, film.height - height, film.width, film.height), fill=(0, 0, 0))
    size = 0.7 * height
    while size > 5 and draw.textlength(BANNER, ImageFont.load_default(size)) > 0.96 * film.width:
        size *= 0.9
    middle = (film.width / 2, film.height - height / 2)
    draw.text(middle, BANNER, fill=_INK, font=ImageFont.load_default(size), anchor="mm")
