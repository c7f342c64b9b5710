"""Shapes and dtypes that the builder declares are those that MLX gives, and the printer's text."""

from __future__ import annotations

import mlx.core as mx
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from porter.ir import Program, Value
from porter.ir.builder import Builder, broadcast_shapes, promote, simplify
from porter.ir.printer import to_text

DTYPES = "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 complex64".split()


def made(dtype: str, shape: tuple[int, ...] = (2,)) -> mx.array:
    return mx.zeros(shape, dtype=mx.bool_ if dtype == "bool" else getattr(mx, dtype))


#: bool + bool is a bool in torch and in MLX; uint8 with int8 is int16 in both, which no table of ranks can say.
PAIRS = [(a, b) for a in DTYPES for b in DTYPES if {a, b} != {"uint8", "int8"}]


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_promotion_is_mlx_s(a, b):
    found = str((made(a) * made(b)).dtype).removeprefix("mlx.core.").removesuffix("_")
    assert promote(Value((2,), a), Value((2,), b)) == found


@st.composite
def broadcastable(draw):
    full = draw(st.lists(st.integers(1, 4), max_size=4))
    shapes = []
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(full)))
        shapes.append(tuple(draw(st.sampled_from([1, size])) for size in full[start:]))
    return shapes


@given(broadcastable())
def test_broadcasting_is_mlx_s(shapes):
    arrays = mx.broadcast_arrays(*(made("float32", shape) for shape in shapes))
    assert broadcast_shapes(*shapes) == tuple(arrays[0].shape)


def test_sizes_are_ints_where_they_can_be():
    n = sympy.Symbol("n")
    assert type(simplify(n - n + 3)) is int
    assert simplify(2 * n) == 2 * n
    assert type(simplify(sympy.Integer(4))) is int


def test_calls_that_change_nothing_write_no_node():
    builder = Builder()
    x = Value((2, 3), "float32")
    assert builder.transpose(x, (0, 1)) is x
    assert builder.transpose(x, (-2, -1)) is x
    assert builder.reshape(x, (2, 3)) is x
    assert builder.cast(x, "float32") is x
    assert builder.nodes == []


def test_shapes_of_the_common_calls():
    builder = Builder()
    x = Value((2, 3), "float32")
    assert builder.transpose(x, (1, 0)).shape == (3, 2)
    assert builder.reshape(x, (6,)).shape == (6,)
    assert builder.cast(x, "int32").dtype == "int32"
    assert builder.op("<", x, 1).dtype == "bool"
    assert builder.op("+", x, Value((4, 1, 1), "int32")).shape == (4, 2, 3)
    assert [node.outputs[0].node is node for node in builder.nodes] == [True] * 5


def test_the_text_of_a_program():
    p = Program("Net", "Net")
    x, w = Value((2, 3), "float32"), Value((3,), "float32", path="layer.w")
    builder = Builder()
    h = builder.op("+", x, w)
    out = builder.index(h, (slice(None), 1), (2,))
    p.inputs, p.nodes, p.outputs = [x], builder.nodes, [("output", out)]
    lines = [line.split("  #")[0].rstrip() for line in to_text(p).splitlines()]
    assert lines == [
        "def Net(v0: float32[2,3]):",
        "    v1: float32[2,3] = +(v0, self.layer.w)",
        "    v2: float32[2] = [](v1, key=[slice(None, None, None), 1])",
        "    return output=v2",
    ]
