"""lift_cache on an encoder and a decoder: encode once, then token by token what the whole forward gives."""

import functools

import mlx.core as mx
import mlx.nn
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import porter
from porter.errors import UsageError
from porter.validate.decoding import decoded_after
from tests.random_modules.parity import check_source, close, port_of, to_mlx

WORDS, WIDTH, HEADS = 40, 16, 2
DIMS = {
    "input_ids": {0: "batch", 1: "length"},
    "attention_mask": {0: "batch", 1: "length"},
    "decoder_input_ids": {0: "batch", 1: "decoder_length"},
}


class Attention(nn.Module):
    def __init__(self, bias: bool = False):
        super().__init__()
        self.q, self.k = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.v, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        if bias:
            self.bias = nn.Embedding(8, HEADS)

    def forward(self, x, memory, mask=None):
        q, k, v = self.q(x), self.k(memory), self.v(memory)
        q, k, v = (y.view(*y.shape[:2], HEADS, -1).transpose(1, 2) for y in (q, k, v))
        if hasattr(self, "bias"):
            place = torch.arange(x.shape[1])
            apart = (place[:, None] - place[None]).clamp(0, 7)
            mask = mask + self.bias(apart).permute(2, 0, 1)[None]
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(x.transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.norm = Attention(), nn.LayerNorm(WIDTH)

    def forward(self, x, mask):
        x = self.norm(x)
        return x + self.attention(x, x, mask)


class DecoderLayer(nn.Module):
    def __init__(self, bias):
        super().__init__()
        self.attention, self.crossed = Attention(bias), Attention()
        self.norm, self.mlp = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x, mask, memory, memory_mask):
        y = self.norm(x)
        x = x + self.attention(y, y, mask)
        x = x + self.crossed(x, memory, memory_mask)
        return x + functional.silu(self.mlp(x))


class Decoder(nn.Module):
    def __init__(self, bias, causal):
        super().__init__()
        self.causal = causal
        if not bias:
            self.positions = nn.Embedding(32, WIDTH)
        self.layers = nn.ModuleList(DecoderLayer(bias) for _ in range(3))

    def forward(self, x, memory, memory_mask):
        place = torch.arange(x.shape[1])
        if hasattr(self, "positions"):
            x = x + self.positions(place)
        hidden = torch.where(place[None] <= place[:, None] + (not self.causal), 0.0, -1e9)
        hidden = hidden.to(
            x.dtype
        )  # attention in float64 under a float32 mask is wrong in some builds of torch
        for layer in self.layers:
            x = layer(x, hidden[None, None], memory, memory_mask)
        return x


class EncoderDecoder(nn.Module):
    def __init__(self, bias=False, causal=True, beside=False):
        super().__init__()
        if beside:
            self.rows = nn.Embedding(32, WIDTH)
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.encoder = nn.ModuleList(EncoderLayer() for _ in range(2))
        self.decoder = Decoder(bias, causal)
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, input_ids, attention_mask, decoder_input_ids):
        memory, mask = self.embed(input_ids), attention_mask[:, None, None].bool()
        for layer in self.encoder:
            memory = layer(memory, mask)
        x = self.embed(decoder_input_ids)
        if hasattr(self, "rows"):
            x = x + self.rows(torch.arange(x.shape[1]))
        x = self.decoder(x, memory, mask)
        return {"logits": self.head(x), "memory": memory}


class Side(nn.Module):
    """A module with a table of its own, as transformers has them, which is tied to the other side's."""

    def __init__(self, embed):
        super().__init__()
        self.embed, self.out = embed, nn.Linear(WIDTH, WIDTH)

    def forward(self, ids):
        return self.out(self.embed(ids))


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        embed = nn.Embedding(WORDS, WIDTH)
        self.encoder, self.decoder = Side(embed), Side(embed)

    def forward(self, input_ids, attention_mask, decoder_input_ids):
        memory = (self.encoder(input_ids) * attention_mask[..., None]).sum(dim=1)
        return self.decoder(decoder_input_ids) * memory[:, None]


def _inputs(seed=0, length=7, decoder_length=9):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, WORDS, (2, length), generator=generator)
    mask = torch.ones(2, length, dtype=torch.int64)
    mask[1, 4:] = 0
    return ids, mask, torch.randint(0, WORDS, (2, decoder_length), generator=generator)


CASES = {
    "learned positions": {},
    "a bias of distances": {"bias": True},
    "positions beside": {"bias": True, "beside": True},
}


@functools.cache
def _ported(name):
    return port_of(lambda: EncoderDecoder(**CASES[name]), _inputs(), DIMS)


