"""Example texts for a transformers model: token ids, and what goes with them."""

from __future__ import annotations

from typing import Any

import torch

from porter.errors import UsageError
from porter.sources.dry_run import runs
from porter.sources.examples import Examples
from porter.sources.huggingface_shapes import BATCH, LENGTH, nested, setting


def setting_of_decoder(config: Any) -> Any:
    """The configuration that holds the decoder's vocabulary."""
    return next(
        (part for key in ("decoder", "decoder_config", "text_config") if (part := getattr(config, key, None)) is not None),
        config,
    )  # fmt: skip


def add_text(
    module: Any,
    names: list[str],
    config: Any,
    generator: torch.Generator,
    examples: Examples,
    writes_text: bool,
) -> None:
    text = setting(config, "text_config") or config
    longest = getattr(text, "max_position_embeddings", None)
    length = _unusual(module, text) if writes_text else LENGTH
    length = min(length, longest) if isinstance(longest, int) and longest > 1 else length
    ids = token_ids(config, text, length, generator)
    axes = {0: "batch", 1: "length"}
    examples.add("input_ids", ids, axes)
    if "attention_mask" in names and not writes_text:
        mask = torch.ones(BATCH, length, dtype=torch.int64)
        mask[-1, -(length // 4) :] = 0
        examples.add("attention_mask", mask, axes)
    # Text ends with its end token, where some models pool (CLIP) or count (BART).
    end = getattr(text, "eos_token_id", None)
    end = end[0] if isinstance(end, list) and end else end
    if isinstance(end, int) and 0 <= end < (_vocabulary(text) or 0):
        ids[:-1, -1] = end
        ids[-1, length - length // 4 - 1] = end
    if "token_type_ids" in names and (getattr(text, "type_vocab_size", 0) or 0) > 1:
        kinds = torch.zeros(BATCH, length, dtype=torch.int64)
        kinds[:, length // 2 :] = 1
        examples.add("token_type_ids", kinds, axes)
    if "bbox" in names:
        corners = torch.randint(0, 100, (BATCH, length, 2), generator=generator)
        sizes = torch.randint(1, 50, (BATCH, length, 2), generator=generator)
        boxes = torch.cat([corners, corners + sizes], dim=-1)
        top = setting(config, "max_2d_position_embeddings")
        examples.add("bbox", boxes.clamp(max=top - 1) if isinstance(top, int) else boxes, axes)


def _unusual(module: Any, config: Any) -> int:
    """A number of tokens that is no size of a parameter or of a head, so that a graph which is fixed to it tells it apart."""
    sizes = {size for p in module.parameters() for size in p.shape}
    settings = config.to_dict() if hasattr(config, "to_dict") else {}
    heads = {n for name, n in settings.items() if "heads" in name and isinstance(n, int) and n > 1}
    sizes |= {size // n for size in sizes for n in heads}
    return next(n for n in (LENGTH, 23, 29, 31, 37, *range(41, 99, 2)) if n not in sizes)


def _vocabulary(config: Any) -> int | None:
    for key in ("vocab_size", "text_vocab_size"):
        value = getattr(config, key, None)
        if isinstance(value, int) and value > 0:
            return value
    value = setting(config, "vocab_size")
    return value if isinstance(value, int) and value > 0 else None


def token_ids(root: Any, config: Any, length: int, generator: torch.Generator) -> torch.Tensor:
    """Ids [2, length] of the vocabulary of `config`, none of which has a meaning of its own (pad, eos, an image)."""
    vocabulary = _vocabulary(config)
    if vocabulary is None and setting(config, "num_hash_buckets"):
        vocabulary = 1 << 16  # ids are hashed characters
    if vocabulary is None:
        raise UsageError(
            f"porter cannot tell the vocabulary of {type(config).__name__}; describe the ids: "
            "--input input_ids=int64[batch=2,length=16]"
        )
    special = set()
    for part in nested(root):
        for name, value in vars(part).items():
            if name.endswith(("_token_id", "_token_index")):
                special |= {
                    item
                    for item in (value if isinstance(value, list) else [value])
                    if isinstance(item, int)
                }
    top = min(vocabulary, 30_000)
    ordinary = torch.tensor([item for item in range(top) if item not in special] or [0])
    # Ids over the first few: low ones are often special without the configuration saying so.
    ordinary = ordinary[len(ordinary) // 16 :]
    return ordinary[torch.randint(0, len(ordinary), (BATCH, length), generator=generator)]


def add_channels(module: Any, config: Any, generator: torch.Generator, examples: Examples) -> None:
    """Ids of several codebooks beside each other or in rows of their own, where the module reads no others."""
    books = [
        n for key in ("num_codebooks", "num_channels") if isinstance(n := setting(config, key), int)
    ]
    if not books or not examples.values or runs(module, examples.values):
        return
    for name in ("decoder_input_ids", "input_ids"):
        ids = examples.values.get(name)
        if ids is None:
            continue
        axes = examples.dynamic[name]
        for count in sorted({n for b in books for n in (b, b + 1)}):
            for shape, dims in (
                ((*ids.shape, count), axes),
                ((count * BATCH, ids.shape[1]), {1: axes[1]}),
            ):
                trial = examples.copy()
                places = torch.randint(0, ids.numel(), shape, generator=generator)
                trial.add(name, ids.flatten()[places], dims)
                if runs(module, trial.values):
                    examples.values, examples.dynamic = trial.values, trial.dynamic
                    return
