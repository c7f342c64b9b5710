"""Losses as forward functions. Most are torch's decompositions; here is what has none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from porter.ir import Value
from porter.lowering.linear import linear
from porter.lowering.promotion import is_float
from porter.lowering.reductions import log_softmax
from porter.lowering.refusal import absent, refuse
from porter.lowering.registry import Call, lowering

_REDUCTIONS = ("none", "mean", "sum")


@lowering("aten.nll_loss_nd.default")
def nll_loss_nd(
    call: Call, x: Value, target: Value, weight: Value | None = None, reduction: int = 1, ignore_index: int = -100
) -> Value:  # fmt: skip
    return nll_loss(call, x, target, weight, reduction, ignore_index)[0]


@lowering("aten.nll_loss_forward.default", "aten.nll_loss2d_forward.default")
def nll_loss(
    call: Call, x: Value, target: Value, weight: Value | None = None, reduction: int = 1, ignore_index: int = -100
) -> list[Value]:  # fmt: skip
    """The negative log-likelihood of the target class, and the weights' sum that the mean is over."""
    if not is_float(x.dtype):
        raise refuse(call, "log-probabilities of integers")
    options: dict[str, Any] = {} if weight is None else {"weight": weight}
    if ignore_index != -100:
        options["ignore_index"] = ignore_index
    if reduction != 1:
        options["reduction"] = _REDUCTIONS[reduction]
    node = call.build.node(
        "fn.nll_loss", x, target, shapes=[call.shape, ()], dtypes=[call.dtype] * 2, **options
    )
    return node.outputs


@lowering("torch_nn._linear_cross_entropy_batch_chunked.default")
def chunked_linear_cross_entropy(
    call: Call, x: Value, weights: Value, target: Value, bias: Value | None, weight: Value | None, reduction: str,
    ignore_index: int, *_: Any,
) -> list[Value]:  # fmt: skip
    """The loss of a last layer's logits. The chunks of the batch save memory alone, and the gradients are autograd's."""
    loss = _linear_cross_entropy(call, x, weights, target, bias, weight, reduction, ignore_index)
    return [loss, *(absent(call, place, "a gradient") for place in range(1, 4))]


@lowering("torch_nn._linear_cross_entropy_batch_chunked_no_reduction.default")
def chunked_linear_cross_entropies(
    call: Call, x: Value, weights: Value, target: Value, bias: Value | None, weight: Value | None, ignore_index: int,
    *_: Any,
) -> Value:  # fmt: skip
    return _linear_cross_entropy(call, x, weights, target, bias, weight, "none", ignore_index)


def _linear_cross_entropy(
    call: Call, x: Value, weights: Value, target: Value, bias: Value | None, weight: Value | None, reduction: str,
    ignore_index: int,
) -> Value:  # fmt: skip
    shape = (*x.shape[:-1], weights.shape[0])
    inner = replace(call, outputs=[(shape, x.dtype)])
    logits = log_softmax(inner, linear(inner, x, weights, bias), -1)
    return nll_loss(call, logits, target, weight, _REDUCTIONS.index(reduction), ignore_index)[0]
