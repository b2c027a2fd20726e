"""What TorchServe calls: one handler for the bundles of every use case. It logs nothing of what a request holds."""

import importlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
import torch

import usecases
from orrery.adapters.array_bytes import BytesRefused, outputs_to_bytes, rows_from_bytes
from orrery.adapters.model_server import check_golden
from orrery.adapters.torch_archive import FOLDER
from orrery.adapters.torch_model import TorchModel, load_torch_model
from orrery.bundle import Bundle
from orrery.settings import settings
from orrery.usecase import Array, Outputs, Serving

logger = logging.getLogger(__name__)
_loaded: "list[Loaded]" = []
"""what this process serves: TorchServe starts one for each version"""


@dataclass(frozen=True)
class Loaded:
    """A bundle that answers here as it answered where it was trained."""

    serving: Serving
    model: TorchModel

    @property
    def inputs(self) -> int:
        """How many numbers a row has."""
        return len(self.model.manifest.golden.inputs[0])

    def score(self, parts: Sequence[Array]) -> list[Outputs]:
        """Score the rows of several requests at once; gives each request its own."""
        outputs = self.serving.score(self.model, np.concatenate(parts))
        ends = np.cumsum([len(part) for part in parts])[:-1]
        pieces = {name: np.split(np.asarray(values), ends) for name, values in outputs.items()}
        return [{name: values[number] for name, values in pieces.items()} for number in range(len(parts))]


def load(folder: Path) -> Loaded:
    """Verify the bundle in `folder`, build its modules and hold it to its golden rows. Raises BundleRefused."""
    bundle = Bundle.open(folder)
    serving = usecases.serving(bundle.manifest.use_case)
    network = importlib.import_module(f"usecases.{bundle.manifest.use_case}.network")
    model = load_torch_model(bundle, network.modules(bundle))
    check_golden(model, serving.score, serving.tolerance)
    return Loaded(serving, model)


def handle(requests: Sequence[Mapping[str, Any]] | None, context: Any) -> list[bytes]:
    """TorchServe's entry: without requests load what lies in the archive, with them give one answer each."""
    if requests is None:
        torch.set_num_threads(settings().torchserve.threads)
        _loaded[:] = [load(Path(context.system_properties["model_dir"]) / FOLDER)]
        logger.info("a bundle of %s answers, on %s", context.model_name, _loaded[0].model.device)
        logging.getLogger().setLevel(logging.WARNING)  # TorchServe's worker has a line for every request
        return []
    return answers(_loaded[0], requests, context)


def answers(loaded: Loaded, requests: Sequence[Mapping[str, Any]], context: Any) -> list[bytes]:
    """The outputs of each request as .npz. A body that is no rows is refused, and harms no request beside it."""
    written, rows = [b""] * len(requests), {}
    for number, request in enumerate(requests):
        try:
            rows[number] = rows_from_bytes(bytes(request.get("body") or b""), loaded.inputs)
        except BytesRefused as error:
            context.set_response_status(HTTPStatus.BAD_REQUEST, "not rows of inputs", number)
            written[number] = str(error).encode()
    for number, outputs in zip(rows, loaded.score(list(rows.values())) if rows else (), strict=True):
        context.set_response_content_type(number, "application/octet-stream")
        context.set_response_header(number, "x-device", loaded.model.device)
        written[number] = outputs_to_bytes(outputs)
    return written
