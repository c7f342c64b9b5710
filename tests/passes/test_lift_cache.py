"""lift_cache: with a cache, token by token, a decoder gives what its plain forward gives."""

import functools

import mlx.core as mx
import numpy as np
import pytest
import torch
from mlx_lm.models.cache import (
    BatchKVCache,
    BatchRotatingKVCache,
    RotatingKVCache,
    make_prompt_cache,
)
from torch import nn
from torch.nn import functional

from porter.validate.decoding import decoded
from tests.random_modules.parity import check_source, close, port_of, to_mlx

LENGTH, WORDS, WIDTH, HEADS = 11, 40, 16, 2
TOKENS = {"ids": {0: "batch", 1: "length"}}


def _rotated(x):
    size = x.shape[-1]
    freqs = 10000.0 ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)
    angles = torch.arange(x.shape[2], dtype=torch.float32)[:, None] * freqs
    angles = torch.cat([angles, angles], dim=-1)
    first, second = x.chunk(2, dim=-1)
    return x * angles.cos() + torch.cat([-second, first], dim=-1) * angles.sin()


def _bias(kind, table, length):
    """What is added to the scores: by distance, by a table of distances, or nothing between chunks of positions."""
    place = torch.arange(length)
    if kind == "alibi":
        slopes = 0.5 ** torch.arange(1, HEADS + 1)
        return slopes[:, None, None] * torch.arange(1 - length, 1)
    if kind == "table":
        distance = (place[:, None] - place[None]).clamp(0, 7)
        return table(distance).permute(2, 0, 1)
    if kind == "position":
        return (place % 3 == 0) * 1.0
    return None


