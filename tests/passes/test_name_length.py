"""name_length: a number of tokens is a size; an axis of the same number is none."""

import sympy

from porter.passes.name_length import name_length
from tests.passes.programs import program_of, x


def test_axes_are_no_lengths():
    program = program_of(
        lambda a: a.transpose(1, 2).unsqueeze(2).reshape(3, 5, 2) * 2, x(3, 2, 5)
    ).program
    program.unrolled = 2
    assert name_length(program) > 0
    symbol = next(s for s in program.dims if str(s) == "unrolled_length")
    turned, wide, shaped = (
        next(node for node in program.nodes if node.op == op)
        for op in (".transpose", "mx.expand_dims", ".reshape")
    )
    assert turned.args[1:] == [0, 2, 1]
    assert wide.args[1] == 2
    assert shaped.args[1:] == [3, 5, symbol]
    assert turned.output.shape == (3, 5, symbol)
    assert isinstance(symbol, sympy.Symbol)
