"""A Qwen-VL kind: pictures are rows of patches, and positions count time, height and width (M-RoPE)."""

import mlx.core as mx
import numpy as np
import pytest
import torch
from mlx_lm.models.cache import ArraysCache, BatchKVCache, make_prompt_cache

from porter.frontends.picture_positions import positions
from porter.functions.positions import picture_positions
from porter.generate import generate
from tests.porting import saved_and_ported

PICTURE, WORDS, STEPS = 190, 200, 6
ROWS, COLUMNS = 2, 3  # of a picture's features
VISION = {
    "depth": 2, "num_heads": 2, "in_channels": 3, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2,
}  # fmt: skip
KINDS = {
    "qwen2_vl": {"embed_dim": 32, "hidden_size": 48, "mlp_ratio": 2},
    "qwen2_5_vl": {  # attention in windows of two by two features
        "hidden_size": 32, "intermediate_size": 40, "out_hidden_size": 48, "window_size": 16, "fullatt_block_indexes": [1],
    },
    "qwen3_vl": {  # deeper features are added behind the first layers; time, height and width take turns in a head
        "hidden_size": 32, "intermediate_size": 40, "out_hidden_size": 48, "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0, 1],
    },
}  # fmt: skip
TEXT = {
    "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": WORDS, "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2]},
}  # fmt: skip
TOKENS = {
    "image_token_id": PICTURE,
    "video_token_id": 191,
    "vision_start_token_id": 192,
    "vision_end_token_id": 193,
}
GRID = [1, 2 * ROWS, 2 * COLUMNS]


@pytest.fixture(scope="module", params=KINDS)
def both(tmp_path_factory, request):
    """The source, and its port."""
    from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

    torch.manual_seed(0)
    config = CONFIG_MAPPING[request.param](
        vision_config=VISION | KINDS[request.param], text_config=TEXT, **TOKENS
    )
    module = AutoModelForImageTextToText.from_config(config).eval()
    return module, saved_and_ported(module, tmp_path_factory.mktemp("qwen"))


def _prompt(pictures, words=6, seed=0):
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 180, (1, words), generator=draw)
    place = torch.full((1, ROWS * COLUMNS), PICTURE)
    ids = torch.cat([ids[:, :1], *[place, ids[:, 1:2]] * pictures, ids[:, 2:]], dim=1)
    return ids, torch.randn(pictures, 4 * ROWS * COLUMNS, 96, generator=draw)


def _given(ids, pixels):
    """As transformers' processor gives them."""
    return {
        "input_ids": ids,
        "pixel_values": pixels.flatten(0, 1),
        "image_grid_thw": torch.tensor([GRID] * len(pixels)),
        "mm_token_type_ids": (ids == PICTURE).int(),
    }


def _torch(module, ids, pixels=None):
    module.model.rope_deltas = None
    with torch.no_grad():
        given = {"input_ids": ids} if pixels is None else _given(ids, pixels)
        return module(**given).logits.numpy()


def _mx(tensor):
    return mx.array(tensor.numpy())


