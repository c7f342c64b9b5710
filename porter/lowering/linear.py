"""Linear layers, matrix products and embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from porter.ir import Value
from porter.ir.builder import simplify
from porter.lowering.axes import axis_of
from porter.lowering.parameters import are_parameters, permuted
from porter.lowering.promotion import category, is_float
from porter.lowering.refusal import absent, refuse
from porter.lowering.registry import Call, lowering


@lowering("aten.linear.default")
def linear(call: Call, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """x @ weight.T + bias; a layer where the parameters are the model's own."""
    build = call.build
    if (
        category(x) >= 2
        and weight.rank == 2
        and are_parameters(weight)
        and (bias is None or are_parameters(bias))
        and x.rank > 0
    ):
        params = {"weight": weight} | ({} if bias is None else {"bias": bias})
        outer, inner = weight.shape
        return build.layer(
            "nn.Linear",
            x,
            params,
            call.shape,
            input_dims=inner,
            output_dims=outer,
            bias=bias is not None,
        )
    turned = build.transpose(weight, (1, 0)) if weight.rank == 2 else weight
    product = product_of(call, x, turned, call.shape)
    return (
        product
        if bias is None
        else build.op("+", product, bias, shape=call.shape, dtype=call.dtype)
    )


def product_of(call: Call, x: Value, y: Value, shape: Sequence[Any]) -> Value:
    """x @ y; of whole numbers, which MLX's matmul does not take, by a function."""
    op = "fn.integer_matmul" if category(x) < 2 else "@"
    return call.build.op(op, x, y, shape=shape, dtype=call.dtype)


@lowering("aten.matmul.default", "aten.mm.default", "aten.bmm.default", "aten.mv.default", "aten.dot.default",
          "aten.inner.default", "aten.vdot.default", "aten.linalg_matmul.default")  # fmt: skip
def matmul(call: Call, x: Value, y: Value) -> Value:
    if "inner" in call.name and 0 in (x.rank, y.rank):
        return call.build.op("*", x, y, shape=call.shape, dtype=call.dtype)
    if "inner" in call.name and y.rank > 1:
        if y.rank > 2:
            raise refuse(call, "the second operand has more than two axes")
        y = call.build.transpose(y, (1, 0))
    if "vdot" in call.name and x.dtype == "complex64":
        x = call.build.op("mx.conjugate", x, shape=x.shape, dtype=x.dtype)
    return product_of(call, x, y, call.shape)


@lowering("aten.addmm.default", "aten.addmv.default", "aten.baddbmm.default")
def addmm(
    call: Call, x: Value, first: Value, second: Value, *, beta: Any = 1, alpha: Any = 1
) -> Value:
    """beta * x + alpha * (first @ second)"""
    build = call.build
    is_whole = _is_whole(call, first, alpha, beta)
    plain = call.name.startswith("aten.addmm.") and alpha == beta == 1 and not is_whole
    if plain and are_parameters(x, second) and x.shape == second.shape[1:]:
        return build.layer(
            "nn.Linear",
            first,
            {"weight": permuted(second, (1, 0)), "bias": x},
            call.shape,
            input_dims=second.shape[0],
            output_dims=second.shape[1],
            bias=True,
        )
    if "addmm" in call.name:
        factors = ({} if alpha == 1 else {"alpha": alpha}) | ({} if beta == 1 else {"beta": beta})
        if beta != 0 and not is_whole and not isinstance(alpha * beta, complex):
            return build.op(
                "mx.addmm", x, first, second, shape=call.shape, dtype=call.dtype, **factors
            )
    product = product_of(call, first, second, (*first.shape[:-1], *second.shape[first.rank - 1 :]))
    if alpha != 1:
        product = build.op("*", alpha, product)
    if beta == 0:
        return product
    added = x if beta == 1 else build.op("*", beta, x)
    return build.op("+", added, product, shape=call.shape, dtype=call.dtype)


def _is_whole(call: Call, x: Value, *factors: Any) -> bool:
    """Whether the product is of whole numbers. Raises where a factor is none: torch cuts it off."""
    is_whole = category(x) < 2
    if is_whole and any(isinstance(factor, float) for factor in factors):
        raise refuse(call, "alpha or beta is a float beside whole numbers")
    return is_whole


