"""Softmax attention spelled out with two matmuls (Vaswani et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from sympy import Expr

from porter.ir import Node, Program, Value
from porter.ir.builder import Builder, simplify
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.keep_booleans import keep_booleans
from porter.passes.fuse.match import commuted, is_number, producer, replace_node
from porter.passes.fuse.misses import Missed, note_miss
from porter.passes.fuse.score_masks import LOWEST, NEVER, leads_to_scores, peel_fill, peel_mask

SDPA = "mx.fast.scaled_dot_product_attention"
CAPPED = "fn.soft_capped_attention"
#: The ops that take queries, keys and values, and a mask.
ATTENTION = {SDPA, CAPPED}


def fuse_attention(program: Program) -> int:
    """softmax(scale q k^T + mask) v becomes one call, the scale and the masks folded in. Returns how many were found.

    Scores that something else reads too stay spelled out.
    """
    count = 0
    for node in list(program.nodes):
        if node.op != "@":
            continue
        builder = Builder(node.scope, node.location)
        try:
            columns = _of_columns(program, node, builder)
            found = _attention(program, columns or node, builder)
        except Missed as reason:
            note_miss(program, "attention", node, reason)
            continue
        if found is not None:
            found = builder.transpose(found, _swapped(node)) if columns is not None else found
            replace_node(program, node, builder.nodes, found)
            count += 1
    count += keep_booleans(program)
    if count:
        remove_dead(program)
    return count


def _swapped(product: Node) -> tuple[int, ...]:
    rank = product.output.rank
    return (*range(rank - 2), rank - 1, rank - 2)


def _of_columns(program: Program, node: Node, builder: Builder) -> Node | None:
    """`v @ softmax(...).T`, of features before tokens, as the product of the transposed; None for other products."""
    v, turned = node.args[0], producer(node.args[1], ".transpose")
    if turned is None or not node.output.rank == turned.output.rank == v.rank:
        return None
    swapped = _swapped(node)
    if tuple(turned.args[1:]) != swapped or producer(turned.args[0], "mx.softmax") is None:
        return None
    if len(program.users().get(turned.output, [])) != 1:
        return None
    columns = Node("@", [turned.args[0], builder.transpose(v, swapped)], scope=node.scope)
    shape = tuple(node.output.shape[axis] for axis in swapped)
    columns.outputs = [Value(shape, node.output.dtype, columns)]
    return columns


def _attention(program: Program, node: Node, builder: Builder) -> Value | None:
    users = program.users()

    def alone(value: Value) -> bool:
        return len(users.get(value, [])) == 1 and value not in program.output_values()

    weights, v = node.args
    sunk = _peel_sinks(weights)
    softmax = producer(weights, "mx.softmax") if sunk is None else sunk.softmax
    if softmax is None:
        _check_between(weights)
        return None
    if sunk is None and not leads_to_scores(softmax.args[0], "mx.tanh", "-", "mx.maximum"):
        return None
    if softmax.kwargs.get("axis") not in (-1, softmax.output.rank - 1):
        raise Missed("its softmax is not over the keys")
    if not alone(softmax.output):
        raise Missed("something else reads its weights")
    scores, scale = softmax.args[0] if sunk is None else sunk.scores, 1.0
    masks: list[Value] = []
    fills: list[float] = []  # what hides keys
    factors: list[Value | Expr] = []  # what the scores of a query are multiplied with
    cap: float | None = None
    while True:
        if not alone(scores):
            raise Missed("something else reads its scores")
        capped = _peel_cap(scores)
        if capped is not None:
            if cap is not None or scale != 1.0 or factors:
                raise Missed("its scores are scaled after their soft cap")
            scores, cap = capped
            continue
        filled = peel_fill(scores, builder)
        if filled is not None:
            if cap is not None:
                raise Missed("its mask comes before its soft cap")
            if scale <= 0 or factors:
                raise Missed("its scale applies to the mask too")
            scores, kept, fill = filled
            fills.append(fill)
            masks.append(kept)
            continue
        term = peel_mask(scores, builder, alone)
        if term is not None:
            if cap is not None:
                raise Missed("its mask comes before its soft cap")
            if factors:
                raise Missed("its scale applies to the mask too")
            scores, mask = term
            masks.append(mask if scale == 1.0 else builder.op("*", mask, scale))
            continue
        floor = producer(scores, "mx.maximum")
        if floor is not None and is_number(floor.args[1]) and floor.args[1] <= NEVER:
            scores = floor.args[0]  # what is hidden stays hidden
            continue
        scaled = producer(scores, "*", "/")
        if scaled is not None and scaled.op == "*" and is_number(scaled.args[0]):
            scaled.args.reverse()
        if scaled is not None and is_number(scaled.args[1]):
            scale *= scaled.args[1] if scaled.op == "*" else 1 / scaled.args[1]
            scores = scaled.args[0]
            continue
        if cap is None and scaled is not None and isinstance(scaled.args[1], Expr):  # by a length
            factors.append(scaled.args[1] if scaled.op == "*" else 1 / scaled.args[1])
            scores = scaled.args[0]
            continue
        rows = _row_scale(scaled) if cap is None else None
        if rows is not None:
            scores, factor = rows
            factors.append(factor)
            continue
        break
    product = producer(scores, "@")
    if product is None:
        between = scores.node.op if scores.node is not None else "an input"
        raise Missed(f"{between} stands between its scores and the softmax")
    q, keys = product.args
    rank = node.output.rank
    swapped = (*range(rank - 2), rank - 1, rank - 2)
    if rank not in (3, 4, 5) or keys.rank != rank:
        raise Missed(f"it has {rank} axes")
    flipped = producer(keys, ".transpose")
    if flipped is None:
        k = builder.transpose(keys, swapped)
    else:
        k = builder.transpose(flipped.args[0], [flipped.args[1:][axis] for axis in swapped])
    q, scale = _without_scale(q, scale)
    k, scale = _without_scale(k, scale)
    if not all(isinstance(x, Value) and x.rank == rank for x in (q, k, v)):
        raise Missed(f"it has {rank} axes")
    for factor in factors:
        q = builder.op("*", q, factor, shape=q.shape, dtype=q.dtype)
    total: Value | None = None
    for mask in reversed(masks):
        total = mask if total is None else _both(builder, total, mask, max(fills, default=-inf))
    if total is not None and total.rank < rank:
        total = builder.reshape(total, (1,) * (rank - total.rank) + total.shape)
    if sunk is not None and (cap is not None or rank != 4):
        raise Missed("it has sinks, and a soft cap or not four axes")
    if cap is not None and rank == 4:
        return builder.op(
            CAPPED, q, k, v, scale=scale * cap, cap=cap, mask=total, shape=node.output.shape,
            dtype=node.output.dtype,
        )  # fmt: skip
    if cap is not None:
        raise Missed(f"it has a soft cap and {rank} axes")
    if rank == 5:
        if k.shape[:3] != v.shape[:3] or q.shape[:3] != k.shape[:3]:
            raise Missed("it has 5 axes and groups of heads")
        return _in_parts(builder, (q, k, v), total, scale, node.output)
    if rank == 4 and k.shape[1] != v.shape[1]:  # MLX repeats both or neither
        raise Missed("its values are shared by heads that have keys of their own")
    if rank == 3:  # the batch takes the place of heads
        q, k, v = (_with_batch(builder, x) for x in (q, k, v))
        total = None if total is None else _with_batch(builder, total)
    shape = (*(1,) * (4 - rank), *node.output.shape)
    sinks = {} if sunk is None else {"sinks": sunk.sinks}
    result = builder.op(
        SDPA, q, k, v, scale=scale, mask=total, shape=shape, dtype=node.output.dtype, **sinks
    )
    return result if rank == 4 else builder.index(result, (0,), node.output.shape)


def _row_scale(scaled: Node | None) -> tuple[Value, Value] | None:
    """(scores, factor) where each query's scores are multiplied with one number, as a head's temperature."""
    if scaled is None or scaled.op != "*":
        return None
    for inner, factor in commuted(scaled):
        if (
            isinstance(factor, Value)
            and isinstance(inner, Value)
            and inner.shape == scaled.output.shape
            and ((factor.rank >= 2 and factor.shape[-1] == 1) or set(factor.shape) <= {1})
            and leads_to_scores(inner)
            and not leads_to_scores(factor)
        ):
            return inner, factor
    return None


def _both(builder: Builder, a: Value, b: Value, fill: float) -> Value:
    """Two masks as one: keys that both keep, sums of what is added; `fill` hides keys in the source.

    A row that sees no key is an average there where the fill is a number, so it takes all scores of the row to one number here.
    """
    if (a.dtype == "bool") == (b.dtype == "bool"):
        return builder.op("&" if a.dtype == "bool" else "+", a, b)
    kept, added = (a, b) if a.dtype == "bool" else (b, a)
    if fill > -inf:
        fill = max(min(fill, -1e9), LOWEST.get(added.dtype, -inf))
    return builder.op("mx.where", kept, added, fill, dtype=added.dtype)


def _with_batch(builder: Builder, x: Value) -> Value:
    return builder.op("mx.expand_dims", x, 0, shape=(1, *x.shape), dtype=x.dtype)


def _in_parts(
    builder: Builder, operands: tuple[Value, ...], mask: Value | None, scale: float, out: Value
) -> Value:
    """Attention within each part of a sample (patches, windows, frames): the parts are samples meanwhile."""
    count = simplify(out.shape[0] * out.shape[1])
    parts = [builder.reshape(x, (count, *x.shape[2:])) for x in operands]
    if mask is not None and mask.shape[:2] == (1, 1):
        mask = builder.reshape(mask, (1, *mask.shape[2:]))
    elif mask is not None:
        wide = (*out.shape[:2], *mask.shape[2:])
        if mask.shape != wide:
            mask = builder.op("mx.broadcast_to", mask, wide, shape=wide, dtype=mask.dtype)
        mask = builder.reshape(mask, (count, *mask.shape[2:]))
    shape = (count, *out.shape[2:])
    result = builder.op(SDPA, *parts, scale=scale, mask=mask, shape=shape, dtype=out.dtype)
    return builder.reshape(result, out.shape)


def _check_between(weights: Value) -> None:
    """Whether attention weights are changed before the values are summed by them."""
    node = producer(weights, "*", "/", "mx.where", "+")
    for side in node.args if node is not None else ():
        softmax = producer(side, "mx.softmax")
        if softmax is not None and leads_to_scores(softmax.args[0], "mx.tanh", "-", "mx.maximum"):
            raise Missed(f"{node.op if node else ''} stands between its softmax and the values")


@dataclass(frozen=True, slots=True)
class _Sunk:
    """Attention where each head has a learned score beside those of the keys, whose weight nothing gets."""

    softmax: Node
    scores: Value
    sinks: Value


def _peel_sinks(weights: Value) -> _Sunk | None:
    """softmax(concatenate([scores, sinks])) without its last column, the largest score taken off first or not."""
    cut = producer(weights, "[]")
    softmax = producer(cut.args[0], "mx.softmax") if cut is not None else None
    if cut is None or softmax is None or cut.attrs["key"][-1] != slice(None, -1, None):
        return None
    logits = softmax.args[0]
    shifted = producer(logits, "-")
    if shifted is not None:
        largest = producer(shifted.args[1], "mx.max")
        if largest is None or largest.args[0] is not shifted.args[0]:
            return None
        logits = shifted.args[0]
    joined = producer(logits, "mx.concatenate")
    if joined is None or len(joined.args[0]) != 2 or joined.kwargs.get("axis") != 3:
        return None
    scores, column = joined.args[0]
    wide = producer(column, "mx.broadcast_to")
    sinks = producer(wide.args[0] if wide is not None else column, ".reshape")
    heads = scores.shape[1]
    if sinks is None or sinks.output.shape != (1, heads, 1, 1) or sinks.args[0].shape != (heads,):
        return None
    return _Sunk(softmax, scores, sinks.args[0])


def _peel_cap(scores: Value) -> tuple[Value, float] | None:
    """(what tanh reads, c) of c * tanh(...)."""
    scaled = producer(scores, "*")
    for inner, cap in commuted(scaled) if scaled is not None else ():
        tanh = producer(inner, "mx.tanh")
        if tanh is not None and is_number(cap):
            return tanh.args[0], float(cap)
    return None


def _without_scale(x: Value, scale: float) -> tuple[Value, float]:
    scaled = producer(x, "*", "/")
    if scaled is not None and is_number(scaled.args[1]):
        return scaled.args[0], scale * (scaled.args[1] if scaled.op == "*" else 1 / scaled.args[1])
    return x, scale
