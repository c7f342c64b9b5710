"""Recipes: the text form round-trips, specs agree with values, values agree with NumPy, nothing else is readable."""

import math

import mlx.core as mx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from porter.errors import InputError, UsageError
from porter.weights import recipes as r
from porter.weights.readers import ModuleTensors, TensorSpec

torch.manual_seed(0)
STATE = {
    "w": torch.randn(4, 3, 2, 2),
    "v": torch.rand(4).bfloat16(),
    "h": torch.rand(4).half(),
    "d": torch.rand(4, dtype=torch.float64),
    "i": torch.arange(6),
    "b": torch.tensor([True, False]),
    "fp8": torch.tensor([1.5, -2.0, 448.0]).to(torch.float8_e4m3fn),
    "c128": torch.ones(2, dtype=torch.complex128),
    "e": torch.zeros(0, 3),
}
TENSORS = ModuleTensors(STATE)
W, V, D, INTS = (r.source(key) for key in "wvdi")
TABLE = r.cast(r.reshape(INTS, [2, 3]), "float32")
F64 = {key: tensor.double().numpy() for key, tensor in STATE.items() if key in "wvhdi"}

keys = st.text(st.characters(exclude_categories=[]), max_size=12) | st.sampled_from(
    [
        '"',
        "'",
        "\\",
        "'\"",
        '\\"',
        "\n\r\0",
        "\u2028",
        "a.b",
        '"""',
        "😀",
        "\ud800",
        "{}",
        "#",
        "\\N{DIGIT ONE}",
    ]
)
ints = st.integers(-(2**70), 2**70)
numbers = ints | st.floats(allow_nan=False)
unary = st.sampled_from([r.sqrt, r.rsqrt, r.exp, r.negative, r.square, r.from_fp8])
binary = st.sampled_from([r.add, r.subtract, r.multiply, r.divide, r.maximum])
values = st.recursive(numbers | st.booleans(), lambda v: st.lists(v, max_size=3), max_leaves=5)


def extend(x):
    axes = st.lists(ints, max_size=4)
    return st.one_of(
        st.builds(r.permute, x.map(lambda y: r.reshape(y, [-1])), axes),
        st.builds(r.reshape, x, axes),
        st.builds(r.concatenate, st.lists(x, max_size=3), ints),
        st.builds(r.split, x, ints | axes, ints, ints),
        st.builds(r.slice, x, ints, ints | st.none(), ints | st.none()),
        st.builds(r.take, x, axes, ints),
        st.builds(r.cast, x, st.sampled_from(["float32", "bfloat16", "bool"])),
        st.builds(
            lambda f, y, a, k: f(y, a, k), st.sampled_from([r.sum, r.mean]), x, axes, st.booleans()
        ),
        st.builds(r.matmul, x, x),
        st.builds(lambda f, y: f(y), unary, x),
        st.builds(lambda f, a, b: f(a, b), binary, x | numbers, x | numbers),
    )


recipes = st.recursive(
    st.builds(r.source, keys) | st.builds(r.constant, values, st.lists(ints, max_size=3)),
    extend,
    max_leaves=8,
)


@given(recipes)
def test_text_round_trip(recipe):
    text = str(recipe)
    assert r.parse(text) == recipe
    assert str(r.parse(text)) == text
    assert "\n" not in text


