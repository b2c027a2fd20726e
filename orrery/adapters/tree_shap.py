"""TreeSHAP through LightGBM's C interface: its Python package would bring pandas and scikit-learn into the gateway."""

import ctypes
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from orrery.bundle import BundleRefused
from orrery.errors import OrreryError
from orrery.usecase import Array

_FLOAT32, _ROW_MAJOR, _CONTRIBUTIONS, _ALL = 0, 1, 3, -1


class NoLightGbm(OrreryError):
    """The LightGBM library is not installed."""


@cache
def _library() -> ctypes.CDLL:
    found = find_spec("lightgbm")
    folders = found.submodule_search_locations if found else None
    for folder in folders or ():
        for path in sorted(Path(folder).glob("*/lib_lightgbm.*")):
            library = ctypes.CDLL(str(path))
            library.LGBM_GetLastError.restype = ctypes.c_char_p
            return library
    raise NoLightGbm("the library of LightGBM is missing; install the package lightgbm")


def _call(name: str, *arguments: object) -> None:
    library = _library()
    if getattr(library, name)(*arguments) != 0:
        raise BundleRefused(f"LightGBM: {library.LGBM_GetLastError().decode(errors='replace')}")


class TreeShap:
    """A LightGBM text model that says what each input adds to a score. Safe to use from several threads."""

    def __init__(self, text: str) -> None:
        """Raises BundleRefused when `text` is not a LightGBM model."""
        self._handle = ctypes.c_void_p()
        _call("LGBM_BoosterLoadModelFromString", text.encode(), ctypes.byref(ctypes.c_int()),
              ctypes.byref(self._handle))  # fmt: skip
        width = ctypes.c_int()
        _call("LGBM_BoosterGetNumFeature", self._handle, ctypes.byref(width))
        self._width = width.value

    def __del__(self) -> None:
        if self._handle:
            _library().LGBM_BoosterFree(self._handle)

    def contributions(self, rows: Array) -> Array:
        """Rows of inputs, shape (n, inputs), to log-odds of shape (n, inputs + 1), the bias last."""
        inputs = np.ascontiguousarray(rows, dtype=np.float32)
        if inputs.ndim != 2 or inputs.shape[1] != self._width:
            raise BundleRefused(f"the LightGBM model takes {self._width} inputs, not {inputs.shape}")
        out = np.empty((len(inputs), self._width + 1), dtype=np.float64)
        written = ctypes.c_int64()
        _call(
            "LGBM_BoosterPredictForMat",
            self._handle,
            inputs.ctypes.data_as(ctypes.c_void_p),
            _FLOAT32,
            ctypes.c_int32(len(inputs)),
            ctypes.c_int32(self._width),
            _ROW_MAJOR,
            _CONTRIBUTIONS,
            0,
            _ALL,
            b"num_threads=1",
            ctypes.byref(written),
            out.ctypes.data_as(ctypes.c_void_p),
        )
        return out
