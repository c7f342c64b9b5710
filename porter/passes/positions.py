"""Values made of positions alone: rotary tables, causal masks, indices of learned positions."""

from __future__ import annotations

from collections.abc import Collection

import mlx.core as mx
import numpy as np
import sympy

from porter.ir import Program, Size, Value
from porter.ir.evaluate import Evaluator

#: The dims that positions run along.
_LENGTHS = ("length", "decoder_length")
#: How often a length is doubled that is too short for what it is tried on.
_DOUBLINGS = 12


def position_values(program: Program, given: Collection[Value] = ()) -> set[Value]:
    """The values that depend on no input and no weight, only on counts, constants at hand, sizes, and what is `given`."""
    found = {value for value in program.parameters.values() if value.data is not None} | set(given)
    for node in program.nodes:
        own = node.params.values()
        if all(value in found for value in node.inputs() if value not in own) and not own:
            found.update(node.outputs)
    return found


def length_symbol(program: Program) -> sympy.Symbol | None:
    """The size of the axis that positions run along: the dim named "length", where it is symbolic."""
    return next((symbol for symbol, (name, _) in program.dims.items() if name == "length"), None)


def at_length(
    program: Program, length: int, known: dict[Value, mx.array] | None = None
) -> Evaluator:
    """Runs parts of the program with `length` positions (of each text, where there are two) and two samples."""
    sizes = {
        symbol: 2 if name == "batch" else length if name in _LENGTHS else size
        for symbol, (name, size) in program.dims.items()
    }
    return Evaluator(known or {}, sizes)


def long_enough(program: Program, size: Size, count: int) -> int:
    """A length of the input at which an axis has so many places: a longer one where convolutions shorten it first."""
    lengths = (count * 2**k for k in range(_DOUBLINGS))
    return next((n for n in lengths if at_length(program, n).size(size) >= count), count)


def as_array(array: mx.array) -> np.ndarray:
    """The elements in NumPy; bfloat16 as float32."""
    return np.array(array.astype(mx.float32) if array.dtype == mx.bfloat16 else array)
