"""A Linear spelled as a product: of its weight with turned tokens, or of tokens with its turned weight."""

from __future__ import annotations

from porter.ir import Program, Value
from porter.ir.builder import Builder
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import producer, replace_node


def fuse_linear(program: Program) -> int:
    """`weight @ x.transpose(0, 2, 1)`, and a bias (out, 1) after it, is nn.Linear of x, turned. Returns how many.

    `x @ weight.T` is one as it stands.
    """
    count = _on_turned_weights(program)
    for node in list(program.nodes):
        if node.op != "@" or not isinstance(node.args[0], Value) or not node.args[0].is_parameter:
            continue
        weight, turned = node.args[0], producer(node.args[1], ".transpose")
        if weight.rank != 2 or turned is None or tuple(turned.args[1:]) != (0, 2, 1):
            continue
        last, params = node, {"weight": weight}
        readers = program.users().get(node.output, [])
        if (
            len(readers) == 1
            and readers[0].op == "+"
            and node.output not in program.output_values()
        ):
            other = next((v for v in readers[0].args if v is not node.output), None)
            column = producer(other, "mx.expand_dims", ".reshape")
            bias = column.args[0] if column is not None else None
            stored = (
                isinstance(bias, Value) and bias.is_parameter and bias.shape == weight.shape[:1]
            )
            if stored and isinstance(other, Value) and other.shape == (weight.shape[0], 1):
                last = readers[0]
                params["bias"] = column.args[0]  # type: ignore[union-attr]
        build = Builder(node.scope, node.location)
        x = turned.args[0]
        y = build.layer(
            "nn.Linear", x, params, (*x.shape[:2], weight.shape[0]), input_dims=weight.shape[1],
            output_dims=weight.shape[0], bias="bias" in params,
        )  # fmt: skip
        y = build.transpose(y, (0, 2, 1))
        replace_node(program, last, build.nodes, y)
        count += 1
    if count:
        remove_dead(program)
    return count


def _on_turned_weights(program: Program) -> int:
    count = 0
    users = program.users()
    for node in list(program.nodes):
        turned = producer(node.args[1], ".transpose") if node.op == "@" else None
        weight = turned.args[0] if turned is not None else None
        if not isinstance(weight, Value) or not weight.is_parameter or weight.rank != 2:
            continue
        if any(other.op not in (".transpose", "nn.Embedding") for other in users[weight]):
            continue  # which is read as it is stored, too
        build = Builder(node.scope, node.location)
        y = build.layer(
            "nn.Linear", node.args[0], {"weight": weight}, node.output.shape, input_dims=weight.shape[1],
            output_dims=weight.shape[0], bias=False,
        )  # fmt: skip
        replace_node(program, node, build.nodes, y)
        count += 1
    return count
