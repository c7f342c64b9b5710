"""Which of mlx-lm's modules stands for which module of the source, so that the proof compares them one by one.

The recipes say it: the layer whose weight is made of `layers.0.mlp.up_proj.weight` is that layer, and what holds the same
layers is the same block. A pair is compared where both map one array to one; attention gets its mask as mlx-lm's files
pass it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from porter.frontends.export import export_program
from porter.frontends.functionalize import functionalized
from porter.sources import Source
from porter.validate.graph import Graph
from porter.validate.scopes import scopes
from porter.weights.recipes import Recipe, sources

Entry = dict[str, Any]


def match_modules(
    source: Source, model: nn.Module, recipes: Mapping[str, Recipe]
) -> tuple[list[Entry], list[str]]:
    """porter.json's `proof.modules`, and the export's notes. Exports the source's graph; reads no weight."""
    exported, notes = export_program(source)
    program = functionalized(exported)
    signature = program.graph_signature
    nodes = {node.name: node for node in program.graph.nodes}
    inputs = list(signature.user_inputs)
    parameters = {spec.arg.name for spec in signature.input_specs} - set(inputs)
    graph = Graph(program, dict.fromkeys(parameters), {}, inputs, nodes)
    names = _names(source)
    pairs = _pairs(recipes, names)
    modules = dict(model.named_modules())
    windowed = _windowed(source)
    found = []
    for scope in scopes(graph):
        path = _counterpart(scope["source"], pairs)
        if (
            path is not None
            and path in modules
            and (entry := _entry(scope, path, modules[path], nodes, windowed))
        ):
            found.append(entry)
    return found, list(notes)


def _names(source: Source) -> dict[str, str]:
    """Checkpoint key -> the name of the source module's tensor that it gives, or is a part of."""
    own = {key: name for name, key in source.keys.items()}
    return own | {key: name for name, keys in source.parts.items() for key in keys}


def _pairs(recipes: Mapping[str, Recipe], names: Mapping[str, str]) -> dict[str, str]:
    """Module of the source -> module of the model, for those that own tensors."""
    pairs: dict[str, str] = {}
    for path, recipe in recipes.items():
        owners = {names.get(key, key).rpartition(".")[0] for key in sources(recipe)}
        if len(owners) == 1:
            pairs.setdefault(owners.pop(), path.rpartition(".")[0])
    return pairs


def _counterpart(path: str, pairs: Mapping[str, str]) -> str | None:
    """The model's module for the source's: its own pair, or the block of the pairs below it, where they agree."""
    if path in pairs:
        return pairs[path]
    blocks = {
        other[: -len(below)]
        for own, other in pairs.items()
        if own.startswith(path + ".") and other.endswith(below := own[len(path) :])
    }
    return blocks.pop() if len(blocks) == 1 else None


def _windowed(source: Source) -> bool:
    """Whether some layer may look back on less than the example's length: its mask is then not mlx-lm's "causal"."""
    module: Any = source.module
    config = module.config
    length = max((value.shape[-1] for value in source.kwargs.values()), default=0)
    sizes = [
        getattr(config, name, None)
        for name in ("sliding_window", "attention_chunk_size", "attention_window_size")
    ]
    return any(isinstance(size, int) and size < length for size in sizes)


def _entry(
    scope: Entry, path: str, module: nn.Module, nodes: Mapping[str, Any], windowed: bool
) -> Entry | None:
    """The entry for one pair; None where it can't be called with one array."""
    given, made = scope["inputs"], scope["outputs"]
    if not given or len(made) != 1:
        return None
    x, y = (nodes[row["value"]].meta["val"] for row in (given[0], made[0]))
    inputs: list[dict[str, Any]] = [given[0]]
    if len(given) > 1:  # attention: positions and the mask come along
        if windowed or not _takes_mask(module) or "float" not in str(x.dtype):
            return None
        inputs.append({"const": "causal"})
    if _shape(module, x, inputs) != tuple(map(int, y.shape)):
        return None
    return {
        "path": path, "class": type(module).__name__, "leaf": scope["leaf"] and not module.children(),
        "source": scope["source"], "inputs": inputs, "outputs": made,
        "probed": len(given) == 1,
    }  # fmt: skip


def _takes_mask(module: nn.Module) -> bool:
    return list(inspect.signature(type(module).__call__).parameters)[2:3] == ["mask"]


def _shape(module: nn.Module, x: Any, inputs: list[dict[str, Any]]) -> tuple[int, ...] | None:
    """The shape of what the module makes of one array like `x`; MLX builds the call, and nobody evaluates it."""
    kind = mx.float32 if x.dtype.is_floating_point else mx.int32
    try:
        result = module(mx.zeros(tuple(map(int, x.shape)), kind), *(i["const"] for i in inputs[1:]))
    except Exception:  # noqa: BLE001 -- mlx-lm's code may ask for anything
        return None
    return tuple(result.shape) if isinstance(result, mx.array) else None
