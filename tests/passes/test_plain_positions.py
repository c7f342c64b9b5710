"""plain_positions: of what type positions are made."""

import torch

from porter.passes.plain_positions import plain_positions
from tests.passes.programs import ops, rewritten, x


def frequencies(a):
    return a[:, None] * torch.arange(8).float()


def test_positions_that_are_reckoned_with_are_floats_from_the_start():
    program, (count,) = rewritten(frequencies, [x(3)], plain_positions)
    assert count == 1
    assert ".astype" not in ops(program)
    assert [n.output.dtype for n in program.nodes if n.op == "mx.arange"] == ["float32"]


def test_positions_that_are_whole_numbers_elsewhere_too_stay_them():
    def both(a):
        places = torch.arange(8)
        return a[:, None] * places.float(), places % 3

    program, (count,) = rewritten(both, [x(3)], plain_positions)
    assert count == 0
    assert ops(program)[".astype"] == 1
