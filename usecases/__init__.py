"""Finds the use cases: every folder here with a `serving.py` is one. A broken one stops the start, loudly."""

import importlib
from functools import cache
from pathlib import Path
from typing import TypeVar

from orrery.errors import OrreryError
from orrery.usecase import Serving, Training

Half = TypeVar("Half", Serving, Training)
_HERE = Path(__file__).parent


class UnknownUseCase(OrreryError):
    """No folder of that name."""


class BrokenUseCase(OrreryError):
    """A use case's folder does not say what a use case must say."""


def names() -> list[str]:
    """The use cases there are, in alphabetical order."""
    return sorted(path.parent.name for path in _HERE.glob("*/serving.py"))


def _load(name: str, module: str, kind: type[Half]) -> Half:
    if name not in names():
        raise UnknownUseCase(f"there is no use case {name!r}; there are: {', '.join(names())}")
    try:
        value = getattr(importlib.import_module(f"usecases.{name}.{module}"), module)
    except (ImportError, AttributeError) as error:
        raise BrokenUseCase(f"usecases/{name}/{module}.py: {error}") from error
    if not isinstance(value, kind):
        raise BrokenUseCase(f"usecases/{name}/{module}.py: `{module}` is not a {kind.__name__}")
    return value


@cache
def serving(name: str) -> Serving:
    """The online half of a use case: light imports only."""
    return _load(name, "serving", Serving)


@cache
def training(name: str) -> Training:
    """The offline half of a use case: heavy imports."""
    return _load(name, "training", Training)
