"""Texts whose tokens see some that follow: a picture's features each other (Gemma 3), a prompt all of itself (PaliGemma)."""

import mlx.core as mx
import numpy as np
import pytest
import torch
from mlx_lm.models.cache import BatchKVCache, BatchRotatingKVCache, KVCache, make_prompt_cache

from porter.generate import generate
from tests.porting import saved_and_ported

PICTURE, WORDS, STEPS, FEATURES, SIDE = 60, 64, 6, 4, 28
VISION = {
    "model_type": "siglip_vision_model", "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 2, "image_size": SIDE, "patch_size": 14, "vision_use_head": False, "projection_dim": 32,
}  # fmt: skip
TEXT = {
    "vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "bos_token_id": None, "eos_token_id": None,
    "pad_token_id": 0,
}  # fmt: skip
#: Settings, and the text's model; Gemma 3 looks back on six tokens in its first layer.
KINDS = {
    "gemma3": (
        {"mm_tokens_per_image": FEATURES},
        {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 6},
    ),
    "paligemma": ({"projection_dim": 32}, {"model_type": "gemma"}),
}


@pytest.fixture(scope="module", params=KINDS)
def both(tmp_path_factory, request):
    """The source, and its port."""
    from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

    torch.manual_seed(0)
    own, text = KINDS[request.param]
    config = CONFIG_MAPPING[request.param](
        vision_config=VISION,
        text_config=TEXT | text,
        image_token_id=PICTURE,
        image_token_index=PICTURE,
        **own,
    )
    config.image_token_id = PICTURE
    module = AutoModelForImageTextToText.from_config(config).eval()
    return module, saved_and_ported(module, tmp_path_factory.mktemp(request.param))


def _prompt(pictures, words=6, seed=0):
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 50, (1, words), generator=draw)
    place = torch.full((1, FEATURES), PICTURE)
    parts = [ids[:, :1], *[place, ids[:, 1:2]] * pictures, ids[:, 2:]]
    return torch.cat(parts, dim=1), torch.randn(pictures, 3, SIDE, SIDE, generator=draw)


def _given(module, ids, pixels, prompt=None):
    """As transformers' processor gives them, of a prompt and what was written behind it."""
    if module.config.model_type == "gemma3":
        types = (ids == PICTURE).int()
    else:
        types = torch.zeros_like(ids)
        types[:, prompt or ids.shape[1] :] = 1
    return {"input_ids": ids, "pixel_values": pixels, "token_type_ids": types}


def _torch(module, ids, pixels=None, prompt=None):
    with torch.no_grad():
        given = {"input_ids": ids} if pixels is None else _given(module, ids, pixels, prompt)
        if (
            pixels is None and module.config.model_type == "paligemma"
        ):  # what is written behind a prompt
            given["token_type_ids"] = torch.ones_like(ids)
        return module(**given).logits.numpy()


def _mx(tensor):
    return mx.array(tensor.numpy())


def _pixels(tensor):
    return _mx(tensor.permute(0, 2, 3, 1).contiguous())


def _close(found, expected):
    np.testing.assert_allclose(np.array(found), expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("pictures", [1, 3])
def test_a_prompt_with_any_number_of_pictures(both, pictures):
    module, model = both
    ids, pixels = _prompt(pictures)
    _close(model(_mx(ids), _pixels(pixels)), _torch(module, ids, pixels))


def test_text_alone_sees_nothing_that_follows(both):
    module, model = both
    ids, _ = _prompt(0, 12)
    _close(model(_mx(ids)), _torch(module, ids))


def test_decoding_after_the_pictures_equals_the_whole(both):
    module, model = both
    ids, pixels = _prompt(2)
    more = torch.cat([ids, torch.randint(1, 50, (1, STEPS))], dim=1)
    cache, tokens, start = make_prompt_cache(model), _mx(more), ids.shape[1]
    found = [model(tokens[:, :start], _pixels(pixels), cache=cache)]
    found += [model(tokens[:, i : i + 1], cache=cache) for i in range(start, more.shape[1])]
    _close(mx.concatenate(found, axis=1), _torch(module, more, pixels, start))


def test_greedy_tokens_are_those_of_transformers(both):
    module, model = both
    ids, pixels = _prompt(1)
    with torch.no_grad():
        theirs = module.generate(
            **_given(module, ids, pixels), max_new_tokens=STEPS, do_sample=False
        )
    ours = generate(model, {"pixel_values": _pixels(pixels)}, _mx(ids), max_tokens=STEPS)
    assert np.array(ours).tolist() == theirs.tolist()


@pytest.mark.parametrize("both", ["gemma3"], indirect=True)  # PaliGemma's prompt is one call
def test_pictures_in_a_later_call(both):
    """What came before them is in the cache: features see it, and each other."""
    module, model = both
    ids, pixels = _prompt(2)
    cache, tokens = make_prompt_cache(model), _mx(ids)
    found = [
        model(tokens[:, :5], _pixels(pixels[:1]), cache=cache),
        model(tokens[:, 5:], _pixels(pixels[1:]), cache=cache),
    ]
    _close(mx.concatenate(found, axis=1), _torch(module, ids, pixels))


def test_a_row_that_is_padded_at_the_left(both):
    module, model = both
    (long, first), (short, second) = _prompt(2, 6), _prompt(1, 6, 1)
    padding = long.shape[1] - short.shape[1]
    ids = torch.cat([long, torch.cat([torch.zeros(1, padding, dtype=torch.int64), short], dim=1)])
    cache = [
        BatchKVCache([0, padding])
        if isinstance(own, KVCache)
        else BatchRotatingKVCache(own.max_size, [0, padding])
        for own in make_prompt_cache(model)
    ]
    found = model(_mx(ids), _pixels(torch.cat([first, second])), cache=cache)
    _close(found[1:, padding:], _torch(module, short, second))
    _close(found[:1], _torch(module, long, first))
