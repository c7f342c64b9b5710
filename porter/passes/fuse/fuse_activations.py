"""Activations spelled out by their formula."""

from __future__ import annotations

import math

from porter.ir import Node, Program, Value
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import commuted, is_number, producer


def fuse_activations(program: Program) -> int:
    """silu = x * sigmoid(x), the quick GELU = x * sigmoid(1.702 x), and GELU's erf and tanh forms get their names.

    Returns how many were found.
    """
    count = 0
    for node in program.nodes:
        found = _activation(node)
        if found is not None:
            node.op, node.args = found[0], [found[1]]
            count += 1
    if count:
        remove_dead(program)
    return count


def _activation(node: Node) -> tuple[str, Value] | None:
    if node.op != "*" or len(node.args) != 2:
        return None
    for x, gate in commuted(node):
        sigmoid = producer(gate, "mx.sigmoid")
        if isinstance(x, Value) and sigmoid is not None:
            if sigmoid.args[0] is x:
                return "nn.silu", x
            scaled = producer(sigmoid.args[0], "*")
            if scaled is not None and any(
                a is x and is_number(b, 1.702) for a, b in commuted(scaled)
            ):
                return "nn.gelu_fast_approx", x
        found = _gelu(x, gate)
        if found is not None:
            return found
    return None


def _gelu(half: object, gate: object) -> tuple[str, Value] | None:
    """(0.5 x) * (1 + erf(x / sqrt 2)), or with tanh(sqrt(2 / pi) (x + 0.044715 x^3)); Hendrycks and Gimpel 2016."""
    scaled = producer(half, "*")
    shifted = producer(gate, "+")
    if scaled is None or shifted is None:
        return None
    x = next((a for a, b in commuted(scaled) if is_number(b, 0.5) and isinstance(a, Value)), None)
    inner = next((a for a, b in commuted(shifted) if is_number(b, 1.0)), None)
    if x is None or inner is None:
        return None
    erf = producer(inner, "mx.erf")
    if erf is not None:
        argument = producer(erf.args[0], "*", "/")
        if argument is not None and argument.args[0] is x and is_number(argument.args[1]):
            factor = argument.args[1] if argument.op == "*" else 1 / argument.args[1]
            return ("nn.gelu", x) if is_number(factor, math.sqrt(0.5)) else None
    tanh = producer(inner, "mx.tanh")
    outer = producer(tanh.args[0], "*") if tanh is not None else None
    if outer is None:
        return None
    for total, factor in commuted(outer):
        sum_ = producer(total, "+")
        if not is_number(factor, math.sqrt(2 / math.pi)) or sum_ is None:
            continue
        for first, cubic in commuted(sum_):
            term = producer(cubic, "*")
            if (
                first is x
                and term is not None
                and any(is_number(b, 0.044715) and _is_cube(a, x) for a, b in commuted(term))
            ):
                return "nn.gelu_approx", x
    return None


def _is_cube(value: object, x: Value) -> bool:
    power = producer(value, "**")
    return power is not None and power.args[0] is x and is_number(power.args[1], 3.0)
