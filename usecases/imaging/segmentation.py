"""Finding the lungs: a small U-Net, trained on Dice and cross-entropy."""

import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn
from torch.nn import functional

from orrery.usecase import Array, Progress
from usecases.imaging.augmentation import moved, relit
from usecases.imaging.epochs import Course, Plan, train
from usecases.imaging.network import MIDDLE, SPREAD, Segmentation

_AT_ONCE = 100
_INSIDE = 127
"""of 0..255, where a mask says lung"""


def fit(
    pictures: Array, masks: Array, held_out: tuple[Array, Array], plan: Plan, progress: Progress
) -> tuple[Segmentation, Course]:
    """Learn from pictures, uint8 of shape (n, 128, 128), and masks, 0..255, likewise; stop by held-out Dice."""
    torch.manual_seed(plan.seed)
    network, dice_and_entropy = Segmentation().to(device()), DiceCELoss(sigmoid=True)
    inputs, wanted = tensor(pictures), functional.avg_pool2d(tensor(masks) / 255, 2)
    later, later_wanted = tensor(held_out[0]), tensor(held_out[1])[:, 0] > _INSIDE

    def loss(wrapped: nn.Module, batch: Tensor, chance: torch.Generator) -> Tensor:
        seen, truth = moved(inputs[batch] - MIDDLE, chance, wanted[batch])
        logits = wrapped(relit(seen, chance, SPREAD) + MIDDLE)[1]
        value: Tensor = dice_and_entropy(logits.float(), truth)
        return value

    def judge(current: nn.Module) -> tuple[float, str]:
        found = torch.cat([current(part)[0] for part in torch.split(later, _AT_ONCE)]) > 0.5
        both, sizes = (found & later_wanted).sum((1, 2)), found.sum((1, 2)) + later_wanted.sum((1, 2))
        mean = float((2 * both / sizes.clamp(min=1)).mean())
        return 1 - mean, f"Dice {mean:.4f}"

    return network, train(network, plan, loss, judge, progress, "lungs")


def tensor(values: Array) -> Tensor:
    """Pictures (n, rows, columns) as the networks take them: float32 (n, 1, rows, columns)."""
    return torch.from_numpy(values).float()[:, None].to(device())


def device() -> torch.device:
    """Where models are trained: on the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def lungs(network: Segmentation, pictures: Array) -> Array:
    """Lung probabilities of pictures, shape (n, 128, 128)."""
    with torch.inference_mode():
        found = [network(part)[0] for part in torch.split(tensor(pictures), _AT_ONCE)]
        return torch.cat(found).float().cpu().numpy()
