"""A convolution over tokens that looks back alone: padded at the left, or at both ends and cut."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from porter.ir import Node, Program, Size, Value
from porter.ir.builder import Builder, simplify
from porter.ir.evaluate import Evaluator
from porter.ir.ops import ELEMENTWISE
from porter.lowering.parameters import permuted, reshaped
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import producer, replace_node

#: Views that a weight goes through where a convolution is called as a function.
_VIEWS = (".transpose", ".reshape", ".squeeze", "mx.expand_dims")


def fuse_causal_conv(program: Program) -> int:
    """A causal depthwise nn.Conv1d reads its tokens behind those before them (`with_past`); so does a shift by one token.

    Returns how many. That stands in the place of padding and of what is cut off again; a cache can then keep the last tokens.
    Convolutions with a stride or a dilation, and those over channels together, stay as they are.
    """
    count = 0
    for node in list(program.nodes):
        if node.op in ("mx.conv1d", "nn.Conv1d"):
            count += _fuse(program, node) or _fuse_row(program, node)
        elif node.op in ("mx.pad", "[]"):
            count += _shift(program, node)
        elif node.op == "mx.concatenate":
            count += _shift_behind_zeros(program, node)
    if count:
        remove_dead(program)
    return count


def pad_uncached(program: Program) -> int:
    """Tokens behind those before them are padded at the left where no cache keeps any. Returns how many.

    That is what `with_past` and `token_before` do without a cache.
    """
    count = 0
    for node in list(program.nodes):
        if node.op not in ("fn.with_past", "fn.token_before") or any(
            "cache" in value.dtype for value in node.inputs()
        ):
            continue
        x, build = node.args[0], Builder(node.scope, node.location)
        before = 1
        if node.op == "fn.with_past":
            before = int(node.args[1].shape[1]) - 1 + node.kwargs.get("more", 0)
        shape = (x.shape[0], simplify(x.shape[1] + before), x.shape[2])
        padded = build.op("mx.pad", x, [(0, 0), (before, 0), (0, 0)], shape=shape, dtype=x.dtype)
        if node.op == "fn.token_before":
            padded = build.index(padded, (slice(None), slice(None, -1)), x.shape)
        replace_node(program, node, build.nodes, padded)
        count += 1
    return count


def _shift(program: Program, node: Node) -> bool:
    """Tokens moved on by one: all but the last, behind zeros; padded at the left first, or last."""
    last = node.output
    source = producer(node.args[0], "mx.pad", "[]")
    if source is None or last.rank != 3 or source.op == node.op:
        return False
    x = source.args[0]
    pad, cut = (node, source) if node.op == "mx.pad" else (source, node)
    if x.shape != last.shape or isinstance(x.shape[1], int):
        return False
    widths = [tuple(width) for width in pad.args[1]]
    if pad.kwargs or len(pad.args) != 2 or widths != [(0, 0), (1, 0), (0, 0)]:
        return False
    key, before = (*cut.attrs["key"], *[slice(None)] * 3)[:3], cut.args[0].shape[1]
    stop = key[1].stop if isinstance(key[1], slice) else None
    if key[0] != slice(None) or key[2] != slice(None) or key[1] != slice(None, stop):
        return False
    if stop is None or (stop + before if isinstance(stop, int) else stop) != before - 1:
        return False
    build = Builder(node.scope, node.location)
    y = build.op("fn.token_before", x, shape=x.shape, dtype=x.dtype)
    replace_node(program, node, build.nodes, y)
    return True


def _shift_behind_zeros(program: Program, node: Node) -> bool:
    """The same, joined with a row of zeros."""
    parts = node.args[0]
    cut = producer(parts[1], "[]") if len(parts) == 2 else None
    zeros = producer(parts[0], "mx.zeros")
    if cut is None or zeros is None or node.kwargs.get("axis") != 1 or node.output.rank != 3:
        return False
    x, key = cut.args[0], (*cut.attrs["key"], slice(None))[:3]
    whole = (key[0], key[2]) == (slice(None), slice(None)) and zeros.output.shape[1] == 1
    last = key[1].stop if isinstance(key[1], slice) else None
    if not whole or x.shape != node.output.shape or key[1] != slice(None, last):
        return False
    if last != -1 and simplify(x.shape[1] - 1 - (last or 0)) != 0:
        return False
    build = Builder(node.scope, node.location)
    y = build.op("fn.token_before", x, shape=x.shape, dtype=x.dtype)
    replace_node(program, node, build.nodes, y)
    return True


def _fuse_row(program: Program, last: Node) -> bool:
    """Convolutions one after the other, padded at the left before the first, for what all of them look back on."""
    users = program.users()
    row, x = [last], last.args[0]
    while (conv := _behind_turns(x, users)) is not None:
        row.insert(0, conv)
        x = conv.args[0]
    if len(row) < 2 or not all(_is_plain(conv) for conv in row):
        return False
    first = row[0]
    tokens, left, turned = _without_padding(first.args[0])
    reach = [int(conv.attrs["kernel_size"]) - 1 for conv in row]
    if left != sum(reach) or first.attrs.get("groups", 1) != first.attrs["in_channels"]:
        return False
    _mark_turns(tokens, first)
    build = Builder(first.scope, first.location)
    tokens = build.transpose(tokens, (0, 2, 1)) if turned else tokens
    batch, length, channels = tokens.shape
    size = simplify(length + left)
    y = build.op(
        "fn.with_past", tokens, first.params["weight"], shape=(batch, size, channels),
        dtype=tokens.dtype, more=left - reach[0],
    )  # fmt: skip
    for conv, less in zip(row, reach, strict=True):
        build.scope, build.location, size = conv.scope, conv.location, simplify(size - less)
        y = build.layer(conv.op, y, dict(conv.params), (batch, size, conv.output.shape[2]), **conv.attrs)  # fmt: skip
    replace_node(program, last, build.nodes, y)
    return True


def _behind_turns(x: Value, users: dict[Value, list[Node]]) -> Node | None:
    """The convolution whose result this is, turned there and back again."""
    turns = 0
    while len(users[x]) == 1 and (turn := producer(x, ".transpose")) is not None:
        if tuple(turn.args[1:]) != (0, 2, 1):
            return None
        turns, x = turns + 1, turn.args[0]
    return producer(x, "nn.Conv1d") if turns % 2 == 0 and len(users[x]) == 1 else None


def _is_plain(conv: Node) -> bool:
    options = {**conv.attrs, **conv.kwargs}
    return conv.is_layer and all(
        options.get(name, default) == default
        for name, default in (("stride", 1), ("dilation", 1), ("padding", 0))
    )


def _fuse(program: Program, conv: Node) -> bool:
    options = {**conv.attrs, **conv.kwargs}
    if any(options.get(name, 1) != 1 for name in ("stride", "dilation")):
        return False
    weight = conv.params["weight"] if conv.is_layer else _stored(conv.args[1])
    if weight is None or weight.rank != 3 or weight.shape[2] != 1:
        return False
    size, channels = int(weight.shape[1]), int(weight.shape[0])
    if size < 2 or options.get("groups", 1) != channels:
        return False
    tokens, left, turned = _without_padding(conv.args[0])
    last, axis, bias = _cut(program, conv, tokens.shape[2 if turned else 1])
    if last is None or left + options.get("padding", 0) != size - 1:
        return False
    params = dict(conv.params) or {"weight": weight}
    if bias is not None:
        params["bias"] = bias
    _mark_turns(tokens, conv)
    build = Builder(conv.scope, conv.location)
    tokens = build.transpose(tokens, (0, 2, 1)) if turned else tokens
    batch, length = tokens.shape[:2]
    behind = build.op(
        "fn.with_past", tokens, weight, shape=(batch, simplify(length + size - 1), channels), dtype=tokens.dtype,
    )  # fmt: skip
    y = build.layer(
        "nn.Conv1d", behind, params, (batch, length, channels), in_channels=channels, out_channels=channels,
        kernel_size=size, stride=1, padding=0, dilation=1, groups=channels, bias="bias" in params,
    )  # fmt: skip
    if axis == 2:
        y = build.transpose(y, (0, 2, 1))
        build.nodes[-1].layout = True
    replace_node(program, last, build.nodes, y)
    return True


def _mark_turns(tokens: Value, conv: Node) -> None:
    """The source turns features before tokens for its convolution alone: MLX's wants no such transposes."""
    stack, seen = [tokens], set()
    depth = len(conv.scope) - conv.is_layer
    while stack:
        node = stack.pop().node
        if node is None or node in seen or node.scope[:depth] != conv.scope[:depth]:
            continue
        seen.add(node)
        if node.op == ".transpose" and tuple(node.args[1:]) == (0, 2, 1):
            node.layout = True
        elif node.op not in ELEMENTWISE and node.op not in ("mx.split", "[]"):
            continue
        stack += node.inputs()


