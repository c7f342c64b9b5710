"""Where the author stops a gradient (`x.detach()`) a fine-tune of the port stops it too.

A straight-through estimator, `x + (rounded - x).detach()`, is `rounded` with the gradient of x; a detection model refines its
boxes layer by layer, each by a loss of its own.
"""

from __future__ import annotations

from porter.ir import Program, Value


def keep_stops(program: Program) -> int:
    """Leaves `mx.stop_gradient` where a gradient by a floating input, or by a layer's weights, would pass.

    Returns how many others went.
    The others hold tables and maxima that softmax takes off: no gradient comes of them, and fusions know them without.
    """
    users = program.users()
    mapping: dict[Value, Value] = {}
    passing = {value for value in program.inputs if _is_float(value)}
    for node in program.nodes:
        if node.op == "mx.stop_gradient":
            inner = node.args[0]
            kept = inner in passing and (inner.node is None or inner.node.op != "mx.max")
            if not kept and not _is_estimator(inner, node.output, users, program):
                mapping[node.output] = inner
        elif (node.is_layer and node.params) or any(value in passing for value in node.inputs()):
            passing |= {value for value in node.outputs if _is_float(value)}
    program.replace(mapping)
    return len(mapping)


def _is_estimator(inner: Value, output: Value, users: dict[Value, list], program: Program) -> bool:
    """Whether a difference is stopped that its subtrahend is added to."""
    difference = inner.node
    subtrahend = difference.args[1] if difference is not None and difference.op == "-" else None
    added = users.get(output, [])
    straight = bool(added) and all(u.op == "+" and subtrahend in u.args for u in added)
    return straight and output not in program.output_values()


def _is_float(value: Value) -> bool:
    return value.dtype.startswith(("float", "bfloat", "complex"))
