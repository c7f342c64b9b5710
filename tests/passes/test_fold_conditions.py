"""fold_conditions: masks that are turned into numbers and asked about stay masks."""

import pytest
import torch

from porter.passes.fold_conditions import fold_conditions
from porter.passes.inline_scalars import inline_scalars
from tests.passes.programs import rewritten, x

LOW = torch.finfo(torch.float32).min

CASES = {
    "cast": (lambda a: torch.where(a > 0, 0.0, LOW).to(torch.bool), ["~"]),
    "not equal": (lambda a: torch.where(a > 0, 0.0, LOW) != 0, ["~"]),
    "equal": (lambda a: torch.where(a > 0, 0.0, LOW) == 0, []),
    "twice": (lambda a: ~torch.where(a > 0, 0.0, LOW).to(torch.bool), []),
    "a number": (lambda a: (a > 0).int() == 1, []),
    "no number": (lambda a: (a > 0).int() != 1, ["~"]),
    "always": (lambda a: torch.where(a > 0, 1.0, 2.0) != 0, None),
}


@pytest.mark.parametrize(("forward", "left"), CASES.values(), ids=CASES)
def test_fold_conditions(forward, left):
    program, counts = rewritten(forward, [x(3, 4)], inline_scalars, fold_conditions)
    ops = [node.op for node in program.nodes]
    if left is None:
        assert counts[1] == 0
    else:
        assert "mx.where" not in ops
        assert [op for op in ops if op != ">"] == left


BOTH_SIDES = {
    "equal and not": (lambda a: a.masked_fill(a != 0, -9.0).masked_fill(a == 0, 1.0), ["!=", "mx.where"]),
    "turned": (
        lambda a: (lambda c: torch.where(~c, 2.0, torch.where(c, 3.0, a)))(a > 0), [">", "mx.where"],
    ),
    "another number": (
        lambda a: a.masked_fill(a != 0, -9.0).masked_fill(a == 1, 1.0), ["!=", "mx.where", "==", "mx.where"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("forward", "left"), BOTH_SIDES.values(), ids=BOTH_SIDES)
def test_fills_of_both_sides_are_one_choice(forward, left):
    program, _ = rewritten(forward, [x(3, 4)], inline_scalars, fold_conditions)
    assert [node.op for node in program.nodes] == left