@given(keys)
def test_keys_survive(key):
    assert r.sources(r.parse(str(r.add(r.source(key), r.source("x"))))) == {key, "x"}


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        'source("w").x',
        'source("w") + 1',
        'source(f"{1}")',
        'source("a" "b") if 1 else 2',
        "lambda: 0",
        "",
        "1",
        '"w"',
        "source",
        "source()",
        "source(1)",
        "source(b'w')",
        'source(key="w")',
        'permute(source("w"), [0] * 4)',
        'permute(source("w"), axes=[0])',
        'permute(source("w"), [0.0])',
        'permute(source("w"), [True])',
        'permute(source("w"), *[[0]])',
        'permute(source("w"), [i for i in [0]])',
        'cast(source("w"), "complex128")',
        'cast(source("w"), "float8_e4m3fn")',
        'eval(source("w"))',
        'add(source("w"), "1")',
        'add(source("w"), 1j)',
        "constant(nan, [1])",
        "(" * 1000,
        "sqrt(" * 5000 + 'source("w")' + ")" * 5000,
        "constant(" + "9" * 5000 + ', [1], "int64")',
        "source('\0')",
    ],
)
def test_other_text_is_refused(text):
    with pytest.raises(InputError, match="cannot be read"):
        r.parse(text)


@pytest.mark.parametrize(
    ("recipe", "wanted"),
    [
        (r.permute(W, [0, 2, 3, 1]), F64["w"].transpose(0, 2, 3, 1)),
        (r.permute(r.permute(W, [0, 2, 3, 1]), [0, 3, 1, 2]), F64["w"]),
        (r.reshape(W, [4, -1]), F64["w"].reshape(4, -1)),
        (r.concatenate([W, W], -1), np.concatenate([F64["w"]] * 2, -1)),
        (r.split(W, 2, 0, 1), F64["w"][2:]),
        (r.split(INTS, [1, 3], 0, 1), F64["i"][1:3]),
        (r.slice(W, -3, 1, None), F64["w"][:, 1:]),
        (r.slice(INTS, 0, None, -2), F64["i"][:-2]),
        (r.take(W, [2, -3], 1), F64["w"][:, [2, 0]]),
        (r.add(INTS, 2), F64["i"] + 2),
        (r.subtract(1.5, D), 1.5 - F64["d"]),
        (r.divide(INTS, 2), F64["i"] / 2),
        (r.divide(1, D), 1 / F64["d"]),
        (r.negative(INTS), -F64["i"]),
        (r.sqrt(D), np.sqrt(F64["d"])),
        (r.exp(INTS), np.exp(F64["i"])),
        (r.square(D), F64["d"] ** 2),
        (r.maximum(0.5, D), np.maximum(0.5, F64["d"])),
        (r.sum(r.reshape(D, [2, 2]), [-1], True), F64["d"].reshape(2, 2).sum(1, keepdims=True)),
        (r.mean(r.reshape(D, [2, 2]), [0, 1], False), F64["d"].mean()),
        (
            r.matmul(TABLE, r.permute(TABLE, [1, 0])),
            F64["i"].reshape(2, 3) @ F64["i"].reshape(2, 3).T,
        ),
        (r.multiply(W, r.reshape(D, [4, 1, 1, 1])), F64["w"] * F64["d"].reshape(4, 1, 1, 1)),
        (r.constant(7, [2, 2], "int64"), np.full((2, 2), 7)),
        (r.constant([[1, 2], [3, 4]], [4], "bfloat16"), np.array([1, 2, 3, 4])),
        (r.constant(-math.inf, [2]), np.full(2, -np.inf)),
        (r.constant([True, False], [2], "bool"), np.array([1, 0])),
        (r.constant([], [0, 2]), np.zeros((0, 2))),
        (r.constant(2**53 + 1, [], "int64"), np.array(2**53 + 1)),
        (r.from_fp8(r.source("fp8")), np.array([1.5, -2.0, 448.0])),
        (r.concatenate([r.source("v"), r.source("h")], 0), np.concatenate([F64["v"], F64["h"]])),
        (r.reshape(r.source("e"), [3, 0]), np.zeros((3, 0))),
    ],
    ids=lambda value: str(value) if isinstance(value, r.Recipe) else "",
)
def test_values_and_specs(recipe, wanted):
    value = r.evaluate(r.parse(str(recipe)), TENSORS)
    spec = r.spec_of(recipe, TENSORS)
    assert (value.shape, str(value.dtype)) == (spec.shape, f"mlx.core.{spec.dtype}")
    assert r.shape_of(recipe, TENSORS) == wanted.shape
    assert np.allclose(np.array(value.astype(mx.float64, stream=mx.cpu)), wanted, rtol=2e-7, atol=0)


