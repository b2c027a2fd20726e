"""Finds the use cases: every folder here with a `serving.py` is one. A broken one stops the start, loudly."""

import importlib
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from orrery.errors import OrreryError
from orrery.usecase import Case, Serving, Training

Half = TypeVar("Half", Serving, Training)
_HERE = Path(__file__).parent
_DECLARED = frozenset({"Entity", "BaseFeatureView", "FeatureService"})


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


def case(name: str) -> Case:
    """The whole use case: heavy imports."""
    return Case(name, training(name), serving(name), feature_views(name))


def feature_views(name: str) -> list[Any]:
    """The Feast entities, views and services at the top of a use case's `feature_views.py`, if it has one."""
    if name not in names():
        raise UnknownUseCase(f"there is no use case {name!r}; there are: {', '.join(names())}")
    if not (_HERE / name / "feature_views.py").is_file():
        return []
    try:
        module = importlib.import_module(f"usecases.{name}.feature_views")
    except ImportError as error:
        raise BrokenUseCase(f"usecases/{name}/feature_views.py: {error}") from error
    return [value for value in vars(module).values() if _is_declaration(value)]


def _is_declaration(value: object) -> bool:
    """Told by name, because whatever serves imports this module and may not import Feast."""
    return any(kind.__module__.startswith("feast.") and kind.__name__ in _DECLARED for kind in type(value).__mro__)
