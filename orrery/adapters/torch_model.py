"""Runs a verified bundle by PyTorch: what graphs are to ONNX Runtime, modules are here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch

from orrery.adapters.model_server import LoadedModel, load_array
from orrery.bundle import Bundle
from orrery.usecase import Array


@dataclass(frozen=True)
class TorchModel(LoadedModel):
    """A `Model` whose graphs are modules, in the memory of one device."""

    modules: Mapping[str, torch.nn.Module] = field(default_factory=dict)
    """file of the graph -> what computes the same: rows in, a tensor or a tuple of tensors out"""
    place: str = "cpu"

    @cached_property
    def device(self) -> str:
        """What its modules run on: cpu, cuda."""
        return self.place

    def run(self, file: str, inputs: Array) -> list[Array]:
        """Run the module of the graph in `file` on rows of float32, shape (n, inputs); an array of n rows an output."""
        with torch.inference_mode():
            outputs = self.modules[file](torch.tensor(inputs, dtype=torch.float32, device=self.place))
            each = outputs if isinstance(outputs, tuple) else (outputs,)
            return [tensor.cpu().numpy() for tensor in each]


def load_torch_model(bundle: Bundle, modules: Mapping[str, torch.nn.Module]) -> TorchModel:
    """Make a model of a verified bundle and its modules, on a GPU where there is one, only for answers."""
    # a GPU's shortened float32 is off by more than the twin may be
    torch.backends.cudnn.allow_tf32 = False
    place = "cuda" if torch.cuda.is_available() else "cpu"
    placed = {file: module.to(place).eval() for file, module in modules.items()}
    arrays = {name: load_array(bundle.folder / name) for name in bundle.manifest.files if name.endswith(".npy")}
    return TorchModel(bundle=bundle, sessions={}, arrays=arrays, modules=placed, place=place)