@lowering("aten.einsum.default")
def einsum(call: Call, equation: str, operands: Sequence[Value], path: Any = None) -> Value:
    if category(operands[0]) < 2:
        raise refuse(call, "it is over integers")
    letters = _letters(equation.replace(" ", ""), [x.rank for x in operands])
    product = _matrix_product(call, letters, operands)
    if product is not None:
        return product
    return call.build.op("mx.einsum", letters, *operands, shape=call.shape, dtype=call.dtype)


def _matrix_product(call: Call, equation: str, operands: Sequence[Value]) -> Value | None:
    """The equation as `x @ y`, where it is a product of matrices for each sample: attention is found by that."""
    terms, arrow, result = equation.partition("->")
    if not arrow or len(operands) != 2:
        return None
    left, right = terms.split(",")
    if any(len(set(term)) < len(term) for term in (left, right, result)):
        return None
    batch = [c for c in result if c in left and c in right]
    summed, rows, columns = (
        [c for c in left + result if c in a and c in b and c not in without]
        for a, b, without in ((left, right, result), (left, result, right), (right, result, left))
    )
    if not batch or any(len(set(c)) != 1 for c in (summed, rows, columns)):
        return None
    if len(left) != len(batch) + 2 or len(right) != len(batch) + 2:
        return None
    sizes = [
        dict(zip(term, x.shape, strict=True))
        for term, x in zip((left, right), operands, strict=True)
    ]
    if any(sizes[0][c] != sizes[1][c] for c in (*batch, summed[0])):
        return None  # an axis of one is stretched
    build = call.build
    first, second, product = (
        "".join(batch) + a + b
        for a, b in ((rows[0], summed[0]), (summed[0], columns[0]), (rows[0], columns[0]))
    )
    x, y = (
        build.transpose(operand, tuple(map(term.index, wanted)))
        for operand, term, wanted in zip(operands, (left, right), (first, second), strict=True)
    )
    shape = tuple((sizes[0] | sizes[1])[c] for c in product)
    z = build.op("@", x, y, shape=shape, dtype=call.dtype)
    return build.transpose(z, tuple(map(product.index, result)))


def _letters(equation: str, ranks: Sequence[int]) -> str:
    """The equation with an ellipsis' axes as letters that it does not use."""
    if "..." not in equation:
        return equation
    terms, arrow, result = equation.partition("->")
    parts = terms.split(",")
    if not arrow:  # the ellipsis first, then in alphabetical order what occurs once
        result = "..." + "".join(sorted(c for c in terms if c.isalpha() and terms.count(c) == 1))
    hidden = [
        rank - len(part.replace("...", "")) if "..." in part else 0
        for part, rank in zip(parts, ranks, strict=True)
    ]
    free = [letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if letter not in equation]
    axes = "".join(free[: max(hidden)])
    spelled = [
        part.replace("...", axes[len(axes) - count :])
        for part, count in zip(parts, hidden, strict=True)
    ]
    return f"{','.join(spelled)}->{result.replace('...', axes)}"


@lowering("aten.addbmm.default")
def addbmm(
    call: Call, x: Value, first: Value, second: Value, *, beta: Any = 1, alpha: Any = 1
) -> Value:
    """beta * x + alpha * the sum of the batch's products."""
    shape = (first.shape[0], first.shape[1], second.shape[2])
    if _is_whole(call, first, alpha, beta) and call.dtype not in ("int32", "int64"):
        raise refuse(call, "MLX adds up small whole numbers in a wider type")
    product = product_of(call, first, second, shape)
    total = call.build.op("mx.sum", product, shape=shape[1:], dtype=call.dtype, axis=0)
    if alpha != 1:
        total = call.build.op("*", alpha, total)
    if beta == 0:
        return total
    added = x if beta == 1 else call.build.op("*", beta, x)
    return call.build.op("+", added, total, shape=call.shape, dtype=call.dtype)


@lowering("aten.outer.default", "aten.ger.default")
def outer(call: Call, x: Value, y: Value) -> Value:
    return call.build.op("mx.outer", x, y, shape=call.shape, dtype=call.dtype)


@lowering("aten.embedding.default")
def embedding(call: Call, weight: Value, indices: Value, *_: Any, **__: Any) -> Value:
    """The padding index matters to the gradient only."""
    if weight.is_parameter:
        count, dims = weight.shape
        node = call.build.node(
            "nn.Embedding", indices, shapes=[call.shape], dtypes=[call.dtype],
            attrs={"num_embeddings": count, "dims": dims}, params={"weight": weight},
        )  # fmt: skip
        return node.output
    return call.build.op("mx.take", weight, indices, shape=call.shape, dtype=call.dtype, axis=0)


