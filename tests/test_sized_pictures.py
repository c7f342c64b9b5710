"""Pictures that come with their sizes, by which a source goes through them one by one: tiles, grids of patches, padding."""

import mlx.core as mx
import numpy as np
import pytest
import torch
from mlx_lm.models.cache import make_prompt_cache

from porter.generate import generate
from tests.porting import facts, saved_and_ported
from tests.tiny_configs import LLAMA

PICTURE, WORDS, STEPS, SIDE, PATCH = 60, 64, 5, 16, 8
CLIP = {
    "model_type": "clip_vision_model", "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3,
    "num_attention_heads": 2, "image_size": SIDE, "patch_size": PATCH, "projection_dim": 24,
}  # fmt: skip
TILES = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
#: Settings; what is given beside the pixels of one picture; the shape of its pixels; how many features it has.
KINDS = {
    "llava_next": (
        {"vision_config": CLIP, "image_grid_pinpoints": TILES},
        {"image_sizes": [SIDE, 2 * SIDE]},
        (3, 3, SIDE, SIDE),
        4 + 2 * (4 + 1),  # the whole, two tiles side by side, and the end of each row
    ),
    "mistral3": (
        {
            "vision_config": {
                "model_type": "pixtral", "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
                "num_attention_heads": 2, "image_size": 64, "patch_size": PATCH, "head_dim": 12,
            },
            "spatial_merge_size": 2,
            "vision_feature_layer": -1,
        },
        {"image_sizes": [4 * PATCH, 6 * PATCH]},
        (3, 4 * PATCH, 6 * PATCH),
        6,
    ),
    "idefics3": (
        {
            "vision_config": {
                "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2,
                "image_size": 2 * SIDE, "patch_size": PATCH,
            },
            "scale_factor": 2,
        },
        {},
        (1, 3, 2 * SIDE, 2 * SIDE),
        4,
    ),
    "lfm2_vl": (
        {
            "vision_config": {
                "model_type": "siglip2_vision_model", "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
                "num_attention_heads": 2, "patch_size": PATCH, "num_patches": 16, "vision_use_head": False,
            },
            "downsample_factor": 2,
            "projector_hidden_size": 40,
        },
        {"spatial_shapes": [4, 6], "pixel_attention_mask": [1] * 24},
        (24, 3 * PATCH * PATCH),
        6,
    ),
    "gemma4": (  # a picture's patches see each other
        {
            "vision_config": {
                "model_type": "gemma4_vision", "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
                "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "patch_size": PATCH,
                "position_embedding_size": 16, "pooling_kernel_size": 2,
            },
            "text_config": LLAMA | {
                "model_type": "gemma4_text", "head_dim": 8, "global_head_dim": 8, "num_kv_shared_layers": 0,
                "vocab_size_per_layer_input": WORDS, "hidden_size_per_layer_input": 8, "sliding_window": 6,
                "layer_types": ["sliding_attention", "full_attention"], "use_bidirectional_attention": "vision",
                "num_global_key_value_heads": 2,
            },
            "audio_config": None, "audio_token_id": 61, "video_token_id": 62,
        },
        {"image_position_ids": [[x, y] for y in range(4) for x in range(6)]},
        (24, 3 * PATCH * PATCH),
        6,
    ),
    "llama4": (
        {
            "vision_config": {
                "hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
                "image_size": 2 * SIDE, "patch_size": PATCH, "vision_output_dim": 40, "projector_input_dim": 40,
                "projector_output_dim": 40,
            },
            "text_config": LLAMA | {
                "model_type": "llama4_text", "intermediate_size_mlp": 48, "head_dim": 8, "num_local_experts": 4,
                "attention_chunk_size": 64,
            },
        },
        {},
        (3, 2 * SIDE, 2 * SIDE),
        4,
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def both(tmp_path_factory, request):
    """The source, its port, and how a picture is given."""
    from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

    torch.manual_seed(0)
    own, *form = KINDS[request.param]
    config = CONFIG_MAPPING[request.param](
        **{"text_config": LLAMA, "image_token_id": PICTURE, "image_token_index": PICTURE} | own
    )
    config.image_token_id = PICTURE
    module = AutoModelForImageTextToText.from_config(config).eval()
    folder = tmp_path_factory.mktemp(request.param)
    model = saved_and_ported(module, folder)
    order = next(x["permute"] for x in facts(folder / "port")["inputs"] if "pixel" in x["name"])
    return module, model, [*form, order]


def _prompt(form, pictures, words=6, seed=0):
    _, shape, features, _ = form
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 50, (1, words), generator=draw)
    place = torch.full((1, features), PICTURE)
    ids = torch.cat([ids[:, :1], *[place, ids[:, 1:2]] * pictures, ids[:, 2:]], dim=1)
    return ids, torch.randn(pictures, *shape, generator=draw)


def _given(form, ids, pixels):
    """As transformers' processor gives them."""
    sizes = {name: torch.tensor([value] * len(pixels)) for name, value in form[0].items()}
    if "image_position_ids" in sizes:
        sizes["mm_token_type_ids"] = (ids == PICTURE).int()
    return {"input_ids": ids, "pixel_values": pixels, **sizes}


def _torch(module, form, ids, pixels=None):
    with torch.no_grad():
        given = {"input_ids": ids} if pixels is None else _given(form, ids, pixels)
        return module(**given).logits.numpy()


def _pixels(form, pixels):
    """In the port's order of axes, without one for one."""
    pixels = pixels.squeeze(1) if form[1][0] == 1 else pixels
    return mx.array(pixels.permute(form[3] or [*range(pixels.ndim)]).contiguous().numpy())


def _close(found, expected):
    np.testing.assert_allclose(np.array(found), expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("pictures", [1, 2, 4])
def test_a_prompt_with_any_number_of_pictures(both, pictures):
    module, model, form = both
    ids, pixels = _prompt(form, pictures)
    found = model(mx.array(ids.numpy()), _pixels(form, pixels))
    _close(found, _torch(module, form, ids, pixels))


def test_text_alone(both):
    module, model, form = both
    ids, _ = _prompt(form, 0, 9)
    _close(model(mx.array(ids.numpy())), _torch(module, form, ids))


def test_decoding_after_the_pictures_equals_the_whole(both):
    module, model, form = both
    ids, pixels = _prompt(form, 2)
    more = torch.cat([ids, torch.randint(1, 50, (1, STEPS))], dim=1)
    cache, tokens, start = make_prompt_cache(model), mx.array(more.numpy()), ids.shape[1]
    found = [model(tokens[:, :start], _pixels(form, pixels), cache=cache)]
    found += [model(tokens[:, i : i + 1], cache=cache) for i in range(start, more.shape[1])]
    _close(mx.concatenate(found, axis=1), _torch(module, form, more, pixels))


def test_greedy_tokens_are_those_of_transformers(both):
    module, model, form = both
    ids, pixels = _prompt(form, 1)
    with torch.no_grad():
        given = _given(form, ids, pixels)
        theirs = module.generate(**given, max_new_tokens=STEPS, do_sample=False)
    ours = generate(
        model, {"pixel_values": _pixels(form, pixels)}, mx.array(ids.numpy()), max_tokens=STEPS
    )
    assert np.array(ours).tolist() == theirs.tolist()


def test_a_checkpoint_that_transformers_converts_takes_pictures(tmp_path, monkeypatch):
    """The module that it loads is another than the one that the example inputs were found for."""
    from transformers import AutoModelForImageTextToText, Mistral3Config

    from porter.sources import SourceOptions, huggingface, resolve
    from porter.sources.checkpoints import KeyMatch

    own, *_ = KINDS["mistral3"]
    config = Mistral3Config(text_config=LLAMA, image_token_index=PICTURE, **own)
    AutoModelForImageTextToText.from_config(config).eval().save_pretrained(tmp_path)
    monkeypatch.setattr(huggingface, "renamed_keys", lambda *_: ({}, {"part": ("whole",)}))
    monkeypatch.setattr(
        huggingface,
        "find_keys",
        lambda *_: KeyMatch(keys={}, missing=("part",), unused=(), notes=()),
    )
    source = resolve(str(tmp_path), SourceOptions())
    assert [note.partition(" ")[0] for note in source.notes] == ["transformers", "pictures"]
    with torch.no_grad():
        logits = source.materialize()(**source.kwargs)["logits"]
    assert logits.shape[:2] == source.kwargs["input_ids"].shape
