"""find_padding: what a decoder does to padding tokens is the cache's business."""

import mlx.core as mx
import numpy as np
import torch
from mlx_lm.models.cache import make_prompt_cache
from torch.nn import functional

from porter.validate.decoding import decoded
from tests.passes.test_lift_cache import HEADS, LENGTH, TOKENS, Decoder, _ids
from tests.random_modules.parity import check_source, close, port_of, to_mlx

PAD = 1


class Counted(Decoder):
    """Positions are counted over tokens that are no padding, as in RoBERTa."""

    def forward(self, ids):
        kept = ids.ne(PAD).int()
        x = self.embed(ids) + self.positions((torch.cumsum(kept, dim=1) * kept).long() + PAD)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def _unpadded(decoder):
    """A decoder's port that says what it does about padding, and a text without any."""
    ids = _ids().clamp(min=PAD + 1)
    ported = port_of(lambda: decoder(rope=False), [ids], TOKENS)
    assert any("leaves padding to the cache" in note for note in ported.port.notes)
    with torch.no_grad():
        return ported, ids, ported.module(ids).numpy()


def test_positions_that_leave_out_padding():
    ported, ids, expected = _unpadded(Counted)
    state = make_prompt_cache(ported.model)
    steps = [ported.model(to_mlx(ids[:, t : t + 1]), cache=state) for t in range(LENGTH)]
    close(np.array(mx.concatenate(steps, axis=1)), expected)


class Cleared(Decoder):
    """As XLM has it: what stands behind a text's last token is set to zero, before and after each layer."""

    def forward(self, ids):
        place = torch.arange(ids.shape[1])
        kept = place < (ids != PAD).sum(dim=1)[:, None]
        x = self.embed(ids) * kept[..., None]
        for layer in self.layers:
            x = layer(x)
            x = x * kept.unsqueeze(-1).to(x.dtype)
        return self.head(x)


def test_a_factor_for_padding_is_the_caches_business():
    ids = _ids().clamp(min=PAD + 1)
    ported = port_of(Cleared, [ids], TOKENS)
    check_source(ported.port.model_py)
    assert ".sum(" not in ported.port.model_py
    assert any("leaves padding to the cache" in note for note in ported.port.notes)
    with torch.no_grad():
        expected = ported.module(ids).numpy()
    close(np.array(ported.model(to_mlx(ids))), expected)
    assert decoded(ported.model, [to_mlx(ids)])["gaps"][0] < 1e-5


class Hiding(Decoder):
    """As T5Gemma has it: keys of padding are hidden, and the mask is added to the scores."""

    def forward(self, ids):
        place = torch.arange(ids.shape[1])
        seen = (place[None] <= place[:, None]) & (ids != PAD)[:, None, None, :]
        mask = torch.where(seen, torch.tensor(0.0), torch.finfo(torch.float32).min)
        x = self.embed(ids)
        for layer in self.layers:
            heads = layer.attention.qkv(x).view(*ids.shape, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
            found = functional.scaled_dot_product_attention(*heads.unbind(0), attn_mask=mask)
            x = x + layer.attention.out(found.transpose(1, 2).reshape(x.shape))
        return self.head(x)


def test_a_mask_that_hides_padding_is_the_caches_business():
    ported, ids, expected = _unpadded(Hiding)
    close(np.array(ported.model(to_mlx(ids))), expected)
    assert decoded(ported.model, [to_mlx(ids)])["gaps"][0] < 1e-5
