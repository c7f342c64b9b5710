"""drop_index_casts: places that MLX gives are indexed by as they are; what else reads them has torch's type."""

import torch

from porter.passes.cleanup import remove_dead
from porter.passes.drop_index_casts import drop_index_casts
from tests.passes.programs import ops, rewritten, x
from tests.random_modules.parity import check_source, port_of

TABLE = torch.randn(9, 4, generator=torch.Generator().manual_seed(1))


def test_rows_of_the_best_places():
    program, (count, _) = rewritten(
        lambda a, table=TABLE: table[a.topk(2, -1).indices],
        [x(3, 9)],
        drop_index_casts,
        remove_dead,
    )
    assert count == 1
    assert not ops(program)[".astype"]


def test_places_that_are_given_back_keep_their_type():
    def function(a, table=TABLE):
        places = a.argmax(-1)
        return table[places], places, places + 1

    program, (count, _) = rewritten(function, [x(3, 9)], drop_index_casts, remove_dead)
    assert count == 1
    assert ops(program)[".astype"] == 1


def test_a_mask_is_no_place():
    _, counts = rewritten(lambda a: a[(a > 0).long()[0]], [x(3, 8)], drop_index_casts)
    assert counts == [0]


class Router(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = torch.nn.Linear(4, 9)
        self.weight = torch.nn.Parameter(torch.randn(9, 4, 4))

    def forward(self, a):
        scores = self.gate(a).softmax(-1)
        weights, experts = scores.topk(2, -1)
        return torch.einsum("bd,bkde->bke", a, self.weight[experts]) * weights[..., None]


def test_chosen_experts_have_their_authors_name():
    ported = port_of(Router, (x(2, 4),))
    ported.check(x(5, 4))
    check_source(ported.port.model_py)
    assert "self.weight[experts]" in ported.port.model_py
