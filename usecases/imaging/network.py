"""The two networks of imaging: one finds the lungs, one says whether there is an opacity and where it looked."""

import math
from collections.abc import Mapping

import torch
from efficientnet_lite_pytorch import EfficientNet
from monai.networks.nets import UNet
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from orrery.bundle import Bundle
from usecases.imaging.scoring import CLASSIFIER, SEGMENTATION

CNN, EFFICIENTNET = "cnn", "efficientnet"
MIDDLE, SPREAD = 128.0, 64.0
"""of a picture's levels"""
_CHANNELS = (8, 16, 32, 64)
_WIDTH = 16
_BLOCKS, _BLOCK_CHANNELS = 11, 112
"""of EfficientNet-Lite0, those at a sixteenth of the side: deeper ones see too little of a small picture"""


class Segmentation(nn.Module):
    """MONAI's U-Net on half the side. Pictures (n, 1, 128, 128) of 0..255 -> lung probabilities (n, 128, 128)."""

    def __init__(self) -> None:
        super().__init__()
        strides = (2,) * (len(_CHANNELS) - 1)
        self.unet = UNet(2, 1, 1, _CHANNELS, strides, num_res_units=0, norm="BATCH", act="RELU")

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """In training also the logits at half the side, shape (n, 1, 64, 64)."""
        logits = self.unet((functional.avg_pool2d(pictures, 2) - MIDDLE) / SPREAD)
        large = functional.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
        lungs = torch.sigmoid(large)[:, 0]
        return (lungs, logits) if self.training else (lungs,)


class Classifier(nn.Module):
    """Features, their means and maxima, a linear head.

    The gradient of a mean or a maximum sums to one over the places, so Grad-CAM is the sum of the features weighted by
    the head, and needs no gradient.

    Regions (n, 1, side, side), in standard units -> logits (n,), Grad-CAM (n, rows, columns) >= 0, and pooled features
    (n, channels).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.head = nn.Linear(2 * channels, 1)

    def features(self, regions: Tensor) -> Tensor:
        """The last feature maps, shape (n, channels, rows, columns)."""
        raise NotImplementedError

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.features(regions)
        pooled = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)
        weights = self.head.weight[0].reshape(2, -1).sum(0)
        cams = functional.relu((maps * weights[:, None, None]).sum(1))
        return self.head(functional.dropout(pooled, 0.2, self.training))[:, 0], cams, pooled


class Cnn(Classifier):
    """A small network, from scratch."""

    def __init__(self) -> None:
        super().__init__(4 * _WIDTH)
        width = _WIDTH
        self.layers = nn.Sequential(
            _convolution(1, width, 5, stride=2),
            _convolution(width, 2 * width),
            nn.MaxPool2d(2),
            _convolution(2 * width, 4 * width),
            nn.MaxPool2d(2),
            _convolution(4 * width, 4 * width),
        )

    def features(self, regions: Tensor) -> Tensor:
        maps: Tensor = self.layers(regions)
        return maps


class Efficient(Classifier):
    """The first blocks of EfficientNet-Lite0; `transfer.pretrained` gives them the weights of ImageNet."""

    def __init__(self) -> None:
        super().__init__(_BLOCK_CHANNELS)
        whole = EfficientNet.from_name("efficientnet-lite0")
        self.stem = nn.Sequential(whole._conv_stem, whole._bn0, nn.ReLU6(inplace=True))
        self.blocks = nn.ModuleList(whole._blocks[:_BLOCKS])

    def features(self, regions: Tensor) -> Tensor:
        maps: Tensor = self.stem(regions.expand(-1, 3, -1, -1))
        for block in self.blocks:
            maps = block(maps)
        return maps


def _convolution(channels: int, wanted: int, size: int = 3, stride: int = 1) -> nn.Module:
    convolution = nn.Conv2d(channels, wanted, size, stride, size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(wanted), nn.ReLU(inplace=True))


def classifier(architecture: str) -> Classifier:
    """An untrained classifier: `cnn` or `efficientnet`."""
    return Cnn() if architecture == CNN else Efficient()


def modules(bundle: Bundle) -> Mapping[str, nn.Module]:
    """The networks of a bundle by the graphs they are twins of, ready to answer. No code comes out of the bundle."""
    learned = bundle.manifest.learned
    made: dict[str, nn.Module] = {CLASSIFIER: classifier(learned["architecture"])}
    if learned["region"] == "lungs":
        made[SEGMENTATION] = Segmentation()
    for file, network in made.items():
        network.load_state_dict(load_file(bundle.folder / weights_of(file)))
        network.eval()
    return made


def weights_of(graph: str) -> str:
    """The file that has the weights of a graph for PyTorch."""
    return graph.replace(".onnx", ".safetensors")


def parameters(network: nn.Module) -> int:
    """How many numbers it learns."""
    return sum(math.prod(each.shape) for each in network.parameters())
