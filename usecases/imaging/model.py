"""From films to a bundle: find the lungs, classify what is in them, calibrate, and learn what is strange."""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import roc_auc_score

from orrery.building import CHECKPOINTS
from orrery.usecase import Array, Budget, Fitted, Progress, Split
from usecases.imaging import classification, export, fit_plots, segmentation, strangeness, watched
from usecases.imaging.calibration import log_loss, operating_point, sigmoid, temperature
from usecases.imaging.epochs import Course, Plan, first, processes, repeatable
from usecases.imaging.network import CNN, EFFICIENTNET, Classifier, Segmentation, parameters
from usecases.imaging.picture import SIDE, decode
from usecases.imaging.region import boxes, crop
from usecases.imaging.scoring import CENTRES, CLASSIFIER, EMBEDDING, PRECISION, SEGMENTATION, bits, describe
from usecases.imaging.validation import header_auc, subgroups

if TYPE_CHECKING:
    import pandas as pd

LUNGS = "lungs"
_SEGMENTED = 600
"""films are enough to learn where lungs are"""
_SHARES = {LUNGS: 0.15, CNN: 0.35, EFFICIENTNET: 0.5}
"""of the seconds of a budget"""
_STEPS = {CNN: (900, 12, 20), EFFICIENTNET: (360, 6, 8)}
"""steps to take, and the fewest and the most epochs"""
_RATES = {CNN: 4e-3, EFFICIENTNET: 2e-3}
_RESAMPLES = 1_000
_BRIGHT = 0.95
"""quantile of the findings' strongest evidence that is drawn as brightest"""


@dataclass(frozen=True)
class Films:
    """Films as the networks learn from them."""

    pictures: Array
    """uint8, shape (n, 128, 128)"""
    masks: Array | None
    """0..255, likewise; None where there are none"""
    labels: Array

    @classmethod
    def of(cls, rows: "pd.DataFrame") -> "Films":
        """Unpack raw rows."""
        masked = all(len(mask) for mask in rows["mask"])
        masks = np.array([decode(mask) for mask in rows["mask"]]) if masked else None
        pictures = np.array([decode(picture) for picture in rows["picture"]])
        return cls(pictures, masks, rows["label"].to_numpy(np.int64))


@dataclass(frozen=True)
class Seen:
    """Films, where their lungs are, and the regions that are classified."""

    films: Films
    lungs: Array
    regions: Array

    @classmethod
    def of(cls, films: Films, segmenter: Segmentation | None) -> "Seen":
        """As `scoring.score` sees them."""
        shape = films.pictures.shape
        lungs = np.ones(shape, np.float32) if segmenter is None else segmentation.lungs(segmenter, films.pictures)
        return cls(films, lungs, crop(films.pictures, lungs, boxes(lungs), classification.SIDE))


@dataclass(frozen=True)
class Trained:
    """A classifier, and what it says of held-out films."""

    architecture: str
    network: Classifier
    course: Course
    held_out: classification.Answers
    temperature: float
    losses: Array
    """of each held-out film, after calibration"""


@dataclass(frozen=True)
class _Work:
    """What all trainings of a fit share."""

    budget: Budget
    progress: Progress
    folder: Path
    """of the checkpoints"""

    def plan(self, stage: str, epochs: int, rate: float, *data: Array, **options: Any) -> Plan:
        """How to train a network of that stage on the films in `data`."""
        stages = (LUNGS, CNN) if self.budget.trials == 1 else tuple(_SHARES)
        share = _SHARES[stage] / sum(_SHARES[each] for each in stages)
        key = hashlib.sha256(f"{stage} {epochs} {rate} {self.budget} {options}".encode())
        for values in data:
            key.update(np.ascontiguousarray(values).data)
        return Plan(
            films=len(data[0]),
            epochs=epochs,
            rate=rate,
            seed=self.budget.seed,
            seconds=self.budget.seconds * share,
            checkpoint=self.folder / f"{stage}.safetensors",
            key=key.hexdigest(),
            **options,
        )


