"""Whether a node treats every token by itself: only then may tokens arrive one after the other."""

from __future__ import annotations

from typing import Any

import sympy

from porter.ir import Node, Size, Value
from porter.ir.builder import simplify
from porter.ir.ops import ACTIVATIONS, ALONG_AXIS, ELEMENTWISE, LAST_AXIS_LAYERS, REDUCTIONS

#: Views that leave each number in the row of its token, where `_keeps_rows` says so of their shapes.
_VIEWS = {
    ".reshape", ".transpose", "mx.expand_dims", ".squeeze", "mx.broadcast_to", "mx.stack", "unpack", "mx.zeros", "mx.ones",
    "mx.full", "mx.zeros_like", "mx.ones_like", "mx.tile",
}  # fmt: skip
_ALONG = (
    ALONG_AXIS
    | REDUCTIONS
    | {"mx.take_along_axis", "mx.put_along_axis", "mx.argpartition", "mx.topk", "mx.pad"}
)
#: Functions that carry a state from token to token, which a cache can keep.
STATEFUL = {
    "fn.with_past",
    "fn.state_space",
    "fn.selective_scan",
    "fn.gated_scan",
    "fn.gated_delta",
    "fn.delta_rule",
    "fn.decayed_attention",
    "fn.matrix_lstm",
    "fn.token_before",
    "fn.wkv",
}
#: Functions that count positions on from a cache of their own, beside those of the layers.
COUNTING = {"fn.picture_positions"}
_PER_ROW = LAST_AXIS_LAYERS | {"as_linear", "nn.RoPE"}


def mixes_tokens(node: Node, length: sympy.Symbol) -> str | None:
    """Why the node's result for one token may depend on another token; None where it can't.

    Tokens run along the axes whose size is a multiple of `length`.
    """
    if node.op in STATEFUL or node.op in COUNTING or _reads_past(node):
        return None
    arrays = [v for v in node.inputs() if _has(v.shape, length)]
    if _counts(node, length):
        return f"{node.op} reads the number of tokens"
    if not arrays and not any(_has(v.shape, length) for v in node.outputs):
        return None
    if not all(_keeps_rows(v, length) for v in (*arrays, *node.outputs)):
        return f"{node.op} makes pairs of tokens"
    axis = node.kwargs.get("axis")
    if node.op in _PER_ROW:
        return None if not _has(node.args[0].shape[-1:], length) else f"{node.op} runs along tokens"
    if node.op in ("nn.Embedding", "nn.SwitchLinear"):
        return None
    if node.op in ELEMENTWISE or node.op in ACTIVATIONS or node.op in _VIEWS:
        return None
    if node.op == "mx.repeat" and isinstance(node.args[1], int):
        return None  # the rows of a token follow each other
    if node.op in _ALONG and axis is not None:
        axes = axis if isinstance(axis, (list, tuple)) else [axis]
        if not any(_has([v.shape[a]], length) for v in arrays for a in axes if a < v.rank):
            return None
    if node.op == "mx.addmm" and not _has([node.args[1].shape[-1]], length):
        return None
    if node.op == "@":
        left, right = node.args
        if not _has([left.shape[-1]], length) and not _has(right.shape[-2:], length):
            return None
    if node.op == "mx.take" and not _has(node.args[0].shape, length):
        return None  # a look-up in a table without tokens
    if node.op in ("[]", "[]=") and _keeps_tokens(node, length):
        return None
    return f"{node.op} may mix tokens"


def has_tokens(value: Value, length: sympy.Symbol) -> bool:
    return _has(value.shape, length)


def _reads_past(node: Node) -> bool:
    """Whether it is a convolution over tokens that a cache keeps, or one after such a one."""
    before = node.args[0].node if node.op == "nn.Conv1d" else None
    return before is not None and (before.op == "fn.with_past" or _reads_past(before))


def _has(sizes: Any, length: sympy.Symbol) -> bool:
    return any(length in getattr(size, "free_symbols", ()) for size in sizes)


def _keeps_rows(value: Value, length: sympy.Symbol) -> bool:
    """Whether tokens run along one axis, as they are or with samples and heads around them."""
    long = [size for size in value.shape if _has([size], length)]
    return len(long) < 2 and all(not _has([simplify(size / length)], length) for size in long)


def _counts(node: Node, length: sympy.Symbol) -> bool:
    """Whether the number of tokens enters as a number and not as a size."""
    if node.op in _VIEWS:
        return False
    counted = node.op == "mx.arange" and _has(node.output.shape, length)
    return counted or node.op == "shape" or any(_has([n], length) for n in _plain(node.args))


def _plain(args: list[Any]) -> list[Size]:
    return [item for item in args if isinstance(item, sympy.Basic)]


def _keeps_tokens(node: Node, length: sympy.Symbol) -> bool:
    """Whether an index takes every token: a whole slice along their axis, or a look-up in a table without tokens."""
    source, key = node.args[0], node.attrs["key"]
    if not _has(source.shape, length):
        return True
    axis = 0
    for part in key:
        if part is None:
            continue
        if part is Ellipsis:
            return False
        if _has([source.shape[axis]], length) and part != slice(None):
            return False
        axis += 1
    return True