def _stored(value: Any) -> Value | None:
    """The parameter that is viewed as a weight (channels, size, 1), stored as such."""
    start = value
    while (node := producer(start, *_VIEWS)) is not None:
        start = node.args[0]
    if not isinstance(start, Value) or not start.is_parameter or start.rank not in (2, 3):
        return None
    if start is value:
        return value
    channels, size, _ = value.shape
    direct = start if start.rank == 2 else permuted(start, (0, 2, 1))
    if start.rank == 3 and start.shape != (channels, 1, size):
        return None
    stored = reshaped(direct, (channels, size, 1)) if start.rank == 2 else direct
    numbers = mx.arange(channels * size).reshape(start.shape)
    viewed = np.array(Evaluator({start: numbers}, {})(value))
    return stored if (viewed.ravel() == np.arange(channels * size)).all() else None


def _without_padding(x: Value) -> tuple[Value, int, bool]:
    """What a pad at the left adds to, how much, and whether tokens are its last axis; x itself where there is none."""
    start, axis = x, 1
    while (node := producer(start, ".transpose")) is not None and tuple(node.args[1:]) == (0, 2, 1):
        start, axis = node.args[0], 3 - axis
    pad = producer(start, "mx.pad")
    if pad is None or pad.kwargs or len(pad.args) != 2:
        return x, 0, False
    widths = [tuple(width) for width in pad.args[1]]
    left, right = widths.pop(axis)
    if any(width != (0, 0) for width in widths) or right != 0 or not isinstance(left, int):
        return x, 0, False
    return pad.args[0], left, axis == 2


