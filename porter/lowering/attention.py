"""Scaled dot-product attention."""

from __future__ import annotations

from math import inf, sqrt
from typing import Any

from porter.ir import Size, Value
from porter.ir.builder import broadcast_shapes
from porter.lowering.creation import made
from porter.lowering.refusal import refuse
from porter.lowering.registry import Call, lowering


@lowering("aten.scaled_dot_product_attention.default")
def attention(
    call: Call, q: Value, k: Value, v: Value, mask: Value | None = None, dropout: float = 0.0, is_causal: bool = False,
    *, scale: float | None = None, enable_gqa: bool = False,
) -> Value:  # fmt: skip
    """softmax(q @ k.T * scale + mask) @ v; MLX repeats the heads of k and v by itself."""
    if dropout:
        raise refuse(call, "dropout in the call: it draws random numbers in eval mode too")
    if scale is None:
        if not isinstance(q.shape[-1], int):
            raise refuse(call, "the size of a head is not fixed, so the scale has no value")
        scale = 1 / sqrt(q.shape[-1])
    build = call.build
    q4, k4, v4 = (_with_four_axes(call, x) for x in (q, k, v))
    batch = broadcast_shapes(*(x.shape[:-2] for x in (q4, k4, v4)))
    q4, k4, v4 = (_with_samples(call, x, batch[0]) for x in (q4, k4, v4))
    given: Any = mask
    if is_causal:
        given = _causal(call, q.shape[-2], k.shape[-2])
    elif mask is not None and mask.rank > 4:
        given = _with_four_axes(call, mask)
    shape = (*q4.shape[:-1], v.shape[-1])
    result = build.op(
        "mx.fast.scaled_dot_product_attention",
        q4,
        k4,
        v4,
        shape=shape,
        dtype=call.dtype,
        scale=float(scale),
        mask=given,
    )
    if (
        mask is not None
        and depends_on_input(mask)
        and (mask.dtype == "bool" or _holds_infinity(mask))
    ):
        result = _zero_where_all_masked(call, result, given)
    return build.reshape(result, call.shape)


def _with_samples(call: Call, x: Value, samples: Size) -> Value:
    """The same for all samples, where it is one sample's: MLX wants as many of queries as of keys."""
    if x.shape[0] == samples:
        return x
    shape = (samples, *x.shape[1:])
    return call.build.op("mx.broadcast_to", x, shape, shape=shape, dtype=x.dtype)


def _with_four_axes(call: Call, x: Value) -> Value:
    if x.rank == 4:
        return x
    if x.rank < 4:
        for _ in range(4 - x.rank):
            x = call.build.op("mx.expand_dims", x, 0, shape=(1, *x.shape), dtype=x.dtype)
        return x
    batch: Size = 1
    for size in x.shape[:-3]:
        batch = batch * size
    return call.build.reshape(x, (batch, *x.shape[-3:]))


def _causal(call: Call, queries: Size, keys: Size) -> Any:
    """torch aligns the mask at the upper left, MLX's "causal" at the lower right: the same where both lengths are."""
    if queries == keys:
        return "causal"
    return made(call, "mx.tri", queries, keys, shape=(queries, keys), dtype="bool")


def _zero_where_all_masked(call: Call, result: Value, mask: Value) -> Value:
    """A query that may see no key gets zeros in torch; in MLX the mean of all values, or NaN of an infinite mask."""
    build = call.build
    allowed = (
        mask if mask.dtype == "bool" else build.op(">", mask, -inf, shape=mask.shape, dtype="bool")
    )
    some = build.op(
        "mx.any",
        allowed,
        shape=(*mask.shape[:-1], 1),
        dtype="bool",
        axis=mask.rank - 1,
        keepdims=True,
    )
    return build.op(
        "mx.where",
        some,
        result,
        0,
        shape=broadcast_shapes(some.shape, result.shape),
        dtype=result.dtype,
    )


def depends_on_input(mask: Value) -> bool:
    """Whether it is made from the model's inputs; one made of positions alone leaves each query a key."""
    return any(value.node is None and not value.is_parameter for value in _ancestry(mask))


def _holds_infinity(mask: Value) -> bool:
    """Whether a -inf was written into it."""
    nodes = [value.node for value in _ancestry(mask) if value.node is not None]
    return any(isinstance(item, float) and item == -inf for node in nodes for item in node.args)


def _ancestry(value: Value) -> set[Value]:
    """The value and all that it is made from."""
    stack, seen = [value], set()
    while stack:
        item = stack.pop()
        if item not in seen:
            seen.add(item)
            stack.extend(item.node.inputs() if item.node is not None else ())
    return seen