class Attention(nn.Module):
    def __init__(
        self, rope: bool, window: int | None, causal: bool, bias: str | None, chunk: int | None
    ):
        super().__init__()
        self.rope, self.window, self.causal, self.bias, self.chunk = (
            rope,
            window,
            causal,
            bias,
            chunk,
        )
        self.table = nn.Embedding(8, HEADS) if bias == "table" else None
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        batch, length, _ = x.shape
        heads = self.qkv(x).view(batch, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        q, k, v = heads.unbind(0)
        if self.rope:
            q, k = _rotated(q), _rotated(k)
        place = torch.arange(length)
        mask = place[None] <= place[:, None] if self.causal else place[None] >= -1
        if self.window is not None:
            mask = mask & (place[None] > place[:, None] - self.window)
        if self.chunk is not None:
            mask = mask & (place[None] // self.chunk == place[:, None] // self.chunk)
        bias = _bias(self.bias, self.table, length)
        if bias is not None:
            mask = torch.where(mask, 0.0, torch.finfo(torch.float32).min) + bias
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(x.transpose(1, 2).reshape(batch, length, WIDTH))


class Layer(nn.Module):
    def __init__(self, *options):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(WIDTH), Attention(*options)
        self.mlp = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        x = x + self.attention(self.norm(x))
        return x + functional.silu(self.mlp(x))


class Decoder(nn.Module):
    def __init__(
        self, windows=(None, None), rope=True, causal=True, shifted=False, bias=None, chunks=None
    ):
        super().__init__()
        self.rope, self.shifted = rope, shifted
        self.embed = nn.Embedding(WORDS, WIDTH)
        if not rope:
            self.positions = nn.Embedding(32, WIDTH)
        chunks = chunks or (None,) * len(windows)
        self.layers = nn.ModuleList(
            Layer(rope, window, causal, bias, chunk)
            for window, chunk in zip(windows, chunks, strict=True)
        )
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, ids):
        x = self.embed(ids)
        if not self.rope:
            x = x + self.positions(torch.arange(ids.shape[1])[None] + 2)
        if self.shifted:
            x = x + functional.pad(x, (0, 0, 2, -2))
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def _ids(seed=0, length=LENGTH):
    return torch.randint(0, WORDS, (2, length), generator=torch.Generator().manual_seed(seed))


CASES = {
    "rope": ({}, "KVCache"),
    "learned positions": ({"rope": False}, "KVCache"),
    "one layer": ({"windows": (None,)}, "KVCache"),
    "windows": ({"windows": (4, 4)}, "RotatingKVCache"),
    "every other layer": ({"windows": (4, None, 4, None)}, "RotatingKVCache"),
    "alibi": ({"bias": "alibi"}, "KVCache"),
    "a table of distances": ({"bias": "table"}, "KVCache"),
    "chunks": ({"chunks": (4, 4)}, "KVCache"),
    "chunks and all": ({"chunks": (4, None)}, "KVCache"),
}


@functools.cache
def _ported(name):
    return port_of(lambda: Decoder(**CASES[name][0]), [_ids()], TOKENS)


@pytest.mark.parametrize("name", CASES)
def test_decode_equals_prefill(name):
    ported = _ported(name)
    check_source(ported.port.model_py)
    model, ids = ported.model, _ids(1)
    with torch.no_grad():
        expected = ported.module(ids).numpy()
    ids = to_mlx(ids)
    close(np.array(model(ids)), expected)
    for prompt in (1, 3, 9):
        state = make_prompt_cache(model)
        assert type(state[0]).__name__ == CASES[name][1]
        steps = [model(ids[:, :prompt], cache=state)]
        steps += [model(ids[:, t : t + 1], cache=state) for t in range(prompt, LENGTH)]
        close(np.array(mx.concatenate(steps, axis=1)), expected, f"a prompt of {prompt}")


PADDED = [
    "rope",
    "learned positions",
    "every other layer",
    "alibi",
    "a table of distances",
    "chunks",
]


@pytest.mark.parametrize("name", PADDED)
def test_padded_row_equals_the_row_alone(name):
    model = _ported(name).model
    row, padding = to_mlx(_ids(1))[:1], [0, 3]
    short = row[:, : LENGTH - 3]
    both = mx.concatenate([row, mx.concatenate([mx.zeros((1, 3), row.dtype), short], 1)], 0)
    state = [
        BatchRotatingKVCache(c.max_size, padding)
        if isinstance(c, RotatingKVCache)
        else BatchKVCache(padding)
        for c in make_prompt_cache(model)
    ]
    alone = make_prompt_cache(model)
    close(np.array(model(both, cache=state)[1:, 3:]), np.array(model(short, cache=alone)))
    step = mx.array([[5], [7]])
    close(np.array(model(step, cache=state)[1:]), np.array(model(step[1:], cache=alone)))


def test_what_mixes_tokens_has_no_cache_and_says_why():
    ported = port_of(lambda: Decoder(shifted=True), [_ids()], TOKENS)
    assert "cache:" not in ported.port.model_py
    assert any(note.startswith("no cache: ") and "token" in note for note in ported.port.notes)
    ids = _ids(1)
    with torch.no_grad():
        expected = ported.module(ids).numpy()
    close(np.array(ported.model(to_mlx(ids))), expected)


class SharedAttention(nn.Module):
    """Without keys of its own it looks at those it is given; the values are read once more beside."""

    def __init__(self, own: bool):
        super().__init__()
        self.q, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.kv = nn.Linear(WIDTH, 2 * WIDTH) if own else None

    def forward(self, x, shared):
        batch, length, _ = x.shape
        q = _rotated(self.q(x).view(batch, length, HEADS, -1).transpose(1, 2))
        k, v = shared or (None, None)
        if self.kv is not None:
            heads = self.kv(x).view(batch, length, 2, HEADS, -1).permute(2, 0, 3, 1, 4)
            k, v = _rotated(heads[0]), heads[1]
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        beside = v if self.kv is not None else torch.zeros_like(v)
        return self.out((seen + beside).transpose(1, 2).reshape(batch, length, WIDTH)), (k, v)


class Sharing(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.layers = nn.ModuleList(SharedAttention(own) for own in (True, False, False))
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, ids):
        x, shared = self.embed(ids), None
        for layer in self.layers:
            y, shared = layer(x, shared)
            x = x + y
        return self.head(x)


def test_layers_that_share_keys_and_values_share_a_cache():
    ported = port_of(Sharing, [_ids()], TOKENS)
    ids = _ids(1)
    with torch.no_grad():
        expected = ported.module(ids).numpy()
    for prompt in (1, 7):
        state = make_prompt_cache(ported.model)
        assert len(state) == 1
        steps = [ported.model(to_mlx(ids[:, :prompt]), cache=state)]
        steps += [
            ported.model(to_mlx(ids[:, t : t + 1]), cache=state) for t in range(prompt, LENGTH)
        ]
        close(np.array(mx.concatenate(steps, axis=1)), expected)


def test_a_bias_by_position_has_no_cache_and_says_why():
    ported = port_of(lambda: Decoder(bias="position"), [_ids()], TOKENS)
    assert "cache:" not in ported.port.model_py
    assert any("more than the distance of positions" in note for note in ported.port.notes)


def test_an_encoder_has_none():
    ported = port_of(lambda: Decoder(causal=False), [_ids()], TOKENS)
    assert "cache:" not in ported.port.model_py
    assert not ported.port.notes


class Telling(Decoder):
    """Returns its logits and what they are made of."""

    def forward(self, ids):
        return {"logits": super().forward(ids), "embedded": self.embed(ids)}


def test_more_than_logits_has_no_cache_and_says_why():
    ported = port_of(Telling, [_ids()], TOKENS)
    assert "cache:" not in ported.port.model_py
    assert any("returns embedded beside its logits" in note for note in ported.port.notes)


class Branching(Decoder):
    """With many tokens it does something else."""

    def forward(self, ids):
        return super().forward(ids) * (1.0 if ids.shape[1] <= 20 else 2.0)


def test_what_holds_for_short_texts_alone_says_so_and_has_no_cache():
    ported = port_of(Branching, [_ids()], TOKENS)
    assert "cache:" not in ported.port.model_py
    assert any(
        note.startswith("length: the port holds for up to 20 tokens") for note in ported.port.notes
    )


class Stack(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class Repeated(Decoder):
    """One layer, or two lists of layers of which the first is longer, that are gone through several times."""

    def __init__(self, stacked):
        super().__init__(windows=(None,) * (5 if stacked else 1))
        self.fast = Stack(list(self.layers[:3])) if stacked else self.layers[0]
        self.slow = Stack(list(self.layers[3:])) if stacked else nn.Identity()
        del self.layers

    def forward(self, ids):
        words = x = self.embed(ids)
        for _ in range(2):
            x = self.fast(self.fast(x) + words)
            x = self.slow(x + words)
        return self.head(x)


@pytest.mark.parametrize(("stacked", "caches"), [(False, 4), (True, 4 * 3 + 2 * 2)])
def test_layers_that_are_gone_through_several_times(stacked, caches):
    """A layer has a cache for each time."""
    ported = port_of(lambda: Repeated(stacked), [_ids()], TOKENS)
    ids = _ids(1)
    with torch.no_grad():
        expected = ported.module(ids).numpy()
    close(np.array(ported.model(to_mlx(ids))), expected)
    assert len(make_prompt_cache(ported.model)) == caches
    assert decoded(ported.model, [to_mlx(ids)])["gaps"][0] < 1e-5
    if stacked:
        assert len(ported.model.layers) == 5
        part = ported.model.fast(mx.ones((1, 4, WIDTH)))  # a list by itself does without caches
        assert part.shape == (1, 4, WIDTH)
