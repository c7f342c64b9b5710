"""Appends nodes to a program and knows the shapes of the common ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy

from porter.ir.program import Frame, Location, Node, Size, Value, values_in

_PROMOTION = (
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "complex64",
)


class Builder:
    """Collects nodes; every call returns the new node's value (or its values)."""

    def __init__(self, scope: tuple[Frame, ...] = (), location: Location | None = None):
        self.nodes: list[Node] = []
        self.scope = scope
        self.location = location

    def node(
        self,
        op: str,
        *args: Any,
        shapes: Sequence[tuple[Size, ...]],
        dtypes: Sequence[str],
        attrs: dict[str, Any] | None = None,
        params: dict[str, Value] | None = None,
        **kwargs: Any,
    ) -> Node:
        node = Node(
            op, list(args), kwargs, attrs or {}, params or {}, [], self.scope, self.location
        )
        node.outputs = [
            Value(tuple(shape), dtype, node) for shape, dtype in zip(shapes, dtypes, strict=True)
        ]
        self.nodes.append(node)
        return node

    def op(
        self, op: str, *args: Any, shape: Any = None, dtype: str | None = None, **kwargs: Any
    ) -> Value:
        """One MLX call with one output.

        Without `shape` the arguments' broadcast shape is taken; without `dtype` their promoted type.
        """
        arrays = list(values_in(args))
        if shape is None:
            shape = broadcast_shapes(*(value.shape for value in arrays))
        if dtype is None:
            dtype = "bool" if op in _COMPARISONS else promote(*arrays)
        return self.node(op, *args, shapes=[tuple(shape)], dtypes=[dtype], **kwargs).output

    def layer(
        self,
        cls: str,
        x: Value | Sequence[Value],
        params: dict[str, Value],
        shape: Any,
        **attrs: Any,
    ) -> Value:
        """A call of an mlx.nn layer whose parameters are `params` and constructor arguments `attrs`."""
        args = [x] if isinstance(x, Value) else list(x)
        return self.node(
            cls, *args, shapes=[tuple(shape)], dtypes=[args[0].dtype], attrs=attrs, params=params
        ).output

    def transpose(self, x: Value, axes: Sequence[int]) -> Value:
        axes = tuple(axis % x.rank for axis in axes)
        if axes == tuple(range(x.rank)):
            return x
        return self.op(
            ".transpose", x, *axes, shape=[x.shape[axis] for axis in axes], dtype=x.dtype
        )

    def reshape(self, x: Value, shape: Sequence[Size]) -> Value:
        if tuple(shape) == x.shape:
            return x
        if not shape:  # MLX's reshape() without a size crashes
            axes = tuple(range(x.rank))
            return self.op(".squeeze", x, axes[0] if x.rank == 1 else axes, shape=(), dtype=x.dtype)
        return self.op(".reshape", x, *shape, shape=shape, dtype=x.dtype)

    def cast(self, x: Value, dtype: str) -> Value:
        if x.dtype == dtype:
            return x
        return self.op(".astype", x, shape=x.shape, dtype=dtype)

    def index(self, x: Value, key: Sequence[Any], shape: Sequence[Size]) -> Value:
        """`x[key]`; `key` holds slices, ints, None, Ellipsis and index arrays."""
        node = self.node(
            "[]", x, shapes=[tuple(shape)], dtypes=[x.dtype], attrs={"key": tuple(key)}
        )
        return node.output


_COMPARISONS = {
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "mx.isnan",
    "mx.isinf",
    "mx.logical_not",
    "mx.logical_and",
}


def promote(*values: Value) -> str:
    """The type of an operation over the values."""
    dtypes = {value.dtype for value in values}
    if {"float16", "bfloat16"} <= dtypes:
        return "float32"
    return max(dtypes, key=_PROMOTION.index) if dtypes else "float32"


def broadcast_shapes(*shapes: tuple[Size, ...]) -> tuple[Size, ...]:
    """NumPy's broadcasting; of two symbolic sizes that differ the first is taken."""
    rank = max(map(len, shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    result: list[Size] = []
    for sizes in zip(*padded, strict=True):
        wide = [size for size in sizes if size != 1]
        result.append(wide[0] if wide else 1)
    return tuple(result)


def simplify(size: Any) -> Size:
    """An int where the expression is one."""
    if isinstance(size, int):
        return size
    size = sympy.sympify(size)
    return int(size) if size.is_Integer else size
