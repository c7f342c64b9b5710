"""Straight-through estimators: `x + (rounded - x).detach()` is `rounded`, with the gradient of x."""

from __future__ import annotations

from porter.ir import Program, Value


def keep_estimators(program: Program) -> int:
    """Only a fine-tune sees where a gradient stops: where an estimator hangs on it, it stays. Returns how many others went."""
    users = program.users()
    mapping: dict[Value, Value] = {}
    for node in program.nodes:
        if node.op != "mx.stop_gradient":
            continue
        difference = node.args[0].node
        subtrahend = difference.args[1] if difference is not None else None
        added = users.get(node.output, [])
        straight = added and all(user.op == "+" and subtrahend in user.args for user in added)
        if not straight or node.output in program.output_values():
            mapping[node.output] = node.args[0]
    program.replace(mapping)
    return len(mapping)
