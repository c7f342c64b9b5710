"""Losses as forward functions. Most are torch's decompositions; here is what has none."""

from __future__ import annotations

from typing import Any

from porter.ir import Value
from porter.lowering.promotion import is_float
from porter.lowering.refusal import refuse
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
