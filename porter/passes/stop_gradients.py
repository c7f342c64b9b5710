"""Whole numbers made of floats (the places of the best experts, cells of a map) have no gradient, as in torch."""

from __future__ import annotations

from porter.ir import Node, Program, Value


def stop_gradients(program: Program) -> int:
    """Puts `mx.stop_gradient` around those that floats come out of again: MLX goes back through an index or a cast.

    It refuses to differentiate by indices, and takes a cast to whole numbers and back for the identity. Returns how many.
    """
    made = _reaching_floats(program)
    mapping: dict[Value, Value] = {}
    nodes: list[Node] = []
    for node in program.nodes:
        nodes.append(node)
        for value in node.outputs:
            if value in made:
                stopped = Value(
                    value.shape, value.dtype, None, value.name, value.origin, value.permute
                )
                stop = Node("mx.stop_gradient", [value], outputs=[stopped])
                stop.scope, stop.location = node.scope, node.location
                stopped.node, value.name, value.origin = stop, None, None
                mapping[value] = stopped
                nodes.append(stop)
    for node in nodes:
        if node.op != "mx.stop_gradient":
            node.replace_inputs(lambda value: mapping.get(value, value))
    program.nodes = nodes
    program.outputs = [(name, mapping.get(value, value)) for name, value in program.outputs]
    return len(mapping)


def _reaching_floats(program: Program) -> set[Value]:
    """The whole numbers that a float with a gradient gives, and that go through whole numbers to a float."""
    floats = [*program.inputs, *program.parameters.values()]
    traced = {value for value in floats if _is_float(value)}
    whole: dict[Value, set[Value]] = {}  # -> those that floats have given directly
    found: set[Value] = set()
    for node in program.nodes:
        if node.op == "mx.stop_gradient":
            continue
        inputs = node.inputs()
        sources = set().union(*(whole.get(value, ()) for value in inputs))
        is_traced = any(value in traced for value in inputs)
        for value in node.outputs:
            if _is_float(value):
                found |= sources
                if is_traced:
                    traced.add(value)
            elif value.dtype == "bool":
                if is_traced or sources:  # MLX goes back through a condition, too
                    traced.add(value)
            elif value.dtype.startswith(("int", "uint")) and (is_traced or sources):
                whole[value] = {value} if is_traced else sources
    return found


def _is_float(value: Value) -> bool:
    return value.dtype.startswith(("float", "bfloat", "complex"))
