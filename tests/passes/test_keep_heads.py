"""keep_heads: attention over (batch * heads, length, width) is attention over four axes."""

import torch
from torch import nn

from porter.passes.fuse.fuse_attention import fuse_attention
from porter.passes.keep_heads import keep_heads
from tests.passes.programs import SDPA, rewritten, x
from tests.random_modules.parity import port_of

HEADS = 3


def _flat(a):
    return a.reshape(-1, *a.shape[2:])


def _attention(q, k, v, bias):
    scores = torch.baddbmm(bias.repeat(q.shape[0], 1, 1), _flat(q), _flat(k).transpose(1, 2))
    scores = scores.view(q.shape[0], HEADS, *scores.shape[1:])
    weights = _flat(torch.softmax(scores, dim=-1))
    return torch.bmm(weights, _flat(v)).view(q.shape)


def test_merged_heads_with_a_bias_for_each():
    q, k, v = (x(2, HEADS, 5, 4, seed=i) for i in range(3))
    bias = torch.randn(HEADS, 1, 5)
    program, _ = rewritten(_attention, [q, k, v, bias], keep_heads, fuse_attention)
    assert [n.op for n in program.nodes].count(SDPA) == 1
    assert not any(n.op in ("mx.softmax", "mx.tile", "@") for n in program.nodes)


def test_a_bias_for_each_sample_stays():
    q, k, v = (x(2, HEADS, 5, 4, seed=i) for i in range(3))

    def forward(q, k, v, bias):
        scores = torch.bmm(_flat(q), _flat(k).transpose(1, 2)) + bias
        return torch.bmm(torch.softmax(scores, dim=-1), _flat(v))

    program, _ = rewritten(forward, [q, k, v, torch.randn(2 * HEADS, 5, 5)], keep_heads)
    assert any(n.op == "+" and n.output.rank == 3 for n in program.nodes)


class _Padded(nn.Module):
    """torch's own attention, asked for its weights or not, under a padding mask."""

    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, a, lengths):
        pad = torch.arange(a.shape[1])[None] >= lengths[:, None]
        a = self.attn(a, a, a, key_padding_mask=pad, need_weights=False)[0]
        return self.attn(a, a, a, key_padding_mask=pad)[0]


def test_torch_s_own_attention_under_a_padding_mask_is_one_class():
    a, lengths = torch.randn(2, 6, 16), torch.tensor([6, 4])
    ported = port_of(_Padded, [a, lengths])
    ported.check(a, lengths)
    assert ported.port.model_py.count("scaled_dot_product_attention") == 1
    assert "inf" not in ported.port.model_py
    assert "mx.where" not in ported.port.model_py
