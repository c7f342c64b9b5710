"""fuse_sinks: attention's result times what a sink leaves of it is attention with a sink."""

import torch

from porter.passes.fuse.fuse_attention import fuse_attention
from porter.passes.fuse.fuse_sinks import fuse_sinks
from tests.passes.programs import SDPA, rewritten, x


def _attention(q, k, v, sinks):
    scores = q @ k.transpose(2, 3) * 0.5
    left = torch.sigmoid(torch.logsumexp(scores, dim=-1) - sinks.view(1, -1, 1))
    return torch.softmax(scores, dim=-1) @ v * left[..., None]


def test_sinks_by_the_sum_of_scores():
    q, k, v = (x(2, 3, 5, 4, seed=i) for i in range(3))
    program, counts = rewritten(_attention, [q, k, v, x(3)], fuse_sinks, fuse_attention)
    assert counts == [1, 1]
    assert [n.op for n in program.nodes] == [SDPA]
    assert program.nodes[0].kwargs["sinks"] is program.inputs[3]


def test_another_factor_stays():
    def forward(q, k, v, sinks):
        scores = q @ k.transpose(2, 3)
        left = torch.sigmoid(torch.logsumexp(2 * scores, dim=-1) - sinks.view(1, -1, 1))
        return torch.softmax(scores, dim=-1) @ v * left[..., None]

    q, k, v = (x(2, 3, 5, 4, seed=i) for i in range(3))
    _, counts = rewritten(forward, [q, k, v, x(3)], fuse_sinks)
    assert counts == [0]
