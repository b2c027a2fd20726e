"""Pictures of a training: how it went, how its probabilities came out, whether its maps show what it learned."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from orrery.usecase import Array
from usecases.imaging.calibration import BINS, calibration_error
from usecases.imaging.classification import answers
from usecases.imaging.epochs import Course

_BLUE, _RED, _INK, _PALE = "#4a7fb5", "#c8503c", "#30343b", "#d9dde3"
_SHOWN = 6


def learning_curves(courses: Mapping[str, Course], path: Path) -> Path:
    """Loss on training and held-out films after each epoch, a panel a network."""
    figure = Figure(figsize=(4.2 * len(courses), 3.6), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(courses)))
    for axes, (name, course) in zip(panels, courses.items(), strict=True):
        epochs = np.arange(1, len(course.losses) + 1)
        axes.plot(epochs, course.losses, color=_BLUE, label="training")
        axes.plot(epochs, course.held_out, color=_RED, label="held out")
        axes.plot(course.best + 1, course.held_out[course.best], "o", color=_RED)
        axes.set(title=name, xlabel="epoch", ylabel="loss", yscale="log")
        axes.legend(frameon=False)
    return save(figure, path)


def calibration(probability: Array, labels: Array, path: Path) -> Path:
    """Share of findings by probability, in the bins of the calibration error."""
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.subplots()
    reliability(axes, probability, labels)
    return save(figure, path)


def reliability(axes: Any, probability: Array, labels: Array) -> None:
    """Draw a reliability diagram."""
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    filled = counts > 0
    said = np.bincount(bins, probability, minlength=BINS)[filled] / counts[filled]
    true = np.bincount(bins, labels, minlength=BINS)[filled] / counts[filled]
    error = calibration_error(probability, labels, np.ones(len(labels)))
    axes.plot([0, 1], [0, 1], color=_PALE)
    axes.scatter(said, true, s=10 + 200 * counts[filled] / len(labels), color=_BLUE)
    axes.set(title=f"Calibration, ECE {error:.3f}", xlabel="probability", ylabel="share of findings")


def randomised(network: nn.Module, regions: Array, labels: Array, path: Path) -> Path:
    """Grad-CAM by the trained network, and by one whose head and last layers are random (Adebayo et al. 2018)."""
    shown = np.flatnonzero(labels == 1)[:_SHOWN]
    maps = [answers(each, regions[shown]).cams for each in (network, shaken(network))]
    figure = Figure(figsize=(1.8 * _SHOWN, 5.8), layout="constrained")
    panels = figure.subplots(3, _SHOWN, squeeze=False)
    for column, film in enumerate(shown):
        panels[0][column].imshow(regions[film], cmap="gray")
        for row, heat in enumerate((maps[0][column], maps[1][column]), 1):
            panels[row][column].imshow(heat, cmap="inferno")
    for axes in panels.ravel():
        axes.set_axis_off()
    figure.suptitle(f"Film, trained, randomised; correlation of the maps {similarity(*maps):.2f}", color=_INK)
    return save(figure, path)


def shaken(network: nn.Module) -> nn.Module:
    """The network with random weights in the layers that have some."""
    other = copy.deepcopy(network)
    torch.manual_seed(0)
    for module in other.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()
    return other


def similarity(one: Array, other: Array) -> float:
    """The mean correlation of maps, shape (n, rows, columns); a map without contrast correlates with none."""

    def standard(maps: Array) -> Array:
        flat = maps.reshape(len(maps), -1).astype(np.float64)
        centred = flat - flat.mean(axis=1, keepdims=True)
        scaled: Array = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
        return scaled

    return float((standard(one) * standard(other)).sum(axis=1).mean()) if len(one) else 0.0


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG."""
    figure.savefig(path, dpi=130)
    return path
