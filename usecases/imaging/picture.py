"""What models see of a film: 128 x 128 grey levels, however large it was and whatever its levels meant."""

import io

import numpy as np
from PIL import Image

from orrery.errors import OrreryError
from orrery.usecase import Array

SIDE = 128
_DARKEST, _BRIGHTEST = 0.5, 99.5
"""percentiles of the levels that become 0 and 255: a marker or a dead pixel must not set the window"""
_NARROWEST = 1e-3
"""of the levels' range"""


class PictureRefused(OrreryError, ValueError):
    """The bytes are no grey PNG of 128 x 128."""


def to_picture(pixels: Array) -> Array:
    """Levels of shape (rows, columns), bright is dense -> uint8 of shape (128, 128).

    Padded to a square with its darkest level, averaged over areas, windowed by percentiles.
    """
    rows, columns = pixels.shape
    levels = np.full((max(rows, columns),) * 2, pixels.min(), dtype=np.float32)
    top, left = _offsets(rows, columns)
    levels[top : top + rows, left : left + columns] = pixels
    small = np.asarray(Image.fromarray(levels).resize((SIDE, SIDE), Image.Resampling.BOX))
    low, high = np.percentile(small, (_DARKEST, _BRIGHTEST))
    # a window much narrower than the levels' range would show nothing but rounding
    scaled = (small - low) / max(high - low, np.ptp(small) * _NARROWEST, np.finfo(np.float32).tiny)
    return np.asarray(np.rint(np.clip(scaled, 0, 1) * 255), dtype=np.uint8)


def restore(small: Array, rows: int, columns: int) -> Array:
    """A mask or map of shape (128, 128), uint8, in the place and size of its film: shape (rows, columns)."""
    side = max(rows, columns)
    large = np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.NEAREST))
    top, left = _offsets(rows, columns)
    return large[top : top + rows, left : left + columns]


def encode(picture: Array) -> bytes:
    """A picture or mask, uint8, as PNG."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def decode(data: bytes) -> Array:
    """A PNG as uint8 of shape (128, 128). Raises PictureRefused; the size is looked at before anything is unpacked."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            fits = image.size == (SIDE, SIDE) and image.mode in {"L", "1"}
            picture = np.asarray(image.convert("L")) if fits else None
    except (OSError, SyntaxError, ValueError) as error:
        raise PictureRefused("the picture is no PNG that can be read; send the DICOM file instead") from error
    if picture is None:
        raise PictureRefused(f"a picture is a grey PNG of {SIDE} x {SIDE}; send the DICOM file instead")
    return picture


def _offsets(rows: int, columns: int) -> tuple[int, int]:
    side = max(rows, columns)
    return (side - rows) // 2, (side - columns) // 2
