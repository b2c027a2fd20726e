"""Saying whether there is an opacity: a network from scratch, or one that has seen ImageNet, trained alike."""

from dataclasses import dataclass

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from orrery.usecase import Array, Progress
from usecases.imaging.augmentation import moved, relit
from usecases.imaging.calibration import log_loss, temperature
from usecases.imaging.epochs import Course, Plan, train
from usecases.imaging.network import CNN, Classifier, classifier
from usecases.imaging.segmentation import device, tensor
from usecases.imaging.transfer import pretrained

SIDE = 80
"""of the regions that are classified"""
_AT_ONCE = 128


@dataclass(frozen=True)
class Answers:
    """What a classifier says of n films."""

    logits: Array
    cams: Array
    pooled: Array


def fit(
    architecture: str, regions: Array, labels: Array, held_out: tuple[Array, Array], plan: Plan, progress: Progress
) -> tuple[Classifier, Course]:
    """Learn from regions, shape (n, side, side), and labels, shape (n,); stop by the held-out loss once calibrated."""
    torch.manual_seed(plan.seed)
    network = classifier(CNN) if architecture == CNN else pretrained()
    network = network.to(device(), memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast
    inputs, wanted = tensor(regions), torch.from_numpy(labels).float().to(device())
    later, later_wanted = held_out[0], held_out[1]

    def loss(wrapped: nn.Module, batch: Tensor, chance: torch.Generator) -> Tensor:
        seen, _ = moved(inputs[batch], chance)
        logits = wrapped(relit(seen, chance).contiguous(memory_format=torch.channels_last))[0]
        return functional.binary_cross_entropy_with_logits(logits.float(), wanted[batch])

    def judge(current: nn.Module) -> tuple[float, str]:
        logits = answers(current, later).logits
        mean = float(log_loss(logits / temperature(logits, later_wanted), later_wanted).mean())
        return mean, f"AUC {roc_auc_score(later_wanted, logits):.4f}, loss {mean:.4f}"

    return network, train(network, plan, loss, judge, progress, architecture)


def answers(network: nn.Module, regions: Array) -> Answers:
    """What a network says of regions, shape (n, side, side)."""
    with torch.inference_mode():
        found = [network(part) for part in torch.split(tensor(regions), _AT_ONCE)]
    logits, cams, pooled = (torch.cat(parts).float().cpu().numpy() for parts in zip(*found, strict=True))
    return Answers(logits, cams, pooled)
