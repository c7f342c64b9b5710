"""Activations spelled out by their formula."""

from __future__ import annotations

import math
from typing import Any

from porter.ir import Node, Program, Value
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import commuted, is_number, producer


def fuse_activations(program: Program) -> int:
    """silu = x * sigmoid(x), the quick GELU, GELU's erf and tanh forms, mish, hardswish and log-softmax get their names.

    Returns how many were found.
    """
    count = 0
    users = program.users()
    for node in program.nodes:
        softmax = producer(node.args[0], "mx.softmax") if node.op == "mx.log" else None
        if softmax is not None and len(users[softmax.output]) == 1:
            node.op, node.args = "nn.log_softmax", list(softmax.args)
            node.kwargs = {"axis": softmax.kwargs["axis"]}
            count += 1
            continue
        found = _activation(node)
        if found is not None:
            node.op, node.args = found[0], [found[1]]
            count += 1
    if count:
        remove_dead(program)
    return count


def _activation(node: Node) -> tuple[str, Value] | None:
    if node.op not in ("*", "/") or len(node.args) != 2:
        return None
    for x, gate in commuted(node) if node.op == "*" else ():
        sigmoid = producer(gate, "mx.sigmoid")
        if isinstance(x, Value) and sigmoid is not None:
            if sigmoid.args[0] is x:
                return "nn.silu", x
            scaled = producer(sigmoid.args[0], "*")
            if scaled is not None and any(
                a is x and is_number(b, 1.702) for a, b in commuted(scaled)
            ):
                return "nn.gelu_fast_approx", x
        tanh = producer(gate, "mx.tanh")
        soft = producer(tanh.args[0], "nn.softplus") if tanh is not None else None
        if isinstance(x, Value) and soft is not None and soft.args[0] is x:
            return "nn.mish", x
    number, factors = _factors(node)
    if len(factors) == 2:
        for x, gate in (factors, factors[::-1]):
            clipped = producer(gate, "nn.relu6") if is_number(number, 1 / 6) else None
            shifted = producer(clipped.args[0], "+") if clipped is not None else None
            if shifted and any(a is x and is_number(b, 3.0) for a, b in commuted(shifted)):
                return "nn.hardswish", x
            found = _gelu(x, gate) if is_number(number, 0.5) else None
            if found is not None:
                return found
    return None


def _factors(item: Any, depth: int = 0) -> tuple[float, list[Any]]:
    """A product as a number and the arrays that it is made of, at most two levels of products down."""
    node = producer(item, "*", "/") if isinstance(item, Value) else item
    if not isinstance(node, Node) or depth > 2:
        return 1.0, [item]
    a, b = node.args
    if node.op == "/":
        if not is_number(b) or not b:
            return 1.0, [item]
        number, factors = _factors(a, depth + 1)
        return number / b, factors
    total = 1.0
    every: list[Any] = []
    for side in (a, b):
        number, factors = (side, []) if is_number(side) else _factors(side, depth + 1)
        total, every = total * number, every + factors
    return total, every


def _gelu(x: Value, gate: Value) -> tuple[str, Value] | None:
    """x (1 + erf(x / sqrt 2)) / 2, or with tanh(sqrt(2 / pi) (x + 0.044715 x^3)); Hendrycks and Gimpel 2016."""
    shifted = producer(gate, "+")
    if shifted is None:
        return None
    inner = next((a for a, b in commuted(shifted) if is_number(b, 1.0)), None)
    if inner is None:
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
    number, factors = _factors(outer)
    if is_number(number, math.sqrt(2 / math.pi)) and len(factors) == 2 and factors[0] is x:
        more = producer(factors[1], "+")  # x (1 + 0.044715 x^2)
        for squared, one in commuted(more) if more is not None else ():
            number, factors = _factors(squared)
            if is_number(one, 1.0) and is_number(number, 0.044715) and factors == [x, x]:
                return "nn.gelu_approx", x
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
    if power is not None:
        return power.args[0] is x and is_number(power.args[1], 3.0)
    number, factors = _factors(value)
    return is_number(number, 1.0) and len(factors) == 3 and all(factor is x for factor in factors)
