"""Random modules, ported and compared with torch at the traced sizes and at others.

Derandomized: the same examples in every run. `-m slow` takes many more.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.random_modules.parity import check_source, port_of
from tests.random_modules.strategies import Plan, build, plans

QUICK = settings(
    max_examples=6,
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
MANY = settings(QUICK, max_examples=150)
SHAPES = {
    "tokens": ((2, 6, 4), {1: "length"}, [(3, 6, 4), (2, 9, 4)]),
    "lines": ((2, 4, 12), {2: "length"}, [(3, 4, 12), (1, 4, 18)]),
    "images": ((2, 4, 8, 8), {2: "height", 3: "width"}, [(3, 4, 8, 8), (1, 4, 12, 6)]),
}
HEADS = st.sampled_from(["mean", "max", "none"])
FORMS = st.sampled_from(["one", "one", "two", "tuple", "dict"])


def compare(kind: str, plan: Plan, head: str, form: str = "one") -> None:
    shape, axes, others = SHAPES[kind]
    generator = torch.Generator().manual_seed(5)

    def made(sizes: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(sizes, generator=generator)

    def inputs(sizes: tuple[int, ...]) -> list[torch.Tensor]:
        return [made(sizes), made(sizes)] if form == "two" else [made(sizes)]

    dims = {0: "batch", **axes}
    named = {"x": dims, "scale": dims} if form == "two" else {"x": dims}
    result = port_of(lambda: build(kind, plan, 4, head, form), inputs(shape), named)
    result.check(*inputs(shape))
    sizes = result.port.inputs[0]["shape"]
    for other in others:
        changed = {a for a, (old, new) in enumerate(zip(shape, other, strict=True)) if old != new}
        order = result.port.inputs[0]["permute"] or list(range(len(shape)))
        if all(isinstance(sizes[order.index(axis)], str) for axis in changed):
            result.check(*inputs(other))
    assert sizes[0] == "batch"
    check_source(result.port.model_py)


#: What random plans have found: one instance can't hold a parameter in two orders, nor two numbers.
FOUND: list[tuple[str, Plan]] = [
    ("images", [("routed", [("norm", 1)], 2), ("twice", [("affine",), ("function", "cells")], "hardswish")]),
    ("tokens", [("twice", [("function", "set first"), ("layer", 0, 1, True)], "relu6")]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "plan"), FOUND)
def test_what_was_found(kind: str, plan: Plan) -> None:
    compare(kind, plan, "none")


@pytest.mark.parametrize("kind", SHAPES)
def test_random_modules(kind: str) -> None:
    QUICK(
        given(plans(kind), HEADS, FORMS)(lambda plan, head, form: compare(kind, plan, head, form))
    )()


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHAPES)
def test_many_random_modules(kind: str) -> None:
    MANY(
        given(plans(kind), HEADS, FORMS)(lambda plan, head, form: compare(kind, plan, head, form))
    )()
