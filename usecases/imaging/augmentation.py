"""Training pictures as they might also have been taken: turned, shifted, mirrored, lighter, darker, noisier."""

import math

import torch
from torch import Tensor
from torch.nn import functional

_TURN, _SCALE, _SHIFT = math.radians(8), 0.1, 0.06
_CONTRAST, _BRIGHTNESS, _NOISE = 0.15, 0.1, 0.1


def moved(pictures: Tensor, chance: torch.Generator, masks: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Turn, scale, shift and mirror pictures, shape (n, 1, rows, columns), and masks of any size the same way.

    An opacity is one on either side; upside down no chest is taken.
    """
    rows = len(pictures)

    def drawn() -> Tensor:
        return 2 * torch.rand(rows, generator=chance) - 1

    angle, scale = drawn() * _TURN, 1 + drawn() * _SCALE
    mirror = torch.where(drawn() < 0, -1.0, 1.0)
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    first = torch.stack([cosine * mirror, -sine, drawn() * 2 * _SHIFT], 1)
    second = torch.stack([sine * mirror, cosine, drawn() * 2 * _SHIFT], 1)
    motion = torch.stack([first, second], 1).to(pictures.device)
    return _warped(pictures, motion), None if masks is None else _warped(masks, motion)


def relit(pictures: Tensor, chance: torch.Generator, spread: float = 1.0) -> Tensor:
    """Change contrast, brightness and noise of pictures around 0, shape (n, 1, rows, columns), with that spread."""

    def drawn() -> Tensor:
        return (2 * torch.rand(len(pictures), 1, 1, 1, generator=chance) - 1).to(pictures.device)

    levels = pictures * (1 + drawn() * _CONTRAST) + drawn() * _BRIGHTNESS * spread
    noise = torch.randn(pictures.shape, generator=chance).to(pictures.device)
    return levels + noise * drawn().abs() * _NOISE * spread


def _warped(values: Tensor, motion: Tensor) -> Tensor:
    grid = functional.affine_grid(motion, list(values.shape), align_corners=False)
    return functional.grid_sample(values, grid, align_corners=False, padding_mode="border")
