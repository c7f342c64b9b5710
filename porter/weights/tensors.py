"""What a lazily read set of named tensors is, and the element types that porter knows."""

from __future__ import annotations

import math
from collections.abc import KeysView
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import mlx.core as mx
import numpy as np

LONGEST_AXIS = 2**31  # MLX counts an axis with 32 bits
MOST_AXES = 32


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor without its data; `dtype` is a name from DTYPES, as in "float32"."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes when stored densely."""
        return self.size * DTYPES[self.dtype].itemsize


@runtime_checkable
class Tensors(Protocol):
    """Named tensors that are read one at a time."""

    def keys(self) -> KeysView[str]:
        """Every key, in the order in which the source holds them."""

    def spec(self, key: str) -> TensorSpec:
        """dtype and shape without reading data; InputError when there is no such key."""

    def read(self, key: str) -> mx.array:
        """The tensor itself, dtype and shape as in `spec` (float8 as its uint8 codes)."""

    def close(self) -> None:
        """Lets go of open files; no tensor can be read afterwards."""


@dataclass(frozen=True, slots=True)
class Dtype:
    """How one element type is stored: `raw` is the NumPy type of its bytes, `mlx` what MLX calls it.

    `safetensors` is its name in a safetensors header. An empty `mlx` means that MLX cannot hold it.
    """

    raw: str
    mlx: str
    safetensors: str
    floating: bool = False

    @property
    def itemsize(self) -> int:
        return np.dtype(self.raw).itemsize


# float8 has no MLX element type: its codes are carried as uint8, and recipes decode them (from_fp8).
DTYPES = {
    "float64": Dtype("u8", "float64", "F64", floating=True),
    "float32": Dtype("f4", "float32", "F32", floating=True),
    "float16": Dtype("f2", "float16", "F16", floating=True),
    "bfloat16": Dtype("u2", "bfloat16", "BF16", floating=True),
    "float8_e4m3fn": Dtype("u1", "uint8", "F8_E4M3"),
    "float8_e5m2": Dtype("u1", "uint8", "F8_E5M2"),
    "float8_e8m0fnu": Dtype("u1", "uint8", "F8_E8M0"),
    "int64": Dtype("i8", "int64", "I64"),
    "int32": Dtype("i4", "int32", "I32"),
    "int16": Dtype("i2", "int16", "I16"),
    "int8": Dtype("i1", "int8", "I8"),
    "uint64": Dtype("u8", "uint64", "U64"),
    "uint32": Dtype("u4", "uint32", "U32"),
    "uint16": Dtype("u2", "uint16", "U16"),
    "uint8": Dtype("u1", "uint8", "U8"),
    "bool": Dtype("u1", "bool", "BOOL"),
    "complex64": Dtype("c8", "complex64", "C64"),
    "complex128": Dtype("c16", "", "C128"),
}


def to_mlx(raw: np.ndarray, dtype: str) -> mx.array:
    """A copy in MLX of `raw`, which holds elements of `dtype` in their raw NumPy type (any strides)."""
    raw = np.ascontiguousarray(raw).reshape(raw.shape)
    if dtype == "bool":
        return mx.array(raw != 0)
    array = mx.array(raw)
    wanted = mlx_dtype(dtype)
    return array if array.dtype == wanted else array.view(wanted, stream=mx.cpu)


def dtype_name(dtype: mx.Dtype) -> str:
    """ "float32" for mx.float32."""
    return str(dtype).rpartition(".")[2]


def mlx_dtype(name: str) -> mx.Dtype:
    """mx.float32 for "float32"; for float8, mx.uint8."""
    return mx.bool_ if name == "bool" else getattr(mx, DTYPES[name].mlx)
