"""Feast's wire format, as far as feature values and single-column entity keys go, without Feast."""

import struct
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "orrery.feast"

# name in feast/types/Value.proto -> (number, protobuf type); a list is a message with one repeated field `val`
_SCALARS = {
    "bytes_val": (1, _FIELD.TYPE_BYTES),
    "string_val": (2, _FIELD.TYPE_STRING),
    "int32_val": (3, _FIELD.TYPE_INT32),
    "int64_val": (4, _FIELD.TYPE_INT64),
    "double_val": (5, _FIELD.TYPE_DOUBLE),
    "float_val": (6, _FIELD.TYPE_FLOAT),
    "bool_val": (7, _FIELD.TYPE_BOOL),
    "unix_timestamp_val": (8, _FIELD.TYPE_INT64),
}
_LISTS = {
    "bytes_list_val": (11, _FIELD.TYPE_BYTES),
    "string_list_val": (12, _FIELD.TYPE_STRING),
    "int32_list_val": (13, _FIELD.TYPE_INT32),
    "int64_list_val": (14, _FIELD.TYPE_INT64),
    "double_list_val": (15, _FIELD.TYPE_DOUBLE),
    "float_list_val": (16, _FIELD.TYPE_FLOAT),
    "bool_list_val": (17, _FIELD.TYPE_BOOL),
}
_ARRAYS: Mapping[str, Any] = {
    "bytes_list_val": object,
    "string_list_val": object,
    "int32_list_val": np.int32,
    "int64_list_val": np.int64,
    "double_list_val": np.float64,
    "float_list_val": np.float32,
    "bool_list_val": np.bool_,
}
_STRING_TYPE, _INT64_TYPE = 2, 4  # of feast.types.ValueType.Enum, inside entity keys


@cache
def _message() -> Any:
    """The class of Feast's `Value`, built from its field numbers."""
    file = descriptor_pb2.FileDescriptorProto(name="orrery/feast_value.proto", package=_PACKAGE, syntax="proto3")
    value = file.message_type.add(name="Value")
    value.oneof_decl.add(name="val")
    for name, (number, kind) in _SCALARS.items():
        value.field.add(name=name, number=number, type=kind, label=_FIELD.LABEL_OPTIONAL, oneof_index=0)
    for name, (number, kind) in _LISTS.items():
        items = file.message_type.add(name=name)
        items.field.add(name="val", number=1, type=kind, label=_FIELD.LABEL_REPEATED)
        value.field.add(
            name=name,
            number=number,
            type=_FIELD.TYPE_MESSAGE,
            type_name=f".{_PACKAGE}.{name}",
            label=_FIELD.LABEL_OPTIONAL,
            oneof_index=0,
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Value"))


def decode(data: bytes) -> Any:
    """A stored value: None, a scalar, or a 1-d array. Raises google.protobuf.message.DecodeError on other bytes."""
    value = _message().FromString(data)
    kind = value.WhichOneof("val")
    if kind is None:
        return None
    held = getattr(value, kind)
    return np.array(held.val, dtype=_ARRAYS[kind]) if kind in _ARRAYS else held


def encode(value: Any, kind: str) -> bytes:
    """`value` as the bytes of Feast's field `kind`, such as int64_list_val. None is an empty value."""
    message = _message()()
    if value is None:
        return b""
    if kind in _ARRAYS:
        # an empty list must still say that it is one
        getattr(message, kind).SetInParent()
        getattr(message, kind).val.extend(value.tolist() if isinstance(value, np.ndarray) else value)
    else:
        setattr(message, kind, value)
    return bytes(message.SerializeToString())


def entity_key(join_key: str, entity: int | str) -> bytes:
    """One entity's key in Feast's serialization, version 3."""
    name = join_key.encode()
    kind, held = (
        (_INT64_TYPE, struct.pack("<q", entity)) if isinstance(entity, int) else (_STRING_TYPE, entity.encode())
    )
    return struct.pack("<III", 1, _STRING_TYPE, len(name)) + name + struct.pack("<II", kind, len(held)) + held
