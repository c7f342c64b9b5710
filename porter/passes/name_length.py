"""A number of tokens that loops fixed: named while the loops are looked for, and free again where they are gone."""

from __future__ import annotations

from typing import Any

import sympy

from porter.ir import Node, Program, Size
from porter.ir.ops import ELEMENTWISE
from porter.passes.cache.tokenwise import STATEFUL, has_tokens
from porter.passes.positions import length_symbol

_NAME = "unrolled_length"
#: Ops whose numbers are axes, and counts or positions that no length is.
_SIZELESS = {".transpose", ".squeeze", "mx.expand_dims", "mx.split", "mx.repeat"} | ELEMENTWISE


def name_length(program: Program) -> int:
    """Every size that is the fixed number of tokens becomes a symbol. Returns how many arrays have it.

    A source's loop over tokens is unrolled by the export, for as many tokens as the example has. Where no
    parameter has a size of that number, nor features are split there, it stands for the tokens wherever it occurs.
    """
    number = program.unrolled
    used = {size for value in program.parameters.values() for size in value.shape}
    for node in program.nodes:
        if node.op == "mx.split" and isinstance(node.args[1], (list, tuple)):
            used.update(node.args[1])
    if number is None or number in used:
        program.unrolled = None
        return 0
    symbol = sympy.Symbol(_NAME, integer=True, positive=True)
    program.dims[symbol] = ("length", number)

    def named(size: Any) -> Any:
        if isinstance(size, int) and not isinstance(size, bool) and size == number:
            return symbol
        if isinstance(size, sympy.Mul) and size.args[0] == number:
            return symbol * size / number
        return size

    return _resize(program, named)


def free_length(program: Program) -> int:
    """The symbol stays where no loop over tokens is left; else it becomes the number again. Returns 1 where it stays."""
    symbol = length_symbol(program)
    if program.unrolled is None or symbol is None:
        return 0
    number, program.unrolled = program.unrolled, None
    left = next((node for node in program.nodes if _is_turn(node, symbol, number)), None)
    if left is None and any(
        node.op in STATEFUL - {"fn.with_past", "fn.token_before"} for node in program.nodes
    ):
        return 1
    if left is not None:
        program.notes.append(
            f"length stayed fixed at {number}: the loop over tokens at {left.location} is none that porter knows"
        )
    del program.dims[symbol]
    _resize(program, lambda s: s.subs(symbol, number) if isinstance(s, sympy.Basic) else s)
    return 0


def _is_turn(node: Node, length: sympy.Symbol, number: int) -> bool:
    """Whether it takes one token from many, or puts as many together as there are."""
    if len(node.outputs) == number or len(list(node.inputs())) >= number:
        return True
    if node.op != "[]" or not has_tokens(node.args[0], length):
        return False
    sizes = iter(node.args[0].shape)
    parts = [
        (part, next(sizes))
        for part in node.attrs["key"]
        if part is not None and part is not Ellipsis
    ]
    return any(isinstance(part, int) and size == length for part, size in parts)


def _resize(program: Program, change: Any) -> int:
    """Applies `change` to the sizes of all arrays and in all arguments that are sizes. Returns how many arrays changed."""
    values = dict.fromkeys([*program.inputs, *(v for n in program.nodes for v in n.outputs)])
    count = 0
    for value in values:
        shape = tuple(_simple(change(size)) for size in value.shape)
        count += shape != value.shape
        value.shape = shape
    for node in program.nodes:
        if node.op in _SIZELESS or node.is_layer:
            continue
        node.args = [_changed(item, change) for item in node.args]
        node.kwargs = {k: _changed(v, change) if k != "axis" else v for k, v in node.kwargs.items()}
        if node.op == "[]":
            key = node.attrs["key"]
            node.attrs["key"] = tuple(
                _changed(p, change) if isinstance(p, slice) else p for p in key
            )
        elif node.op == "shape":
            node.attrs = {k: _changed(v, change) for k, v in node.attrs.items()}
    return count


def _changed(item: Any, change: Any) -> Any:
    if isinstance(item, (list, tuple)):
        return type(item)(_changed(part, change) for part in item)
    if isinstance(item, slice):
        return slice(*(_changed(part, change) for part in (item.start, item.stop, item.step)))
    if isinstance(item, sympy.Basic) or (isinstance(item, int) and not isinstance(item, bool)):
        return _simple(change(item))
    return item


def _simple(size: Size) -> Size:
    return int(size) if isinstance(size, sympy.Integer) else size