def _close(found, expected):
    np.testing.assert_allclose(np.array(found), expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("pictures", [1, 2, 4])
def test_a_prompt_with_any_number_of_pictures(both, pictures):
    module, model = both
    ids, pixels = _prompt(pictures)
    _close(model(_mx(ids), _mx(pixels)), _torch(module, ids, pixels))


def test_text_alone(both):
    module, model = both
    ids, _ = _prompt(0)
    _close(model(_mx(ids)), _torch(module, ids))


def test_decoding_after_the_pictures_equals_the_whole(both):
    module, model = both
    ids, pixels = _prompt(2)
    more = torch.cat([ids, torch.randint(1, 180, (1, STEPS))], dim=1)
    cache, tokens = make_prompt_cache(model), _mx(more)
    found = [model(tokens[:, : ids.shape[1]], _mx(pixels), cache=cache)]
    found += [model(tokens[:, i : i + 1], cache=cache) for i in range(ids.shape[1], more.shape[1])]
    _close(mx.concatenate(found, axis=1), _torch(module, more, pixels))


def test_greedy_tokens_are_those_of_transformers(both):
    module, model = both
    ids, pixels = _prompt(1)
    module.model.rope_deltas = None
    with torch.no_grad():
        theirs = module.generate(**_given(ids, pixels), max_new_tokens=STEPS, do_sample=False)
    ours = generate(model, {"pixel_values": _mx(pixels)}, _mx(ids), max_tokens=STEPS)
    assert np.array(ours).tolist() == theirs.tolist()


def test_a_row_that_is_padded_at_the_left(both):
    module, model = both
    (long, first), (short, second) = _prompt(2, 6), _prompt(1, 6, 1)
    padding = long.shape[1] - short.shape[1]
    ids = torch.cat([long, torch.cat([torch.zeros(1, padding, dtype=torch.int64), short], dim=1)])
    cache = [BatchKVCache([0, padding]) for _ in model.layers] + [ArraysCache(1, [0, padding])]
    word = torch.tensor([[7], [7]])
    found = model(_mx(ids), _mx(torch.cat([first, second])), cache=cache)
    _close(found[1:, padding:], _torch(module, short, second))
    step = model(_mx(word), cache=cache)
    _close(step[1:], _torch(module, torch.cat([short, word[1:]], dim=1), second)[:, -1:])
    _close(step[:1], _torch(module, torch.cat([long, word[:1]], dim=1), first)[:, -1:])


@pytest.mark.parametrize("pieces", [(1, 5, 2, 9, 7), (24,)])
def test_positions_are_those_of_transformers(both, pieces):
    module, _ = both
    ids, _ = _prompt(2, 11)
    theirs, _ = module.model.get_rope_index(ids, (ids == PICTURE).int(), torch.tensor([GRID, GRID]))
    assert torch.equal(positions(ids, PICTURE, ROWS, COLUMNS), theirs)
    assert sum(pieces) == ids.shape[1]
    cache, found, start = ArraysCache(1), [], 0
    for size in pieces:
        part = _mx(ids)[:, start : start + size]
        found.append(picture_positions(part, PICTURE, ROWS, COLUMNS, cache))
        start += size
    assert np.array_equal(np.array(mx.concatenate(found, axis=2)), theirs.numpy())


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl"])  # whose towers are model types
def test_a_tower_by_itself_takes_any_number_of_pictures(kind, tmp_path):
    from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](vision_config=VISION | KINDS[kind], text_config=TEXT, **TOKENS)
    tower = AutoModelForImageTextToText.from_config(config).model.visual.eval()
    model = saved_and_ported(tower, tmp_path)
    for pictures in (1, 4):
        _, pixels = _prompt(pictures)
        with torch.no_grad():
            expected = tower(pixels.flatten(0, 1), torch.tensor([GRID] * pictures)).pooler_output
        _close(model(_mx(pixels))["pooler_output"], expected.numpy())


def test_a_tower_that_turns_its_grids():
    """Rows and columns in turn are as well known as what they are made of."""
    from porter.sources.huggingface_towers import tower_inputs

    class Tower(torch.nn.Module):
        def forward(self, pixel_values, grid_thw):
            (rows, columns), _ = grid_thw[:, [2, 1]].tolist()[0], None
            counts = grid_thw.prod(-1).tolist()
            parts = [
                part.view(columns, rows, -1).mT.flatten(0, 1) for part in pixel_values.split(counts)
            ]
            return torch.cat(parts)

    tower, vision = Tower(), _Vision()
    draw = torch.Generator().manual_seed(0)
    values, dims, _ = tower_inputs(tower, vision, ["pixel_values", "grid_thw"], draw)
    exported = torch.export.export(
        tower, (), values, dynamic_shapes={"pixel_values": {0: torch.export.Dim.AUTO}}
    )
    for pictures in (2, 5):
        pixels = torch.randn(pictures, *values["pixel_values"].shape[1:])
        torch.testing.assert_close(exported.module()(pixel_values=pixels), tower(pixels))
    assert dims == {"pixel_values": {0: "pictures"}}


class _Vision:
    sub_configs = ()
    patch_size, spatial_merge_size, in_channels, temporal_patch_size = 4, 2, 3, 2


def test_a_tower_with_a_projector_behind_it_leaves_text_alone():
    """Its features are not what stands in the places of pictures (Cosmos 3 Edge): porter would take the wrong ones."""
    from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

    from porter.sources.huggingface_inputs import example_inputs

    def unmerged(tower, args, found):
        found.pooler_output = found.last_hidden_state
        return found

    config = CONFIG_MAPPING["qwen2_vl"](
        vision_config=VISION | KINDS["qwen2_vl"], text_config=TEXT, **TOKENS
    )
    module = AutoModelForImageTextToText.from_config(config).eval()
    config.text_config.use_cache = False
    assert "pixel_values" in example_inputs(module, config, 0).values
    module = AutoModelForImageTextToText.from_config(config).eval()
    module.model.visual.register_forward_hook(unmerged)
    examples = example_inputs(module, config, 0)
    assert list(examples.values) == ["input_ids"]
    assert any("text alone" in note for note in examples.notes)