def fit(split: Split, budget: Budget, progress: Progress, folder: Path) -> Fitted:
    """Train on the last fold's first part, choose and calibrate on its second; labels are those of `split.train`.

    With `budget.trials` 1 there is no transfer learning. `budget.seconds` are shared by the trainings, which slow down
    and end in time. A fit that was killed goes on from the folder `checkpoints` beside `folder`. Under `torchrun` the
    processes train together, and the first writes the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ids = split.train["film_id"]
    rows = [split.train[ids.isin(part["film_id"])] for part in split.folds[-1]]
    work = _Work(budget, progress, folder.with_name(CHECKPOINTS))
    with processes(), repeatable(budget.seed, budget.threads):
        learn, check = map(Films.of, rows)
        segmenter, course = _lungs(learn, check, work)
        known, later = Seen.of(learn, segmenter), Seen.of(check, segmenter)
        wanted = (CNN,) if budget.trials == 1 else (CNN, EFFICIENTNET)
        trained = [_classifier(architecture, known, later, work) for architecture in wanted]
        chosen = better(trained, budget.seed)
        courses = {each.architecture: each.course for each in trained} | ({LUNGS: course} if course else {})
        learned = _learned(chosen, known, later, segmenter, folder if first() else None)
        plots = _plots(chosen, later, courses, folder.with_name("plots")) if first() else {}
        if first():
            shutil.rmtree(work.folder, ignore_errors=True)
    return Fitted(
        folder=folder,
        learned=learned,
        parameters={
            "architecture": chosen.architecture,
            "parameters": parameters(chosen.network),
            "side": learned["side"],
            **{f"epochs_{name}": course.best + 1 for name, course in courses.items()},
        },
        metrics=_figures(trained, courses, check.labels) | _checks(chosen, rows[1], later, learned["operating_point"]),
        plots=plots,
    )


def _lungs(learn: Films, check: Films, work: _Work) -> tuple[Segmentation | None, Course | None]:
    if learn.masks is None or check.masks is None:
        return None, None
    chosen = np.random.default_rng(work.budget.seed).permutation(len(learn.pictures))[:_SEGMENTED]
    pictures, masks = learn.pictures[chosen], learn.masks[chosen]
    plan = work.plan(LUNGS, 14, 1e-2, pictures, masks, batch=16, patience=5, decay=1e-4)
    return segmentation.fit(pictures, masks, (check.pictures, check.masks), plan, work.progress)


def _classifier(architecture: str, known: Seen, later: Seen, work: _Work) -> Trained:
    labels, truth = known.films.labels, later.films.labels
    steps, fewest, most = _STEPS[architecture]
    epochs = int(np.clip(round(32 * steps / len(labels)), fewest, most))
    plan = work.plan(architecture, epochs, _RATES[architecture], known.regions, labels)
    network, course = classification.fit(
        architecture, known.regions, labels, (later.regions, truth), plan, work.progress
    )
    held_out = classification.answers(network, later.regions)
    heat = temperature(held_out.logits, truth)
    return Trained(architecture, network, course, held_out, heat, log_loss(held_out.logits / heat, truth))


def better(trained: list[Trained], seed: int) -> Trained:
    """The first, unless a later one's calibrated loss on held-out films is less beyond the paired 95 % interval."""
    chosen = trained[0]
    for other in trained[1:]:
        gains = chosen.losses - other.losses
        drawn = np.random.default_rng(seed).integers(len(gains), size=(_RESAMPLES, len(gains)))
        if np.quantile(gains[drawn].mean(axis=1), 0.025) > 0:
            chosen = other
    return chosen


def _learned(
    chosen: Trained, known: Seen, later: Seen, segmenter: Segmentation | None, folder: Path | None
) -> Mapping[str, Any]:
    """What scoring must know beside the graphs; the bundle's files go to `folder`, if any."""
    labels, cams = later.films.labels, chosen.held_out.cams
    probability = sigmoid(chosen.held_out.logits / chosen.temperature)
    pooled = classification.answers(chosen.network, known.regions).pooled
    strange = strangeness.learn(
        describe(known.films.pictures, known.lungs, pooled),
        known.films.labels,
        describe(later.films.pictures, later.lungs, chosen.held_out.pooled),
        bits(probability),
    )
    if folder is not None:
        export.write(chosen.network, CLASSIFIER, classification.SIDE, ("logits", "cams", "pooled"), folder)
        if segmenter is not None:
            export.write(segmenter, SEGMENTATION, SIDE, ("lungs",), folder)
        np.save(folder / CENTRES, strange.centres)
        np.save(folder / PRECISION, strange.precision)
        np.save(folder / EMBEDDING, watched.directions(pooled))
    return {
        "architecture": chosen.architecture,
        "region": "whole" if segmenter is None else "lungs",
        "side": classification.SIDE,
        "temperature": chosen.temperature,
        "operating_point": operating_point(probability, labels),
        "brightest": max(float(np.quantile(cams[labels == 1].max(axis=(1, 2)), _BRIGHT)), 1e-6),
        "doubt_weight": strange.doubt_weight,
        "strangeness_limit": strange.limit,
    }


def _plots(chosen: Trained, later: Seen, courses: Mapping[str, Course], folder: Path) -> Mapping[str, Path]:
    folder.mkdir(exist_ok=True)
    labels, probability = later.films.labels, sigmoid(chosen.held_out.logits / chosen.temperature)
    return {
        "learning_curves": fit_plots.learning_curves(courses, folder / "learning_curves.png"),
        "validation_calibration": fit_plots.calibration(probability, labels, folder / "validation_calibration.png"),
        "randomised_weights": fit_plots.randomised(
            chosen.network, later.regions, labels, folder / "randomised_weights.png"
        ),
    }


def _figures(trained: list[Trained], courses: Mapping[str, Course], labels: Array) -> dict[str, float]:
    found = {f"seconds_{name}": course.seconds for name, course in courses.items()}
    for each in trained:
        found[f"validation_auc_{each.architecture}"] = float(roc_auc_score(labels, each.held_out.logits))
        found[f"validation_loss_{each.architecture}"] = float(each.losses.mean())
    if LUNGS in courses:
        found["validation_dice"] = 1 - courses[LUNGS].held_out[courses[LUNGS].best]
    return found


def _checks(chosen: Trained, rows: "pd.DataFrame", later: Seen, point: float) -> dict[str, float]:
    """On held-out films: by subgroup, by the header alone, and how much maps of random weights are like the trained."""
    probability = sigmoid(chosen.held_out.logits / chosen.temperature)
    groups = subgroups(rows, {"probability": probability, "margin": probability - point})
    ill = later.films.labels == 1
    random = classification.answers(fit_plots.shaken(chosen.network), later.regions[ill])
    found = {f"validation_auc_{name.replace(' ', '_')}": group.auc for name, group in groups.items()}
    found["validation_auc_header_alone"] = header_auc(rows)
    found["randomised_map_similarity"] = fit_plots.similarity(chosen.held_out.cams[ill], random.cams)
    return {name: value for name, value in found.items() if np.isfinite(value)}
