"""Small configurations of transformers' model types, from their default ones.

Every number keeps its relations to the others: widths are divided by one factor through all nested configurations,
numbers of layers become two, and head counts stay.  `candidates` goes from the smallest to the default.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator
from typing import Any

from benchmarks.zoo.config_changes import INCOMPLETE, MROPE

VOCABULARY = 160
POSITIONS = 96
WINDOW = 8

_WIDTH = re.compile(
    r"(^|_)(size|sizes|dim|dims|channels|channel|features|units|rank|width|embd|inner|section|filters|state|hidden)s?($|_)"
    r"|^d_|^n_embd|_d_|_ch$|_list$|_feats$|^width|_cells$|reduced_size"
)
_NOT_WIDTH = re.compile(
    r"image|patch|kernel|pos_emb|vocab|window|chunk|crop|pool|stride|^max_|batch|group|num_channels|resolution|codebook_size|"
    r"input_feat_size|num_mel|num_embeddings|block_size|position|stack_size|feature_size|input_channels|input_size|"
    r"context_size|pad_size|roi_size|conv_kernel|(^|_)tokens?(_|$)|downsample_factor|latent_size_ratio|state_size$|layers"
    r"|background_size|spec_size|label|scale|audio_channels|tubelet|beam|query_dim|code_depth|token_id"
)
_LAYERS = re.compile(
    r"(num|n|encoder|decoder|conf|fusion|attention|net|residual|repeat)_.*(layers?|blocks?)$|(^|_)n_layers?$|^layers$|"
    r"(^|_)depths?$|(^|_)num_block_repeats$|stage_num_blocks|stage_numb_of_layers|blocks_per_stage|_layers$|^num_blocks|"
    r"^num_residual_|^layers_"
)
_NOT_LAYERS = re.compile(
    r"cross|index|stage_num$|no_rope|_conv_layers|feat_extract|num_adapter|output_|interm|moe_layers|attn_layers|head_depth|"
    r"code_depth|to_|max_depth|min_depth|conv_mlp|source_layers|num_stages|encoder_blocks|scaling_layers|window_layers|"
    r"upsampl|downsampl|skip|proj_layers|look_|subsample|lstm"
)
_INDEXES = re.compile(
    r"index(es)?$|indices$|_idxs?$|global_attention_blocks|^return_idx|_layers$|interaction"
)
_HEADS = re.compile(r"(^|_)(num|n)_(\w+_)?heads?$|attention_heads$")
_EXPERTS = re.compile(
    r"(num|n)_(local_|routed_)?experts$|^moe_num_experts$|^num_moe_experts$|_num_experts$"
)
_CHOSEN = re.compile(
    r"experts_per_tok|num_experts_per_token|moe_topk|^top_k_experts|moe_k$|moe_top_k|router_top_k"
)
_WINDOW = re.compile(r"^(sliding_window|sliding_window_size|attention_chunk_size|local_attention)$")
_POSITIONS = re.compile(
    r"^(max_position_embeddings|n_positions|max_source_positions|max_target_positions|n_ctx|original_max_position_embeddings"
    r"|max_sequence_length|max_seq_len|max_audio_positions|max_speech_positions|max_text_positions|max_2d_position_embeddings"
    r"|max_caption_length|max_text_len)$"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """How small: widths are divided by `width`; `layers` at most; whether vocabulary and images shrink.

    With `heads` their number is divided instead of their size.
    """

    width: int = 16
    layers: int = 2
    vocabulary: bool = True
    image: bool = True
    heads: bool = False


SCALES = (
    Scale(16), Scale(16, heads=True), Scale(8), Scale(4), Scale(16, image=False), Scale(1), Scale(4, image=False),
    Scale(1, image=False), Scale(4, vocabulary=False), Scale(1, vocabulary=False, image=False), Scale(4, layers=99),
    Scale(1, 99, False, False),
)  # fmt: skip


def candidates(config_class: type, changes: dict[str, Any]) -> Iterator[tuple[Scale, Any]]:
    """(scale, configuration) from the smallest to the default; those that the class refuses are left out.

    `changes` are fields that are set after shrinking; a dict changes a nested configuration.
    """
    for scale in SCALES:
        try:
            yield scale, scaled(config_class, scale, changes)
        except Exception:  # noqa: BLE001, S112 -- configurations validate themselves, each in its own way
            continue


def scaled(config_class: type, scale: Scale, changes: dict[str, Any]) -> Any:
    """The default configuration made as small as `scale` says, with the fields of `changes` set after that."""
    default = config_class()
    fields = _shrunk(default, scale, {})
    return config_class(**_merge(_merge(fields, _completed(default, fields)), changes))


def _completed(config: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """What a default configuration leaves open though its model can't run without it, and what shrinking broke."""

    def value(name: str) -> Any:
        return fields.get(name, vars(config).get(name))  # which may differ from layer to layer

    result = dict(INCOMPLETE.get(config.model_type, {}))
    names = [field.name for field in dataclasses.fields(config)]
    experts = [name for name in names if _EXPERTS.search(name)]
    if "prediction_length" in names and value("prediction_length") is None:
        result["prediction_length"] = 8
    width, heads = value("hidden_size"), value("num_attention_heads")
    if "head_dim" in names and value("head_dim") is None and width and heads:
        result["head_dim"] = width // heads
    if "num_key_value_heads" in names and value("num_key_value_heads") is None and heads:
        result["num_key_value_heads"] = heads
    result |= {name: 8 for name in experts if value(name) is None and name != "num_experts"}
    result |= {
        name: 2 for name in names if _CHOSEN.search(name) and value(name) is None and experts
    }
    result |= {name: 1 for name in names if name.endswith("shared_experts") and value(name) is None}
    text, tower = getattr(config, "text_config", None), getattr(config, "vision_config", None)
    if hasattr(tower, "out_hidden_size") and hasattr(text, "hidden_size"):  # one meets the other
        wide = fields.get("text_config", {}).get("hidden_size", text.hidden_size)
        result["vision_config"] = {"out_hidden_size": wide}
    if tower is not None and "image_grid_pinpoints" in names:  # parts as large as the tower takes
        small = fields.get("vision_config", {}).get("image_size", tower.image_size)
        sizes = value("image_grid_pinpoints")
        result["image_grid_pinpoints"] = [
            [item * small // tower.image_size for item in size] for size in sizes
        ]
    width, named = value("hidden_size"), [name for name in names if _HEADS.search(name)]
    if "head_dim" not in names and isinstance(width, int) and width % 8 == 0:
        wrong = [n for n in named if isinstance(value(n), int) and width % value(n)]
        result |= dict.fromkeys(wrong, width // 8)  # heads of 8 features where there were none left
    rotations = value("rope_parameters")
    if config.model_type in MROPE and isinstance(rotations, dict):
        part = rotations.get("partial_rotary_factor", 1)
        of_head = (
            result.get("head_dim")
            or value("head_dim")
            or value("hidden_size") // result.get("num_attention_heads", heads)
        )
        pairs = int(of_head * part) // 2
        third = max(1, 3 * pairs // 8)
        sections = [third, third, pairs - 2 * third]
        result["rope_parameters"] = rotations | {"mrope_section": sections}
    groups = value("n_group")
    if isinstance(groups, int) and groups > 1:  # the best two of each group are added up
        result |= {name: 2 * groups for name in experts if (value(name) or 0) < 2 * groups}
    if value("num_kv_shared_layers") and isinstance(value("layer_types"), list):
        # as many layers that share as layers that keep keys and values of their own, of each kind
        kinds = list(dict.fromkeys(config.layer_types))
        few, depth = fields.get("num_hidden_layers"), 2 * len(kinds)
        lists = {
            n: item for n, item in fields.items() if isinstance(item, list) and len(item) == few
        }
        result |= {name: (item * depth)[:depth] for name, item in lists.items()}
        result |= {
            "layer_types": 2 * kinds,
            "num_hidden_layers": depth,
            "num_kv_shared_layers": len(kinds),
        }
    return result


def _merge(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = dict(fields)
    for name, value in changes.items():
        nested = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = _merge(result[name], value) if nested else value
    return result


def _shrunk(config: Any, scale: Scale, ids: dict[int, int]) -> dict[str, Any]:
    """The fields of `config` to construct a smaller one with."""
    given = {field.name: _default(field) for field in dataclasses.fields(config)}
    result: dict[str, Any] = {}
    nested = set(config.sub_configs)
    plain = _plain(type(config))
    depth = _depth(config)
    fields = {kept: name for name, kept in config.attribute_map.items() if name in given}
    for kept, value in vars(config).items():
        name = kept if kept in given else fields.get(kept, kept)
        if name in nested and hasattr(value, "sub_configs"):
            fields = _shrunk(value, scale, ids)
            completed = _merge(fields, _completed(value, fields))
            result[name] = {"model_type": value.model_type, **completed}
        elif hasattr(value, "sub_configs"):
            result[name] = type(value)(**_shrunk(value, scale, ids))
        elif name == "_out_indices" and value != plain.get(name):
            result["out_indices"] = _list("out_indices", value, config, scale, ids, depth)
        elif name in given and (given[name] is not None or isinstance(value, (int, str, dict))):
            small = _field(name, value, config, scale, ids, depth)
            if small != plain.get(kept):
                result[name] = small
    return result


@functools.cache
def _plain(config_class: type) -> dict[str, Any]:
    """The fields of the class's default configuration."""
    try:
        return vars(config_class())
    except Exception:  # noqa: BLE001 -- some need arguments
        return {}


def _default(field: Any) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else None


def _depth(config: Any) -> int | None:
    for name in (
        "num_hidden_layers",
        "n_layer",
        "num_layers",
        "depth",
        "n_layers",
        "encoder_layers",
    ):
        value = getattr(config, name, None)
        if isinstance(value, int):
            return value
    return None


def _field(
    name: str, value: Any, config: Any, scale: Scale, ids: dict[int, int], depth: int | None
) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, (str, float)):
        return value
    if not isinstance(name, str):  # a table by numbers
        return value
    if isinstance(value, dict):
        return {key: _field(key, item, config, scale, ids, depth) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return _list(name, value, config, scale, ids, depth)
    if not isinstance(value, int):
        return value
    if name.endswith(("_token_id", "_token_index", "_token_type_id")) or re.search(
        r"_(id|index)$", name
    ):
        if scale.vocabulary and value >= VOCABULARY:
            return ids.setdefault(value, VOCABULARY - 1 - len(ids))
        return value
    if name.endswith("vocab_size") and "type" not in name:
        return min(value, VOCABULARY) if scale.vocabulary else value
    if name == "image_size" and scale.image:
        return _image_size(value, config)
    if _POSITIONS.search(name):
        return min(value, POSITIONS) if scale.vocabulary else value
    if _WINDOW.search(name):
        return min(value, WINDOW)
    if _EXPERTS.search(name):
        return min(value, 8)
    if _CHOSEN.search(name):
        return min(value, 2)
    if _LAYERS.search(name) and not _NOT_LAYERS.search(name):
        return min(value, scale.layers)
    if scale.heads and _HEADS.search(name):
        return max(1, value // scale.width)
    if scale.heads and name.endswith(("head_dim", "head_size")):
        return value
    per_channel = name.endswith("_groups") and value == getattr(config, "hidden_size", None)
    if per_channel or (_WIDTH.search(name) and not _NOT_WIDTH.search(name)):
        return value // scale.width if value % scale.width == 0 else value
    return value


def _image_size(value: int, config: Any) -> int:
    """Four patches in each direction, or 64 pixels."""
    patch = getattr(config, "patch_size", None)
    if isinstance(patch, (list, tuple)):
        patch = patch[-1]
    return min(value, 4 * patch if isinstance(patch, int) and patch >= 8 else 64)


def _list(
    name: str, value: Any, config: Any, scale: Scale, ids: dict[int, int], depth: int | None
) -> Any:
    kind = type(value)
    numbers = all(isinstance(item, int) and not isinstance(item, bool) for item in value)
    if not value:
        return value
    if depth is not None and depth > scale.layers and len(value) == depth:
        others = [item for item in value if item != value[0]]
        few = [value[0], *(others or value[1:])[: scale.layers - 1]]
        single = all(type(item) is int for item in value)
        return kind(_field(name, i, config, scale, ids, None) if single else i for i in few)
    if not numbers:
        if all(isinstance(item, (list, tuple)) for item in value):
            return kind(_list(name, item, config, scale, ids, None) for item in value)
        return value
    if depth is not None and depth > scale.layers and _INDEXES.search(name) and max(value) <= depth:
        top = max(1, max(value))
        return kind(sorted({round(item * (scale.layers - 1) / top) for item in value}))
    if name == "mrope_section" and not scale.heads and not any(n % scale.width for n in value):
        return kind(n // scale.width for n in value)  # pairs of features of a head
    if name == "image_size" or "image_size" in name:
        return kind(_image_size(item, config) for item in value) if scale.image else value
    return kind(_field(name, item, config, scale, ids, None) for item in value)
