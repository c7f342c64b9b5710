"""transformers' causal language models at small random configurations, with the cache that the port gives them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.zoo.case import Built, Case
from benchmarks.zoo.small_configs import VOCABULARY, candidates
from benchmarks.zoo.suites.transformers import MOST_PARAMETERS, PRELOAD, _name

__all__ = ["PRELOAD", "cases"]
#: Windows are made shorter than the text, so that decoding gets past them.
WINDOW = 8
WINDOWS = ("sliding_window", "attention_window", "window_size", "local_window_size")
#: Layers of both kinds, of hybrids whose default has one kind alone.
MIXED = {
    "bamba": {"attn_layer_indices": [1]},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    # whose layers of attention share their weights
    **{
        name: {"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2}
        for name in ("zamba", "zamba2")
    },
}
#: What most users ask for comes first.
FIRST = (
    "llama qwen2 qwen3 mistral gemma gemma2 gemma3_text phi phi3 gpt2 gpt_neox opt bloom falcon olmo olmo2 stablelm starcoder2 "
    "cohere cohere2 glm glm4 mixtral qwen2_moe qwen3_moe olmoe granite granitemoe deepseek_v2 deepseek_v3 gpt_oss"
).split()


def cases() -> Iterator[Case]:
    """Every type of the causal mapping."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

    for name in [*FIRST, *sorted(set(NAMES) - set(FIRST))]:
        yield Case(name, partial(build, name, _name(NAMES[name])))


def build(kind: str, cls: str) -> Built:
    """The class at the smallest configuration that runs, as a Hugging Face source builds it."""
    import transformers

    from porter.sources.huggingface_inputs import example_inputs

    model_class = getattr(transformers, cls)
    # of a model of several modalities the class may take the text's configuration alone
    config_class = model_class.config_class or transformers.CONFIG_MAPPING[kind]
    changes = _windows(config_class)
    for name in ("is_decoder", "causal"):  # an encoder otherwise
        if getattr(config_class(), name, None) is False:
            changes[name] = True
    reason: Exception | None = None
    changes |= _both_kinds(config_class) | MIXED.get(kind, {})
    for _, config in candidates(config_class, changes):
        if _is_thin(config):
            continue
        try:
            module = _instance(model_class, config)
            inputs = example_inputs(module, config, 0)
            values, dynamic = _text_alone(inputs.values, inputs.dynamic, config)
            with torch.no_grad():
                module(**values)
        except Exception as error:  # noqa: BLE001 -- a configuration that does not fit fails anywhere
            reason = reason or error
            continue
        return Built(module, (), values, dynamic, config.to_dict())
    raise RuntimeError(
        f"no small configuration runs: {type(reason).__name__}: {reason}"
    ) from reason


def _text_alone(
    values: dict[str, torch.Tensor], dynamic: dict[str, dict[int, str]], config: Any
) -> tuple[dict[str, torch.Tensor], dict[str, dict[int, str]]]:
    """A text's ids, without the pictures or sounds that a model of several modalities takes too."""
    if "input_ids" not in values or len(values) == 1:
        return values, dynamic
    text = config.get_text_config(decoder=True)
    words = min(int(text.vocab_size), VOCABULARY)
    draw = torch.Generator().manual_seed(0)
    # special tokens stand at the ends of a vocabulary
    ids = torch.randint(words // 8, words - words // 8, (2, 16), generator=draw)
    return {"input_ids": ids}, {"input_ids": {0: "batch", 1: "length"}}


def _is_thin(config: Any) -> bool:
    """Whether a head has so few features that sizes can't be told apart."""
    if isinstance(of_head := vars(config).get("head_dim"), int):  # may differ from layer to layer
        return of_head < 4
    width, heads = (
        next((n for name in names if isinstance(n := getattr(config, name, None), int)), None)
        for names in (
            ("hidden_size", "n_embd", "d_model"),
            ("num_attention_heads", "n_head", "n_heads"),
        )
    )
    return width is not None and heads is not None and width < 4 * heads


def _windows(config_class: Any) -> dict[str, Any]:
    default = config_class()
    return {name: WINDOW for name in WINDOWS if type(getattr(default, name, None)) is int}


def _both_kinds(config_class: Any) -> dict[str, Any]:
    """Layers enough for a hybrid's layers with a state and those with attention."""
    default = config_class()
    kinds = getattr(default, "layer_types", None)
    if not kinds or "linear_attention" not in kinds or len(set(kinds)) == 1:
        return {}
    if "layer_types" in {field.name for field in dataclasses.fields(config_class)}:
        some = list(dict.fromkeys(kinds))
        return {"layer_types": some, "num_hidden_layers": len(some)}
    return {"num_hidden_layers": 1 + max(kinds.index(kind) for kind in set(kinds))}


def _instance(cls: Any, config: Any) -> torch.nn.Module:
    for part in (config, *(getattr(config, key, None) for key in config.sub_configs)):
        if hasattr(part, "use_cache"):
            part.use_cache = False
    for attention in ("sdpa", "eager"):
        torch.manual_seed(0)
        try:
            module: torch.nn.Module = cls._from_config(
                config, attn_implementation=attention, experts_implementation="batched_mm"
            )
        except ValueError as error:
            if attention == "eager" or "attention" not in str(error):
                raise
            continue
        if sum(p.numel() for p in module.parameters()) > MOST_PARAMETERS:
            raise ValueError("over the size that is run here")
        return module.float().eval()
    raise AssertionError("unreachable")
