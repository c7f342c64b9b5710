"""Losses as forward functions. Most are torch's decompositions; here is what has none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from porter.ir import Value
from porter.lowering.creation import made
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


@lowering("aten._ctc_loss.default", "aten._ctc_loss.Tensor")
def ctc_loss(
    call: Call, x: Value, targets: Value, input_lengths: Any, target_lengths: Any, blank: int = 0, *_: Any, **__: Any
) -> list[Value]:  # fmt: skip
    """The loss of each sample; a single one, which has no axis for them, gets it."""
    build = call.build
    lengths = [
        made(call, "mx.array", list(given), shape=(len(given),), dtype="int64")
        if not isinstance(given, Value)
        else build.reshape(given, (1,)) if given.rank == 0 else given
        for given in (input_lengths, target_lengths)
    ]  # fmt: skip
    if single := x.rank == 2:
        x = build.op("mx.expand_dims", x, 1, shape=(x.shape[0], 1, x.shape[1]), dtype=x.dtype)
        targets = build.reshape(targets, (1, *targets.shape[-1:]))
    options = {"blank": blank} if blank else {}
    loss = build.op(
        "fn.ctc_loss", x, targets, *lengths, shape=x.shape[1:2], dtype=x.dtype, **options
    )
    if single:
        loss = build.reshape(loss, call.shape)
    return [loss, absent(call, 1, "the forward variables")]
