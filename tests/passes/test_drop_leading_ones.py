"""drop_leading_ones: axes of size 1 that broadcasting makes by itself."""

import torch

from porter.passes.cleanup import remove_dead
from porter.passes.drop_leading_ones import drop_leading_ones
from tests.passes.programs import ops, rewritten, x
from tests.random_modules.parity import port_of


def test_a_causal_mask_beside_a_padding_mask():
    class Net(torch.nn.Module):
        def forward(self, scores, padding):
            place = torch.arange(scores.shape[-1])
            causal = place.reshape(1, 1, 1, -1) <= place.reshape(1, 1, -1, 1)
            return scores.masked_fill(~(causal & padding[:, None, None].bool()), 0.0)

    ported = port_of(Net, [x(2, 3, 5, 5), torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])])
    ported.check(x(3, 3, 4, 4), torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]))
    assert "(place <= place[:, None])" in ported.port.model_py


def test_what_alone_has_all_axes_keeps_them():
    program, (count, _) = rewritten(
        lambda a, b: a.reshape(1, 1, 4) + b.reshape(1, 4, 1), [x(4), x(4)], drop_leading_ones, remove_dead
    )  # fmt: skip
    assert count == 1
    assert program.outputs[0][1].shape == (1, 4, 4)


def test_what_is_read_otherwise_stays():
    program, (count, _) = rewritten(
        lambda a, b: ((c := a.reshape(1, 4) * 2) + b, c), [x(4), x(3, 4)], drop_leading_ones, remove_dead
    )  # fmt: skip
    assert count == 0
    assert ops(program)[".reshape"] == 1