@pytest.mark.parametrize("name", CASES)
def test_decode_equals_the_whole_forward(name):
    ported = _ported(name)
    check_source(ported.port.model_py)
    inputs = _inputs(1, 6, 11)
    ported.check(*inputs)
    assert decoded_after(ported.model, [to_mlx(x) for x in inputs])["gaps"][0] < 1e-5


@pytest.mark.parametrize("name", CASES)
def test_padded_rows_are_as_alone(name):
    model = _ported(name).model
    ids, mask, text = map(to_mlx, _inputs(2))
    both = model.decode(text, model.encode(ids, mask), mask, model.make_cache())
    alone = model.decode(
        text[1:], model.encode(ids[1:, :4], mask[1:, :4]), mask[1:, :4], model.make_cache()
    )
    close(np.array(both[1:]), np.array(alone).astype(np.float64))


@pytest.mark.parametrize("name", CASES)
def test_greedy_tokens_are_those_of_torch(name):
    ported = _ported(name)
    ids, mask, text = _inputs(3, decoder_length=2)
    named = {"input_ids": to_mlx(ids), "attention_mask": to_mlx(mask)}
    found = porter.generate(ported.model, named, to_mlx(text), max_tokens=12)
    for _ in range(12):
        with torch.no_grad():
            logits = ported.module(ids, mask, text)["logits"][:, -1]
        text = torch.cat([text, logits.argmax(-1, keepdim=True)], dim=1)
    assert np.array(found).tolist() == text.tolist()


def test_what_the_encoder_gave_is_projected_once():
    model = _ported("learned positions").model
    ids, mask, text = map(to_mlx, _inputs(4))
    memory, cache = model.encode(ids, mask), model.make_cache()
    model.decode(text[:, :3], memory, mask, cache)
    first = [layer[1].keys for layer in cache]
    again = model.decode(text[:, 3:4], mx.zeros_like(memory), mask, cache)
    assert all(layer[1].keys is keys for layer, keys in zip(cache, first, strict=True))
    close(np.array(again), np.array(model.decode(text[:, :4], memory, mask)[:, 3:], np.float64))


class Bounded(EncoderDecoder):
    """With a long text to read it does something else."""

    def forward(self, input_ids, attention_mask, decoder_input_ids):
        factor = 1.0 if input_ids.shape[1] <= 20 else 2.0
        result = super().forward(input_ids, attention_mask, decoder_input_ids)
        return {"logits": result["logits"], "memory": result["memory"] * factor}


def test_a_bound_of_what_is_read_is_none_of_what_is_written():
    ported = port_of(Bounded, _inputs(), DIMS)
    assert any(note.startswith("length: the port holds") for note in ported.port.notes)
    inputs = [to_mlx(x) for x in _inputs(1, 6, 24)]
    assert decoded_after(ported.model, inputs)["gaps"][0] < 1e-5


def test_a_model_that_does_not_encode_is_refused():
    with pytest.raises(UsageError, match="no cache to decode with"):
        porter.generate(mlx.nn.Linear(2, 2), {}, mx.zeros((1, 1), dtype=mx.int32))


def test_rows_stop_one_by_one():
    model = _ported("learned positions").model
    ids, mask, text = map(to_mlx, _inputs(3, decoder_length=1))
    named = {"input_ids": ids, "attention_mask": mask}
    free = np.array(porter.generate(model, named, text, max_tokens=12))
    end = int(free[0, 3])
    found = np.array(porter.generate(model, named, text, max_tokens=12, stop=[end]))
    for row, whole in zip(found, free, strict=True):
        after = np.flatnonzero(whole[1:] == end)
        stop = 2 + after[0] if len(after) else len(row)
        assert row[:stop].tolist() == whole[:stop].tolist()
        assert set(row[stop:].tolist()) <= {end}


def test_modules_are_compared_with_masks_that_the_source_has():
    for name in CASES:
        modules = _ported(name).port.modules
        # with positions beside its layers the decoder is part of the root
        whole = {"path": "decoder"} if "beside" not in CASES[name] else {"class": "DecoderLayer"}
        assert any(whole.items() <= entry.items() for entry in modules)
        for entry in modules:
            assert all("value" in spec for spec in entry["outputs"]), entry


def test_a_table_of_both_sides_is_kept_once():
    ported = port_of(lambda: Shared(), _inputs(), DIMS)
    ported.check(*_inputs(1))
    tables = [path for path in ported.port.recipes if "embed" in path]
    assert tables == ["embed.weight"]
    assert ported.port.model_py.count("self.embed(") == 2


def test_no_cache_where_tokens_see_later_ones():
    ported = port_of(lambda: EncoderDecoder(causal=False), _inputs(), DIMS)
    assert not hasattr(ported.model, "encode")
    ported.check(*_inputs(1))