_BAGS = ("sum", "mean", "max")


@lowering(
    "aten.embedding_bag.default", "aten.embedding_bag.padding_idx", "aten._embedding_bag.default",
    "aten._embedding_bag_forward_only.default",
)  # fmt: skip
def embedding_bag(
    call: Call, weight: Value, indices: Value, offsets: Value, scale_grad_by_freq: bool = False, mode: int = 0,
    sparse: bool = False, per_sample_weights: Value | None = None, include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> list[Value]:  # fmt: skip
    """The joined rows; the other three outputs serve the gradient."""
    if include_last_offset:
        count = simplify(offsets.shape[0] - 1)
        offsets = call.build.index(offsets, (slice(None, -1),), (count,))
    options: dict[str, Any] = {} if mode == 0 else {"mode": _BAGS[mode]}
    if per_sample_weights is not None:
        options["scales"] = per_sample_weights
    is_given = padding_idx is not None and (padding_idx >= 0 or "padding_idx" in call.name)
    if is_given and isinstance(padding_idx, int):
        options["padding"] = padding_idx % weight.shape[0]
    size = _bag_size(offsets, indices)
    if size is not None and mode < 2 and "padding" not in options:
        bags = _equal_bags(call, weight, indices, size, per_sample_weights, _BAGS[mode])
    else:
        bags = call.build.op(
            "fn.embedding_bag",
            weight,
            indices,
            offsets,
            shape=call.shape,
            dtype=call.dtype,
            **options,
        )
    return [bags, *(absent(call, place, "the bookkeeping") for place in (1, 2, 3))]


def _bag_size(offsets: Value, indices: Value) -> Any:
    """How many indices each bag has, where all have as many: torch makes offsets of a matrix of indices."""
    node = offsets.node
    if node is None or node.op != "mx.arange" or len(node.args) != 3 or node.args[0] != 0:
        return None
    _, stop, step = node.args
    whole = simplify(stop - indices.shape[0]) == 0 and simplify(step * offsets.shape[0] - stop) == 0
    return step if whole else None


def _equal_bags(
    call: Call, weight: Value, indices: Value, size: Any, scales: Value | None, mode: str
) -> Value:
    build, bags = call.build, (call.shape[0], size)
    places = build.op(".reshape", indices, bags, shape=bags, dtype=indices.dtype)
    rows = (*bags, weight.shape[1])
    found = build.op("mx.take", weight, places, axis=0, shape=rows, dtype=weight.dtype)
    if scales is not None:
        column = (*bags, 1)
        scales = build.op(".reshape", scales, column, shape=column, dtype=scales.dtype)
        found = build.op("*", found, scales, shape=rows, dtype=call.dtype)
    return build.op(f"mx.{mode}", found, axis=1, shape=call.shape, dtype=call.dtype)


@lowering("aten.bilinear.default")
def bilinear(call: Call, x: Value, y: Value, weight: Value, bias: Value | None = None) -> Value:
    if not is_float(call.dtype):
        raise refuse(call, "MLX multiplies only matrices of floats")
    batch = "abcdefgh"[: x.rank - 1]
    product = call.build.op(
        "mx.einsum", f"{batch}i,oij,{batch}j->{batch}o", x, weight, y, shape=call.shape, dtype=call.dtype,
    )  # fmt: skip
    return (
        product
        if bias is None
        else call.build.op("+", product, bias, shape=call.shape, dtype=call.dtype)
    )


@lowering("aten._weight_norm.default")
def weight_norm(call: Call, direction: Value, size: Value, dim: int = 0) -> Value:
    """direction * size / the norm of direction over all axes but `dim`."""
    axes = tuple(
        axis for axis in range(direction.rank) if dim == -1 or axis != axis_of(dim, direction.rank)
    )
    build = call.build
    total = build.op(
        "mx.sum", build.op("mx.square", direction), shape=size.shape if dim != -1 else (), dtype=call.dtype,
        axis=axes, **({} if dim == -1 else {"keepdims": True}),
    )  # fmt: skip
    return build.op(
        "*",
        direction,
        build.op("/", size, build.op("mx.sqrt", total)),
        shape=call.shape,
        dtype=call.dtype,
    )
