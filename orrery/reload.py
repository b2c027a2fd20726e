"""Loads a bundle where nothing else was loaded and holds it to its golden answers: `python -m orrery.reload`."""

import importlib
import sys
from pathlib import Path

from orrery.adapters.model_server import check_golden, load_model
from orrery.errors import OrreryError


def main(folder: str, function: str, tolerance: str) -> int:
    """Score the golden rows of the bundle in `folder` by `module:name`. Exit code 0: the same answers, 1: not."""
    module, _, name = function.partition(":")
    try:
        check_golden(load_model(Path(folder)), getattr(importlib.import_module(module), name), float(tolerance))
    except OrreryError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