def _cut(program: Program, conv: Node, length: Size) -> tuple[Node | None, int, Value | None]:
    """The last node before which nothing but a bias, a transpose and the cut to `length` tokens happens.

    Also the axis that its tokens are, and the bias.
    """
    users = program.users()
    node, axis, bias = conv, 1, None
    while True:
        value = node.output
        if value.shape[axis] == length and (conv.is_layer or bias is not None):
            return node, axis, bias
        readers = users.get(value, [])
        after = readers[0] if len(readers) == 1 else None
        if after is None or value in program.output_values():
            break
        if after.op == ".transpose" and tuple(after.args[1:]) == (0, 2, 1):
            axis = 3 - axis
        elif after.op == "+" and bias is None and not conv.is_layer:
            other = next((v for v in after.args if v is not value), None)
            if (
                not isinstance(other, Value)
                or not other.is_parameter
                or other.shape != (value.shape[2],)
            ):
                break
            bias = other
        elif after.op == "[]" and _takes_first(after, axis, length):
            pass
        else:
            break
        node = after
    return (node if node.output.shape[axis] == length else None), axis, bias


def _takes_first(node: Node, axis: int, length: Size) -> bool:
    key = list(node.attrs["key"])
    if len(key) <= axis or any(part != slice(None) for a, part in enumerate(key) if a != axis):
        return False
    part, size = key[axis], node.args[0].shape[axis]
    if not isinstance(part, slice) or part.start not in (None, 0) or part.step not in (None, 1):
        return False
    stop = part.stop
    return bool(stop == length or (isinstance(stop, int) and stop < 0 and size + stop == length))
