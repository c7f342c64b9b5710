"""The recipe language in one import: build, read, inspect and compute recipes.

from porter.weights import recipes
recipe = recipes.permute(recipes.source("conv.weight"), [0, 2, 3, 1])
assert recipes.parse(str(recipe)) == recipe
"""

from __future__ import annotations

from porter.weights.recipe_specs import shape_of, spec_of
from porter.weights.recipe_text import FUNCTIONS, parse
from porter.weights.recipe_tree import (
    Recipe,
    add,
    cast,
    concatenate,
    constant,
    divide,
    exp,
    from_fp8,
    matmul,
    maximum,
    mean,
    multiply,
    negative,
    permute,
    quote,
    reshape,
    rsqrt,
    slice,  # noqa: A004
    source,
    sources,
    split,
    sqrt,
    square,
    subtract,
    sum,  # noqa: A004
    take,
    walk,
)
from porter.weights.recipe_values import evaluate

__all__ = [
    "FUNCTIONS",
    "Recipe",
    "add",
    "cast",
    "concatenate",
    "constant",
    "divide",
    "evaluate",
    "exp",
    "from_fp8",
    "matmul",
    "maximum",
    "mean",
    "multiply",
    "negative",
    "parse",
    "permute",
    "quote",
    "reshape",
    "rsqrt",
    "shape_of",
    "slice",
    "source",
    "sources",
    "spec_of",
    "split",
    "sqrt",
    "square",
    "subtract",
    "sum",
    "take",
    "walk",
]
