"""pick_parts: what is taken out of arrays that were put side by side is taken from the one it lies in."""

import torch

from porter.passes.pick_parts import pick_parts
from tests.passes.programs import rewritten, x

A, B = x(2, 4), x(3, 2, 4)


def test_an_array_with_a_new_axis():
    program, counts = rewritten(lambda a, b: torch.cat([a[None], b])[0] + 1, [A, B], pick_parts)
    assert counts == [1]
    assert [node.op for node in program.nodes if node.op == "mx.concatenate"] == []


def test_a_place_in_a_later_part_and_before_its_cut():
    program, counts = rewritten(lambda a, b: torch.cat([a[None], b[1:]])[2] * 2, [A, B], pick_parts)
    assert counts == [1]
    (picked,) = [node for node in program.nodes if node.op == "[]"]
    assert picked.args[0] is program.inputs[1]
    assert picked.attrs["key"] == (2,)


def test_another_axis_stays():
    _, counts = rewritten(
        lambda a, b: torch.cat([a[None], b], dim=1)[0] * 2, [x(3, 4), x(1, 2, 4)], pick_parts
    )
    assert counts == [0]
