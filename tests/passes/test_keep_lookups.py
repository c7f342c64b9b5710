"""keep_lookups: rows looked up by flattened indices are looked up by the indices as they are."""

import torch

from porter.passes.keep_lookups import keep_lookups
from tests.passes.programs import rewritten

TABLE = torch.randn(7, 4)


def test_rows_of_flattened_indices():
    ids = torch.tensor([[1, 2, 3], [6, 5, 0]])
    program, counts = rewritten(
        lambda i, table=TABLE: table.index_select(0, i.view(-1)).view(*i.shape, 4),
        [ids],
        keep_lookups,
    )
    assert counts == [1]
    assert [node.op for node in program.nodes] == ["[]"]


def test_another_shape_stays():
    ids = torch.tensor([[1, 2, 3], [6, 5, 0]])
    _, counts = rewritten(
        lambda i, table=TABLE: table.index_select(0, i.view(-1)).view(3, 2, 4), [ids], keep_lookups
    )
    assert counts == [0]
