"""A LLaVA kind: pictures come with the prompt, later tokens go through the cache."""

import mlx.core as mx
import numpy as np
import pytest
import torch
from mlx_lm.models.cache import make_prompt_cache

from porter.generate import generate
from tests.porting import saved_and_ported
from tests.tiny_configs import LLAMA

PICTURE, STEPS = 60, 8
VISION = {
    "model_type": "clip_vision_model", "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3,
    "num_attention_heads": 2, "image_size": 28, "patch_size": 14, "projection_dim": 24,
}  # fmt: skip
FEATURES = 4  # of a picture: two by two patches


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The source, and its port."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=VISION, text_config=LLAMA, image_token_id=PICTURE, image_seq_length=FEATURES
    )
    module = LlavaForConditionalGeneration(config).eval()
    return module, saved_and_ported(module, tmp_path_factory.mktemp("llava"))


def _prompt(pictures, words=6, seed=0):
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, PICTURE, (1, words), generator=draw)
    place = torch.full((1, FEATURES), PICTURE)
    parts = [ids[:, :1], *[place, ids[:, 1:2]] * pictures, ids[:, 2:]]
    return torch.cat(parts, dim=1), torch.randn(pictures, 3, 28, 28, generator=draw)


def _torch(module, ids, pixels=None):
    with torch.no_grad():
        return module(input_ids=ids, pixel_values=pixels).logits.numpy()


def _pixels(tensor):
    return mx.array(tensor.permute(0, 2, 3, 1).contiguous().numpy())


def _close(found, expected):
    np.testing.assert_allclose(np.array(found), expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("pictures", [1, 2])
def test_a_prompt_with_any_number_of_pictures(both, pictures):
    module, model = both
    ids, pixels = _prompt(pictures)
    _close(model(mx.array(ids.numpy()), _pixels(pixels)), _torch(module, ids, pixels))


def test_text_alone(both):
    module, model = both
    ids, _ = _prompt(0)
    _close(model(mx.array(ids.numpy())), _torch(module, ids))


def test_a_batch_whose_texts_have_different_pictures(both):
    module, model = both
    (one, first), (two, second) = _prompt(1, 11), _prompt(2, 6, 1)
    assert one.shape == two.shape
    ids, pixels = torch.cat([one, two]), torch.cat([first, second])
    _close(model(mx.array(ids.numpy()), _pixels(pixels)), _torch(module, ids, pixels))


def test_decoding_after_the_pictures_equals_the_whole(both):
    module, model = both
    ids, pixels = _prompt(2)
    more = torch.cat([ids, torch.randint(1, PICTURE, (1, STEPS))], dim=1)
    cache = make_prompt_cache(model)
    tokens = mx.array(more.numpy())
    found = [model(tokens[:, : ids.shape[1]], _pixels(pixels), cache=cache)]
    found += [model(tokens[:, i : i + 1], cache=cache) for i in range(ids.shape[1], more.shape[1])]
    _close(mx.concatenate(found, axis=1), _torch(module, more, pixels))


def test_greedy_tokens_are_those_of_transformers(both):
    module, model = both
    ids, pixels = _prompt(1)
    with torch.no_grad():
        theirs = module.generate(
            input_ids=ids, pixel_values=pixels, max_new_tokens=STEPS, do_sample=False
        )
    ours = generate(
        model, {"pixel_values": _pixels(pixels)}, mx.array(ids.numpy()), max_tokens=STEPS
    )
    assert np.array(ours).tolist() == theirs.tolist()


def test_token_types_of_an_unknown_form_leave_text_alone():
    """Where token types bear on what tokens see and no inner model takes them, pictures are not guessed."""
    from transformers import Gemma3Config

    from porter.sources.huggingface_inputs import example_inputs

    class Typed(torch.nn.Module):
        main_input_name = "input_ids"

        def can_generate(self):
            return True

        def forward(self, input_ids, pixel_values=None, token_type_ids=None):
            return input_ids

    vision = {"hidden_size": 16, "image_size": 28, "patch_size": 14}
    config = Gemma3Config(vision_config=vision, text_config={"vocab_size": 64})
    examples = example_inputs(Typed(), config, 0)
    assert list(examples.values) == ["input_ids"]
    assert any("text alone" in note for note in examples.notes)
