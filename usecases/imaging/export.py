"""Networks as files of a bundle: a graph for ONNX Runtime, weights for PyTorch."""

import warnings
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from usecases.imaging.network import weights_of

_OPSET = 17


def write(network: nn.Module, file: str, side: int, outputs: tuple[str, ...], folder: Path) -> None:
    """Write `file`, a graph from (n, 1, side, side) to `outputs`, and the same network's weights beside it."""
    network = network.cpu().eval()
    example = torch.zeros(2, 1, side, side)
    with warnings.catch_warnings(), torch.inference_mode(mode=False):
        warnings.simplefilter("ignore")  # the newer exporter needs a package more for the same graph
        torch.onnx.export(
            network,
            (example,),
            str(folder / file),
            dynamo=False,
            opset_version=_OPSET,
            input_names=["pictures"],
            output_names=list(outputs),
            dynamic_axes={name: {0: "films"} for name in ("pictures", *outputs)},
        )
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / weights_of(file))
