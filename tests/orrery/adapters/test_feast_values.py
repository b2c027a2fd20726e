"""Our few lines of Feast's wire format against Feast's own."""

import numpy as np
import pytest
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from hypothesis import given
from hypothesis import strategies as st

from orrery.adapters.feast_values import decode, encode, entity_key

INT64 = st.integers(-(2**63), 2**63 - 1)
FLOAT = st.floats(width=32, allow_nan=False)
SCALARS = {
    "int64_val": INT64,
    "int32_val": st.integers(-(2**31), 2**31 - 1),
    "double_val": st.floats(allow_nan=False),
    "float_val": FLOAT,
    "bool_val": st.booleans(),
    "string_val": st.text(),
    "bytes_val": st.binary(),
    "unix_timestamp_val": INT64,
}
LISTS = {name.replace("_val", "_list_val"): st.lists(held) for name, held in SCALARS.items() if "unix" not in name}


@pytest.mark.parametrize("kind", SCALARS)
@given(data=st.data())
def test_scalars_are_feasts_both_ways(kind, data):
    value = data.draw(SCALARS[kind])
    theirs = Value(**{kind: value})
    assert Value.FromString(encode(value, kind)) == theirs
    assert decode(theirs.SerializeToString()) == value


@pytest.mark.parametrize("kind", LISTS)
@given(data=st.data())
def test_lists_are_feasts_both_ways_and_arrays_to_us(kind, data):
    values = data.draw(LISTS[kind])
    theirs = Value()
    getattr(theirs, kind).SetInParent()
    getattr(theirs, kind).val.extend(values)
    assert Value.FromString(encode(values, kind)) == theirs
    decoded = decode(theirs.SerializeToString())
    assert isinstance(decoded, np.ndarray)
    assert decoded.tolist() == values
    assert Value.FromString(encode(decoded, kind)) == theirs


def test_nothing_is_nothing():
    assert encode(None, "int64_val") == Value().SerializeToString()
    assert decode(Value().SerializeToString()) is None


@given(name=st.text(min_size=1), entity=INT64 | st.text())
def test_entity_keys_are_feasts(name, entity):
    value = Value(int64_val=entity) if isinstance(entity, int) else Value(string_val=entity)
    assert entity_key(name, entity) == serialize_entity_key(EntityKey(join_keys=[name], entity_values=[value]), 3)
