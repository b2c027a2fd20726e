"""Arrays on their way to the model server and back: numbers, bounded, and never unpickled."""

import io

import numpy as np
import pytest

from orrery.adapters.array_bytes import (
    ROWS,
    BytesRefused,
    outputs_from_bytes,
    outputs_to_bytes,
    rows_from_bytes,
    rows_to_bytes,
)

GOOD = np.arange(8, dtype=np.float32).reshape(2, 4)


def as_npy(array, **options):
    written = io.BytesIO()
    np.save(written, array, **options)
    return written.getvalue()


def test_rows_come_back_as_they_were():
    for rows in (GOOD, GOOD.astype(np.float64), np.asfortranarray(GOOD), GOOD[:, ::-1], np.full((1, 4), np.nan)):
        np.testing.assert_array_equal(rows_from_bytes(rows_to_bytes(rows), 4), rows.astype(np.float32))


HEAD = as_npy(GOOD)
BAD = {
    "nothing": b"",
    "rubbish": b"rubbish",
    "a head cut off": HEAD[:40],
    "a row missing": HEAD[:-16],
    "more than its head says": HEAD + b"\0",
    "another format": b"\x93NUMPY\x02\x00" + HEAD[8:],
    "double precision": as_npy(GOOD.astype(np.float64)),
    "other byte order": as_npy(GOOD.astype(">f4")),
    "column by column": as_npy(np.asfortranarray(GOOD)),
    "another width": as_npy(GOOD[:, :3]),
    "one dimension": as_npy(GOOD[0]),
    "no rows": as_npy(GOOD[:0]),
    "too many rows": as_npy(np.zeros((ROWS + 1, 4), np.float32)),
    "objects": as_npy(np.array([[object()]]), allow_pickle=True),
    "a head that is no Python": HEAD.replace(b"}", b"("),
    "a shape that is computed": HEAD.replace(b"(2, 4), }", b"(9**9,4),}"),
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_what_is_no_rows_is_refused(body):
    with pytest.raises(BytesRefused):
        rows_from_bytes(body, 4)


def test_a_head_that_promises_too_much_takes_no_memory():
    import tracemalloc

    written = io.BytesIO()
    np.lib.format.write_array_header_1_0(written, {"descr": "<f4", "fortran_order": False, "shape": (ROWS, 10_000_000)})
    tracemalloc.start()
    with pytest.raises(BytesRefused, match="longer or shorter"):
        rows_from_bytes(written.getvalue(), 10_000_000)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_outputs_keep_their_types():
    outputs = {"score": np.array([0.5, 1.0]), "mask": np.ones((2, 3, 3), np.uint8), "class": np.array([1, 2])}
    found = outputs_from_bytes(outputs_to_bytes(outputs), 2)
    assert found.keys() == outputs.keys()
    for name, values in outputs.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


def test_objects_do_not_leave():
    with pytest.raises(ValueError, match="Object arrays"):
        outputs_to_bytes({"score": np.array([object()])})


def test_answers_that_are_none_are_refused():
    pickled = io.BytesIO()
    np.savez(pickled, score=np.array([object()]))
    three = outputs_to_bytes({"score": np.zeros(3)})
    for body in (b"", b"rubbish", pickled.getvalue(), three, three[:-30], outputs_to_bytes({})):
        with pytest.raises(BytesRefused):
            outputs_from_bytes(body, 2)
