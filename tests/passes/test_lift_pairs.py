"""lift_pairs: masks that tokens bear on, with what they take of the keys in a cache beside keys and values."""

import functools
import math

import mlx.core as mx
import numpy as np
import pytest
import torch
from mlx_lm.models.cache import CacheList, make_prompt_cache
from torch import nn
from torch.nn import functional

from porter.validate.decoding import decoded, padded
from tests.passes.test_lift_cache import HEADS, TOKENS, WIDTH, WORDS, _ids, _rotated
from tests.random_modules.parity import check_source, port_of, to_mlx

LENGTH, CHOSEN, REACH = 20, 4, 5


class Indexer(nn.Module):
    """The few keys that count for each query, chosen by queries and keys of its own (DeepSeek sparse attention)."""

    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH // HEADS)
        self.weigh = nn.Linear(WIDTH, HEADS)

    def forward(self, x, mask):
        batch, length, _ = x.shape
        q = _rotated(self.q(x).view(batch, length, HEADS, -1).transpose(1, 2))
        k = _rotated(self.k(x)[:, None])
        scores = functional.softplus(q @ k.transpose(-1, -2)).transpose(1, 2)  # no two are alike
        scores = (self.weigh(x)[:, :, None] @ scores).squeeze(2)
        scores = scores.masked_fill(~mask, -math.inf)
        return scores.topk(min(CHOSEN, length), dim=-1).indices


class Attention(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        if kind in ("chosen keys", "keys chosen among all"):
            self.indexer = Indexer()
        elif kind == "weights of keys":
            self.decay = nn.Linear(WIDTH, HEADS)
        else:
            self.distances = nn.Linear(WIDTH, HEADS * REACH)

    def mask(self, x, causal):
        batch, length, _ = x.shape
        if self.kind in ("chosen keys", "keys chosen among all"):
            shown = causal if self.kind == "chosen keys" else torch.ones_like(causal)
            chosen = self.indexer(x, shown.expand(batch, -1, -1))
            kept = torch.zeros(batch, length, length, dtype=torch.bool).scatter(-1, chosen, True)
            return (causal & kept)[:, None]
        if self.kind == "weights of keys":
            bias = functional.softplus(self.decay(x)).transpose(1, 2)[:, :, None]
            return bias.expand(-1, -1, length, -1).masked_fill(~causal, torch.finfo(x.dtype).min)
        place = torch.arange(length)
        gap = (place[:, None] - place)[None, None]
        bias = self.distances(x).view(batch, length, HEADS, REACH).transpose(1, 2)
        bias = bias.gather(-1, gap.clamp(0, REACH - 1).expand(batch, HEADS, -1, -1))
        bias = bias.masked_fill((gap < 0) | (gap >= REACH), 0.0)
        return torch.where(causal, bias, torch.finfo(x.dtype).min)

    def forward(self, x, causal):
        batch, length, _ = x.shape
        heads = self.qkv(x).view(batch, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        q, k, v = _rotated(heads[0]), _rotated(heads[1]), heads[2]
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=self.mask(x, causal))
        return self.out(x.transpose(1, 2).reshape(batch, length, WIDTH))


class Layer(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(WIDTH), Attention(kind)

    def forward(self, x, causal):
        return x + self.attention(self.norm(x), causal)


class Decoder(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.embed, self.head = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WORDS)
        self.layers = nn.ModuleList(Layer(kind) for _ in range(2))

    def forward(self, ids):
        x, place = self.embed(ids), torch.arange(ids.shape[1])
        for layer in self.layers:
            x = layer(x, place[None] <= place[:, None])
        return self.head(x)


@functools.cache
def _ported(kind):
    return port_of(lambda: Decoder(kind), [_ids(length=LENGTH)], TOKENS)


@pytest.mark.parametrize(
    ("kind", "more"), [("chosen keys", 1), ("weights of keys", 1), ("distances", 0)]
)
def test_decode_and_padding_equal_the_plain_forward(kind, more):
    ported = _ported(kind)
    check_source(ported.port.model_py)
    ids = to_mlx(_ids(1, LENGTH))
    caches = make_prompt_cache(ported.model)
    assert [isinstance(c, CacheList) for c in caches] == [bool(more)] * 2
    assert all(len(c.caches) == 1 + more for c in caches if more)
    assert decoded(ported.model, [ids])["gaps"][0] < 1e-5
    assert padded(ported.model, [ids])["gaps"][0] < 1e-5
    with torch.no_grad():
        expected = ported.module(_ids(1, LENGTH)).numpy()
    assert np.abs(np.array(ported.model(ids)) - expected).max() < 1e-4


def test_choosing_keys_matters():
    """Else the case above would pass with any choice."""
    model, ids = _ported("chosen keys").model, to_mlx(_ids(1, LENGTH))
    full = model(ids)
    for layer in model.layers:
        layer.attention.indexer.weigh.weight = -layer.attention.indexer.weigh.weight
    other = model(ids)
    for layer in model.layers:
        layer.attention.indexer.weigh.weight = -layer.attention.indexer.weigh.weight
    assert mx.abs(full - other).max() > 1e-3


def test_what_depends_on_the_tokens_that_follow_has_no_cache_and_says_why():
    ported = _ported("keys chosen among all")
    assert "cache:" not in ported.port.model_py
    assert any("depends on the tokens that follow" in note for note in ported.port.notes)
