"""Reduction length, conditioning and depth of what a slice of the graph computes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node

from porter.validate.graph import op_name

#: Ops that only move values: they add no rounding error.
MOVES = frozenset(
    (
        *("view", "reshape", "permute", "transpose", "t", "contiguous", "clone", "detach"),
        *("slice", "select", "split", "chunk", "unbind", "cat", "stack", "expand", "unsqueeze"),
        *("squeeze", "flatten", "unflatten", "getitem", "to", "dropout", "alias", "pad"),
        *("constant_pad_nd", "embedding", "index", "repeat", "roll", "masked_fill", "arange"),
        *("full", "zeros", "ones", "lift_fresh_copy", "expand_as", "narrow", "movedim"),
    )
)
#: The worst conditioning that a budget may claim.
MAX_KAPPA = 64.0


@dataclass(slots=True)
class Conditioning:
    """Collected while a slice runs in float64: pass `observe` to `Graph.run_cut`."""

    n: float = 1.0
    kappa: float = 1.0
    depth: int = 0

    def observe(self, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        name = op_name(node)
        if name in MOVES or not any(isinstance(a, torch.Tensor) for a in args):
            return
        self.depth += 1
        self.n = max(self.n, reduction_length(name, args))
        self.kappa = max(self.kappa, min(conditioning(name, args, kwargs), MAX_KAPPA))


def reduction_length(name: str, args: tuple[Any, ...]) -> float:
    """How many products or terms the op sums for one value of its output."""
    x = args[0]
    if not isinstance(x, torch.Tensor):
        return 1
    shape = x.shape
    last = shape[-1] if x.ndim else 1
    if name in ("linear", "matmul", "mm", "bmm", "einsum", "baddbmm"):
        return last
    if name == "addmm":
        return args[1].shape[-1]
    if name.startswith(("conv", "_convolution")):
        weight = args[1]
        return weight.numel() / max(weight.shape[0], 1)
    if name in ("layer_norm", "rms_norm"):
        return math.prod(args[1])
    if name in ("group_norm", "instance_norm"):
        return x[0].numel() / (args[1] if isinstance(args[1], int) else shape[1])
    if name == "scaled_dot_product_attention":
        return max(last, args[1].shape[-2])
    if name in ("softmax", "log_softmax", "_softmax", "cumsum", "cumprod", "logsumexp"):
        axis = args[1][0] if isinstance(args[1], (list, tuple)) else args[1]
        return shape[axis]
    if name in ("mean", "sum", "var", "std", "norm", "linalg_vector_norm", "var_mean"):
        axes = args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else range(x.ndim)
        return math.prod(shape[a] for a in axes)
    if "pool" in name and "max" not in name:
        return math.prod(shape[2:]) if "adaptive" in name else _product(args[1], x.ndim - 2)
    if name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        return last
    return 1


def conditioning(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """Condition numbers of the few ops where they are known, 1 elsewhere.

    exp, softmax and the periodic functions turn an absolute error of their argument x, which is
    |x| * 2^-24, into a relative or absolute one of the result: kappa = max|x| (Higham, "Accuracy
    and Stability of Numerical Algorithms", 1.6). A running sum may cancel: kappa = sqrt(n).
    """
    x = args[0]
    if not isinstance(x, torch.Tensor) or not x.is_floating_point() or x.numel() == 0:
        return 1.0
    if name in ("exp", "softmax", "_softmax", "log_softmax", "sin", "cos", "logsumexp", "sinh"):
        return _peak(x)
    if name == "cumsum":
        return math.sqrt(x.shape[args[1]])
    if name == "scaled_dot_product_attention":
        scale = kwargs.get("scale") or 1.0 / math.sqrt(x.shape[-1])
        norms = [float(t.norm(dim=-1).max()) for t in args[:2]]
        return max(1.0, abs(scale) * norms[0] * norms[1])
    return 1.0


def _peak(x: torch.Tensor) -> float:
    size = x.abs()
    size = size[size < 1e30]
    return max(1.0, float(size.max())) if size.numel() else 1.0


def _product(kernel: Any, dims: int) -> float:
    if isinstance(kernel, int):
        return kernel**dims
    return math.prod(kernel) if isinstance(kernel, (list, tuple)) else 1
