"""The globals that a torch checkpoint may name, and what each stands for here: descriptions, never torch itself."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from porter.weights.pickle_program import Record, RefusedError


@dataclass(frozen=True, slots=True)
class ElementType:
    """A torch.dtype or a storage class; porter's dtype name, or "" for an untyped storage (bytes)."""

    name: str


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage in the archive: `key` is its file's name, `count` its number of elements."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A view of a storage; offset and stride count elements."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def rebuild_tensor(storage: Storage, offset: int, shape: Any, stride: Any, *_: Any) -> StoredTensor:
    """torch._utils._rebuild_tensor_v2: gradient flag and hooks are of no interest."""
    if not isinstance(storage, Storage):
        raise ValueError("a tensor without a storage")
    return StoredTensor(storage, storage.dtype, offset, _counts(shape), _counts(stride))


def rebuild_typed_tensor(
    storage: Storage,
    offset: int,
    shape: Any,
    stride: Any,
    _grad: Any,
    _hooks: Any,
    dtype: Any,
    *_: Any,
) -> StoredTensor:
    """torch._utils._rebuild_tensor_v3: an untyped storage seen as `dtype`."""
    if not isinstance(storage, Storage) or not isinstance(dtype, ElementType):
        raise ValueError("a tensor without a storage or a dtype")
    return StoredTensor(storage, dtype.name, offset, _counts(shape), _counts(stride))


def rebuild_parameter(data: StoredTensor, *_: Any) -> StoredTensor:
    """torch._utils._rebuild_parameter: the tensor itself."""
    return data


def rebuild_from_type(
    function: Callable[..., Any], _type: Any, arguments: tuple, _state: Any
) -> Any:
    """torch._tensor._rebuild_from_type_v2: a tensor with Python attributes, which are dropped."""
    return function(*arguments)


def _counts(value: Any) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)) or not all(type(n) is int for n in value):
        raise ValueError("a shape or stride that is not whole numbers")
    return tuple(value)


def _encode(text: str, encoding: str = "utf-8") -> bytes:
    """How protocol 2 writes bytes."""
    return str(text).encode("latin1" if encoding == "latin1" else "utf-8")


STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
ELEMENTS = {
    "float64": "float64",
    "float32": "float32",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "float8_e4m3fn": "float8_e4m3fn",
    "float8_e5m2": "float8_e5m2",
    "float8_e8m0fnu": "float8_e8m0fnu",
    "int64": "int64",
    "int32": "int32",
    "int16": "int16",
    "int8": "int8",
    "uint64": "uint64",
    "uint32": "uint32",
    "uint16": "uint16",
    "uint8": "uint8",
    "bool": "bool",
    "complex64": "complex64",
    "complex128": "complex128",
}
GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "Counter"): Counter,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("_codecs", "encode"): _encode,
    ("torch", "Size"): tuple,
    ("torch", "Tensor"): ElementType(""),
    ("torch", "device"): lambda *parts: ":".join(map(str, parts)),
    ("torch.nn.parameter", "Parameter"): ElementType(""),
    ("torch._utils", "_rebuild_tensor"): rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): rebuild_typed_tensor,
    ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): rebuild_parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): rebuild_from_type,
    ("torch.jit._pickle", "build_intlist"): list,
    ("torch.jit._pickle", "build_boollist"): list,
    ("torch.jit._pickle", "build_doublelist"): list,
    ("torch.jit._pickle", "build_tensorlist"): list,
    ("torch.jit._pickle", "restore_type_tag"): lambda value, _tag: value,
    ("torch.storage", "UntypedStorage"): ElementType(""),
    ("torch", "UntypedStorage"): ElementType(""),
    **{("torch", name): ElementType(dtype) for name, dtype in STORAGES.items()},
    **{("torch", name): ElementType(dtype) for name, dtype in ELEMENTS.items()},
}


def find_global(module: str, name: str, torchscript: bool = False) -> Any:
    """What stands for module.name; RefusedError when it is not in the table.

    The classes in a TorchScript archive are described in the archive: their objects become Records.
    """
    if torchscript and isinstance(module, str) and module.split(".")[0] == "__torch__":
        return Record
    try:
        return GLOBALS[module, name]
    except (KeyError, TypeError):
        raise RefusedError(f"{module}.{name}") from None
