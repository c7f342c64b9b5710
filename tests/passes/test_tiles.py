"""broadcast_tiles: rows for every expert are seen, not copied."""

import torch

from porter.passes.reshapes import keep_rows
from porter.passes.tiles import broadcast_tiles
from tests.passes.programs import ops, rewritten, x


def test_rows_for_every_expert():
    def forward(rows, weights):
        copies = rows.repeat(weights.shape[0], 1).view(weights.shape[0], -1, rows.shape[1])
        return torch.bmm(copies, weights)

    program, counts = rewritten(forward, [x(5, 4), x(3, 4, 6)], broadcast_tiles, keep_rows)
    assert counts[0] == 1
    assert ops(program)["mx.tile"] == 0
