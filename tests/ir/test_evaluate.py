"""What a part of a program computes, where that can be told."""

import pytest
import sympy

from porter.ir.builder import Builder
from porter.ir.evaluate import Evaluator, Unknown


def test_a_size_that_depends_on_the_data_is_unknown():
    count, length = sympy.symbols("u0 s0", integer=True, positive=True)
    build = Builder()
    known = build.op("mx.arange", length, shape=(length,), dtype="int32")
    unknown = build.op("mx.arange", count, shape=(count,), dtype="int32")
    evaluate = Evaluator({}, {length: 3})
    assert evaluate(known).tolist() == [0, 1, 2]
    with pytest.raises(Unknown, match="u0"):
        evaluate(unknown)
