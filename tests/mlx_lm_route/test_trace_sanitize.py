"""What a sanitize does to weights, as recipes."""

import mlx.core as mx
import numpy as np
import pytest

from porter.errors import UnsupportedError
from porter.mlx_lm_route.trace_sanitize import trace_sanitize
from porter.weights.recipes import evaluate
from porter.weights.tensors import TensorSpec


class Held:
    def __init__(self, **arrays):
        self._arrays = arrays

    def keys(self):
        return self._arrays.keys()

    def spec(self, key):
        return TensorSpec("float32", tuple(self._arrays[key].shape))

    def read(self, key):
        return self._arrays[key]

    def close(self): ...


SANITIZES = {
    "experts stacked": lambda w: {"e": mx.stack([w["a"], w["b"]])},
    "joined and transposed": lambda w: {"e": mx.concatenate([w["a"], w["b"]], axis=1).T},
    "split": lambda w: dict(zip("xy", mx.split(w["a"], [1], axis=0), strict=True)),
    "norm of one more": lambda w: {"e": w["a"] + 1.0, "f": -mx.exp(w["b"])},
    "pieces": lambda w: {"e": w["a"][:, ::2], "f": w["b"][1:, 1:3].reshape(-1), "g": w["b"][0]},
    "moved axis": lambda w: {"e": mx.contiguous(w["a"][..., None].moveaxis(2, 0))},
    "a constant": lambda w: {"e": mx.ones((3,)), "f": w["a"] * mx.array([1.0, 2.0, 3.0, 4.0])},
    "half": lambda w: {"e": w["a"].astype(mx.float16)},
}


@pytest.mark.parametrize("name", SANITIZES)
def test_recipes_give_what_sanitize_gives(name):
    weights = {
        key: mx.array(np.random.default_rng(i).random((3, 4), np.float32))
        for i, key in enumerate("ab")
    }
    expected = SANITIZES[name](dict(weights))
    held = Held(**weights)
    table = trace_sanitize(SANITIZES[name], held)
    assert table.keys() == expected.keys()
    for path, recipe in table.items():
        made = evaluate(recipe, held)
        assert made.dtype == expected[path].dtype
        assert np.array_equal(made, expected[path])


def test_what_no_recipe_says_is_refused():
    held = Held(a=mx.zeros((3, 4)))
    with pytest.raises(UnsupportedError, match="Sort"):
        trace_sanitize(lambda w: {"e": mx.sort(w["a"])}, held)


def test_a_sanitize_that_fails_is_named():
    with pytest.raises(UnsupportedError, match="KeyError"):
        trace_sanitize(lambda w: {"e": w["missing"]}, Held(a=mx.zeros(3)))