@pytest.mark.parametrize(
    ("recipe", "dtype"),
    [
        (r.add(V, 1e-5), "bfloat16"),
        (r.multiply(V, r.source("h")), "float32"),
        (r.multiply(V, D), "float64"),
        (r.add(INTS, 0.5), "float32"),
        (r.source("fp8"), "uint8"),
        (r.cast(D, "float16"), "float16"),
        (r.sqrt(r.source("b")), "float32"),
    ],
    ids=str,
)
def test_dtype_of_result(recipe, dtype):
    assert r.spec_of(recipe, TENSORS).dtype == dtype
    assert r.evaluate(recipe, TENSORS).dtype == getattr(mx, dtype)


def test_half_precision_is_rounded_once():
    """A folded BatchNorm of bfloat16 weights: the exact result, rounded at the end and not at every step."""
    recipe = r.multiply(V, r.rsqrt(r.add(r.multiply(V, V), 1e-3)))
    v = F64["v"]
    exact = torch.tensor(v / np.sqrt(v * v + 1e-3)).float().bfloat16().float().numpy()
    assert np.array_equal(np.array(r.evaluate(recipe, TENSORS).astype(mx.float32)), exact)
    assert r.evaluate(recipe, TENSORS, "float32").dtype == mx.float32


@pytest.mark.parametrize(
    "recipe",
    [
        r.source("nope"),
        r.source("c128"),
        r.parse('permute(source("w"), [0, 1])'),
        r.permute(W, [0, 1, 2, 2]),
        r.reshape(W, [5, -1]),
        r.reshape(W, [-1, -1]),
        r.reshape(r.source("e"), [0, -1]),
        r.concatenate([], 0),
        r.concatenate([W, V], 0),
        r.concatenate([W, W], 4),
        r.split(W, 3, 0, 0),
        r.split(W, 2, 0, 2),
        r.split(W, 2, 0, -1),
        r.split(W, 0, 0, 0),
        r.split(INTS, [4, 2], 0, 0),
        r.split(INTS, [9], 0, 0),
        r.slice(W, 9, 0, 1),
        r.take(W, [3], 1),
        r.add(W, V),
        r.add(1, 2),
        r.matmul(W, V),
        r.sum(W, [4], False),
        r.mean(W, [1, -3], False),
        r.sum(INTS, [0], False),
        r.negative(r.source("b")),
        r.from_fp8(V),
        r.constant([1, 2], [3]),
        r.constant(1, [2**40]),
        r.constant(1, [-1]),
        r.constant(1, [1], "complex64"),
    ],
    ids=str,
)
def test_misfits_are_refused(recipe):
    with pytest.raises(InputError):
        r.evaluate(recipe, TENSORS)


def test_number_that_does_not_fit():
    with pytest.raises(InputError, match="does not fit int8"):
        r.evaluate(r.constant(300, [1], "int8"), TENSORS)


def test_nan_is_refused():
    with pytest.raises(UsageError, match="NaN"):
        r.add(W, math.nan)


def test_each_source_is_read_once():
    class Counting(ModuleTensors):
        reads = 0

        def read(self, key):
            self.reads += 1
            return super().read(key)

    tensors = Counting(STATE)
    r.evaluate(r.multiply(V, r.rsqrt(r.add(r.multiply(V, V), 1e-3))), tensors)
    assert tensors.reads == 1


def test_spec_reads_no_data():
    meta = ModuleTensors({"w": torch.empty(70_000, 8192, device="meta", dtype=torch.bfloat16)})
    assert r.spec_of(r.permute(W, [1, 0]), meta) == TensorSpec("bfloat16", (8192, 70_000))
