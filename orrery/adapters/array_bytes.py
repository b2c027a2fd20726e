"""Arrays as bytes, between those who ask a model server and the model server: numbers only, nothing to unpickle."""

import io
from collections.abc import Mapping

import numpy as np
from numpy.lib import format as npy

from orrery.errors import OrreryError
from orrery.usecase import Array, Outputs

ROWS = 256
"""the most rows of one request"""


class BytesRefused(OrreryError):
    """The bytes are not the arrays that they should be."""


def rows_to_bytes(rows: Array) -> bytes:
    """Rows of inputs, shape (n, inputs), as the bytes of a .npy file of float32."""
    written = io.BytesIO()
    npy.write_array(written, np.ascontiguousarray(rows, np.float32), version=(1, 0), allow_pickle=False)
    return written.getvalue()


def rows_from_bytes(body: bytes, inputs: int) -> Array:
    """The rows of a .npy file, float32, shape (n, inputs), read-only. Raises BytesRefused on anything else.

    What the head says is compared with what is there before any memory is taken for it.
    """
    stream = io.BytesIO(body)
    try:
        version = npy.read_magic(stream)
        shape, by_columns, dtype = npy.read_array_header_1_0(stream)
    except Exception as error:  # ValueError, and whatever the parsers of Python raise on a head that is none
        raise BytesRefused("the body is no .npy file") from error
    if version != (1, 0):
        raise BytesRefused("send a .npy file of format 1.0")
    if dtype != np.float32 or by_columns or len(shape) != 2 or shape[1] != inputs or not 1 <= shape[0] <= ROWS:
        raise BytesRefused(f"send 1 to {ROWS} rows of {inputs} float32, one row after the other")
    if len(body) - stream.tell() != shape[0] * inputs * dtype.itemsize:
        raise BytesRefused("the body is longer or shorter than its head says")
    return np.frombuffer(body, np.float32, offset=stream.tell()).reshape(shape)


def outputs_to_bytes(outputs: Outputs) -> bytes:
    """Named arrays as the bytes of a .npz file; their types stay. Raises ValueError on an array of objects."""
    written = io.BytesIO()
    np.savez(written, allow_pickle=False, **outputs)
    return written.getvalue()


def outputs_from_bytes(body: bytes, rows: int) -> Outputs:
    """The arrays of a .npz file, each with that many rows. Raises BytesRefused when it is not so."""
    try:
        with np.load(io.BytesIO(body), allow_pickle=False) as found:
            outputs: Mapping[str, Array] = dict(found)
    except Exception as error:  # zipfile's and numpy's errors share no narrower root
        raise BytesRefused(f"the answer is no .npz file: {error!r}") from error
    if not outputs or any(values.shape[:1] != (rows,) for values in outputs.values()):
        raise BytesRefused(f"the answer is not of {rows} rows")
    return outputs
