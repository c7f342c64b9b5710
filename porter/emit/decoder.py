"""What a decoder has beyond other models: the texts of its state, and the methods that mlx-lm asks for."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from porter.emit.syntax import ATOM, PRECEDENCE, Text, call

if TYPE_CHECKING:
    from porter.emit.arguments import Arguments
    from porter.emit.node_text import NodeText
    from porter.ir import Node
    from porter.passes.masks import Sight

#: The kinds of layers, as configurations name them in `layer_types`.
SLIDING, CHUNKED, FULL = "sliding_attention", "chunked_attention", "full_attention"

#: What sources call the number of tokens that a layer looks back on.
_WINDOW = ("sliding_window", "window_size", "attention_window")

Others = list[tuple[int, "Node"]]


def _offset(writer: NodeText, node: Node, others: Others) -> Text:
    del others
    cache = writer.body.read(node.args[0])
    return Text(f"{cache.code}.offset if {cache.code} is not None else 0", 1, 1, cache.names)


def _positions(writer: NodeText, node: Node, others: Others) -> Text:
    """One row of positions, or one a sample where the samples of a batch stand at different ones."""
    offset = writer.body.read(node.args[0])
    length = writer.part([(i, o.args[1]) for i, o in others], node, "length")
    code = f"mx.arange({length.code}) + mx.array({offset.code}).reshape(-1, 1)"
    return Text(code, 10, 2, offset.names | length.names)


def _mask(writer: NodeText, node: Node, others: Others) -> Text:
    hidden, cache = map(writer.body.read, node.args)
    window = {i: other.attrs["sight"].window for i, other in others}
    if len(set(writer.places.model.program.sights)) > 1:
        kind = kind_of(node.attrs["sight"])
        caches = cache.code.partition("[")[0]
        cache = Text(f'{caches}[{writer.places.layer_kinds()}.index("{kind}")]')
    given = {}
    if node.attrs["sight"].window is not None:
        given["window_size"] = Text(writer.arguments.resolve(window, *_WINDOW, in_call=True))
    if node.attrs["array"]:
        given["return_array"] = Text("True")
    return call("create_attention_mask", [hidden, cache], given)


def _key_positions(writer: NodeText, node: Node, others: Others) -> Text:
    """Of every key that attention sees: a mask has them all, and none is made for one token alone."""
    mask, offset = map(writer.body.read, node.args[:2])
    length = writer.part([(i, o.args[2]) for i, o in others], node, "length")
    code = f"mx.arange({offset.at(PRECEDENCE['+'])} + {length.code} if {mask.code} is None else {mask.code}.shape[-1])"
    return Text(code, ATOM, 2, offset.names | length.names | mask.names)


STATE: dict[str, Callable[[Any, Any, Any], Text]] = {
    "cache.offset": _offset,
    "positions": _positions,
    "create_attention_mask": _mask,
    "key_positions": _key_positions,
}

#: Where mlx-lm has what an emitted decoder uses.
IMPORTS = {
    "BaseModelArgs": "mlx_lm.models.base",
    "CacheList": "mlx_lm.models.cache",
    "ConcatenateKVCache": "mlx_lm.models.cache",
    "create_attention_mask": "mlx_lm.models.base",
    "scaled_dot_product_attention": "mlx_lm.models.base",
    "KVCache": "mlx_lm.models.cache",
    "RotatingKVCache": "mlx_lm.models.cache",
    "SwitchGLU": "mlx_lm.models.switch_layers",
    "SwitchLinear": "mlx_lm.models.switch_layers",
    "initialize_rope": "mlx_lm.models.rope_utils",
    "swiglu": "mlx_lm.models.activations",
}

#: What the arguments for state are annotated with.
STATE_TYPES = {
    "mask": "mx.array | str | None = None",
    "cache": "Any = None",
    "layer_cache": "Any = (None, None)",
    "caches": "list | None = None",
}


def layer_types(sights: list[Sight]) -> tuple[str, ...]:
    """How far each layer looks back, by the words of configurations."""
    return tuple(map(kind_of, sights))


def kind_of(sight: Sight) -> str:
    """The word of configurations for a layer that looks back so far."""
    if sight.chunk is not None:
        return CHUNKED
    return FULL if sight.window is None else SLIDING


def imports_of(body: str, decoder: bool) -> list[str]:
    """The import lines for what a body takes from mlx-lm."""
    names = ["BaseModelArgs"] if decoder else []
    names += [name for name in IMPORTS if re.search(rf"\b{name}\(", body)]
    by_module: dict[str, list[str]] = {}
    for name in names:
        by_module.setdefault(IMPORTS[name], []).append(name)
    lines = [
        f"from {module} import {', '.join(sorted(found))}" for module, found in by_module.items()
    ]
    return (["from typing import Any"] if re.search(r": Any\b", body) else []) + lines


def methods(
    sights: list[Sight], cached: list[str], root: Arguments, crossed: int = 0, shared: bool = False
) -> str:
    """The properties and methods of the model that mlx-lm looks for; `cached` are the layers with a cache each.

    Each layer of a decoder beside an encoder keeps what it made of the encoder's output too, in `crossed` caches. `shared`:
    some layers have no cache of their own.
    """
    lines: list[str] = []
    names = [path.rpartition(".")[0] for path in cached]
    is_list = cached == [f"{name}.{i}" for i, name in enumerate(names)] and len(set(names)) == 1
    if is_list and names[0] != "layers" and not crossed:  # which the model has itself
        lines += [
            "@property",
            "def layers(self) -> list[nn.Module]:",
            f"    return self.{names[0]}",
        ]
    windows = {sight.window for sight in sights if sight.window is not None}
    whole = _beside("KVCache()", crossed)
    each, more = whole, f" for _ in range({len(sights)})"
    times, rest = divmod(len(sights), max(len(cached), 1))
    if is_list and times > 1 and not rest:
        more, is_list = f" for _ in range({times} * len(self.layers))", False
    elif is_list and not shared:
        more = f" for _ in self.{names[0] if crossed else 'layers'}"
    if windows:
        window = {0: next(iter(windows))}
        size = root.look_up(window, *_WINDOW) or str(window[0])
        sliding = f"RotatingKVCache(max_size={size.replace('args.', 'self.args.')})"
        each = _beside(sliding, crossed)
        if len(set(sights)) > 1:
            root.look_up({0: layer_types(sights)}, "layer_types")
            each = f'{each} if kind == "{SLIDING}" else {whole}'
            more = " for kind in self.args.layer_types"
    if windows or crossed or shared or not is_list:
        lines += ["", "def make_cache(self) -> list:", f"    return [{each}{more}]"]
    return "\n\n" * bool(lines) + "\n".join(f"    {line}" if line else "" for line in lines)


def _beside(cache: str, crossed: int) -> str:
    others = ", ".join(["ConcatenateKVCache()"] * crossed)
    return f"CacheList({cache}, {others})" if crossed else cache
