"""torch's primitives, of which decompositions are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from porter.ir import Value
from porter.lowering.registry import Call, lowering, registry_of

#: The ATen op that a primitive is.
SAME = {
    "abs": "abs.default", "neg": "neg.default", "where": "where.self", "signbit": "signbit.default", "fmax": "fmax.default",
    "fmin": "fmin.default", "add": "add.Tensor", "sub": "sub.Tensor", "mul": "mul.Tensor", "div": "div.Tensor",
    "exp": "exp.default", "log": "log.default", "eq": "eq.Tensor", "ne": "ne.Tensor", "lt": "lt.Tensor", "le": "le.Tensor",
    "gt": "gt.Tensor", "ge": "ge.Tensor", "maximum": "maximum.default", "minimum": "minimum.default", "sqrt": "sqrt.default",
    "floor": "floor.default", "ceil": "ceil.default", "trunc": "trunc.default", "isfinite": "isfinite.default",
    "sign": "sign.default", "bitwise_and": "bitwise_and.Tensor", "bitwise_or": "bitwise_or.Tensor",
    "convert_element_type": "to.dtype", "clone": "clone.default", "transpose": "permute.default",
}  # fmt: skip


def _same(name: str) -> Callable[..., Any]:
    def lower(call: Call, *args: Any, **kwargs: Any) -> Any:
        return registry_of(f"aten.{name}")(call, *args, **kwargs)

    return lower


for _primitive, _name in SAME.items():
    lowering(f"prims.{_primitive}.default")(_same(_name))


@lowering("prims.broadcast_in_dim.default")
def broadcast_in_dim(call: Call, x: Value, shape: Sequence[Any], axes: Sequence[int]) -> Value:
    sizes = [1] * len(call.shape)
    for axis, size in zip(axes, x.shape, strict=True):
        sizes[axis] = size
    x = call.build.reshape(x, sizes)
    if x.shape == call.shape:
        return x
    return call.build.op("mx.broadcast_to", x, tuple(call.shape), shape=call.shape, dtype=x.dtype)


@lowering("prims.squeeze.default")
def squeeze(call: Call, x: Value, axes: Sequence[int]) -> Value:
    return call.build.reshape(x, call.shape)
