"""plain_softmax: scores whose largest is taken off, and masks that scores are multiplied with."""

import torch

from porter.passes.fuse.fuse_attention import fuse_attention
from porter.passes.fuse.plain_softmax import plain_softmax
from tests.passes.programs import SDPA, ops, rewritten, x

DYNAMIC = {f"args_{i}": {0: "batch", 2: "length"} for i in range(3)}


def _qkv():
    return [x(2, 3, 5, 4, seed=i) for i in range(3)]


def test_the_largest_score_is_taken_off():
    def forward(q, k, v):
        scores = q @ k.transpose(2, 3)
        scores = scores - scores.max(dim=-1, keepdim=True).values
        return torch.softmax(scores, dim=-1) @ v

    program, counts = rewritten(forward, _qkv(), plain_softmax, fuse_attention)
    assert counts == [1, 1]
    assert ops(program)[SDPA] == 1


def test_another_axis_stays():
    def forward(q, k, v):
        scores = q @ k.transpose(2, 3)
        return torch.softmax(scores - scores.max(dim=-2, keepdim=True).values, dim=-1) @ v

    _, counts = rewritten(forward, _qkv(), plain_softmax)
    assert counts == [0]


def test_scores_times_a_mask():
    def forward(q, k, v):
        scores = q @ k.transpose(2, 3)
        kept = torch.tril(torch.ones(16, 16))[: q.shape[2], : q.shape[2]]
        return torch.softmax(scores * kept + -1e4 * (1 - kept), dim=-1) @ v

    program, counts = rewritten(forward, _qkv(), plain_softmax, fuse_attention, dynamic=DYNAMIC)
    assert counts == [1, 1]
    assert ops(program)[SDPA] == 1
