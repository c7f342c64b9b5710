"""A decoder that reads sounds in its text (Voxtral): they come with the prompt, later tokens go through the cache."""

import mlx.core as mx
import numpy as np
import pytest
import torch
from mlx_lm.models.cache import make_prompt_cache

from porter.generate import generate
from tests.porting import saved_and_ported

SOUND, WORDS, STEPS, BINS, FRAMES, FEATURES = 60, 64, 6, 8, 48, 6
AUDIO = {
    "vocab_size": WORDS, "hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_mel_bins": BINS, "max_source_positions": FRAMES // 2,
}  # fmt: skip
TEXT = {
    "model_type": "llama", "vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The source, and its port."""
    from transformers import VoxtralConfig, VoxtralForConditionalGeneration

    torch.manual_seed(0)
    config = VoxtralConfig(audio_config=AUDIO, text_config=TEXT, audio_token_id=SOUND)
    module = VoxtralForConditionalGeneration(config).eval()
    return module, saved_and_ported(module, tmp_path_factory.mktemp("voxtral"))


def _prompt(sounds):
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 50, (1, 6), generator=draw)
    place = torch.full((1, FEATURES), SOUND)
    ids = torch.cat([ids[:, :1], *[place, ids[:, 1:2]] * sounds, ids[:, 2:]], dim=1)
    return ids, torch.randn(sounds, BINS, FRAMES, generator=draw)


def _given(model, sounds):
    """The port takes spectra as it says in porter.json: frames first."""
    return mx.array(sounds.transpose(1, 2).contiguous().numpy())


def _torch(module, ids, sounds):
    with torch.no_grad():
        return module(input_ids=ids, input_features=sounds).logits.numpy()


def _close(found, expected):
    np.testing.assert_allclose(np.array(found), expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("sounds", [1, 3])
def test_decoding_after_any_number_of_sounds_equals_the_whole(both, sounds):
    module, model = both
    ids, spectra = _prompt(sounds)
    more = torch.cat([ids, torch.randint(1, 50, (1, STEPS))], dim=1)
    cache, tokens, start = make_prompt_cache(model), mx.array(more.numpy()), ids.shape[1]
    found = [model(tokens[:, :start], _given(model, spectra), cache=cache)]
    found += [model(tokens[:, i : i + 1], cache=cache) for i in range(start, more.shape[1])]
    _close(mx.concatenate(found, axis=1), _torch(module, more, spectra))


def test_greedy_tokens_are_those_of_transformers(both):
    module, model = both
    ids, spectra = _prompt(1)
    with torch.no_grad():
        theirs = module.generate(
            input_ids=ids, input_features=spectra, max_new_tokens=STEPS, do_sample=False
        )
    ours = generate(
        model, {"input_features": _given(model, spectra)}, mx.array(ids.numpy()), max_tokens=STEPS
    )
    assert np.array(ours).tolist() == theirs.tolist()
