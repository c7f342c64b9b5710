"""What a decoder has beyond other models: the texts of its state, and the methods that mlx-lm asks for."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from porter.emit.syntax import ATOM, PRECEDENCE, Text, call
from porter.passes.cache.kinds import State

if TYPE_CHECKING:
    from porter.emit.arguments import Arguments
    from porter.emit.node_text import NodeText
    from porter.ir import Node, Program
    from porter.passes.cache.kinds import Kind

#: What sources call the number of tokens that a layer looks back on.
_WINDOW = ("sliding_window", "window_size", "attention_window")

Others = list[tuple[int, "Node"]]


def _offset(writer: NodeText, node: Node, others: Others) -> Text:
    del others
    cache = writer.statements.read(node.args[0])
    return Text(f"{cache.code}.offset if {cache.code} is not None else 0", 1, 1, cache.names)


def _positions(writer: NodeText, node: Node, others: Others) -> Text:
    """One row of positions, or one a sample where the samples of a batch stand at different ones."""
    offset = writer.statements.read(node.args[0])
    length = writer.part([(i, o.args[1]) for i, o in others], node, "length")
    code = f"mx.arange({length.code}) + mx.array({offset.code}).reshape(-1, 1)"
    return Text(code, 10, 2, offset.names | length.names)


def _mask(writer: NodeText, node: Node, others: Others) -> Text:
    hidden, cache = map(writer.statements.read, node.args)
    window = {i: other.attrs["sight"].window for i, other in others}
    cache = _first_of_kind(writer, node, cache)
    given = {}
    if node.attrs["sight"].window is not None:
        given["window_size"] = Text(writer.arguments.resolve(window, *_WINDOW, in_call=True))
    if node.attrs["array"]:
        given["return_array"] = Text("True")
    return call("create_attention_mask", [hidden, cache], given)


def _key_positions(writer: NodeText, node: Node, others: Others) -> Text:
    """Of every key that attention sees: a mask has them all, and none is made for one token alone."""
    mask, offset = map(writer.statements.read, node.args[:2])
    length = writer.part([(i, o.args[2]) for i, o in others], node, "length")
    code = f"mx.arange({offset.at(PRECEDENCE['+'])} + {length.code} if {mask.code} is None else {mask.code}.shape[-1])"
    return Text(code, ATOM, 2, offset.names | length.names | mask.names)


def _state_mask(writer: NodeText, node: Node, others: Others) -> Text:
    del others
    hidden, cache = map(writer.statements.read, node.args)
    return call("create_ssm_mask", [hidden, _first_of_kind(writer, node, cache)])


def _first_of_kind(writer: NodeText, node: Node, cache: Text) -> Text:
    """The cache that a mask is made by; where layers differ, that of the first layer of its kind."""
    if len(set(writer.places.model.program.sights)) == 1:
        return cache
    place = f'{writer.places.layer_kinds()}.index("{node.attrs["word"]}")'
    return Text(re.sub(r"\[\d+\]", lambda _: f"[{place}]", cache.code, count=1))


STATE: dict[str, Callable[[Any, Any, Any], Text]] = {
    "cache.offset": _offset,
    "positions": _positions,
    "create_attention_mask": _mask,
    "create_ssm_mask": _state_mask,
    "key_positions": _key_positions,
}

#: Where mlx-lm has what an emitted decoder uses.
IMPORTS = {
    "shard_inplace": "mlx.nn.layers.distributed",
    "shard_linear": "mlx.nn.layers.distributed",
    "sum_gradients": "mlx.nn.layers.distributed",
    "BaseModelArgs": "mlx_lm.models.base",
    "CacheList": "mlx_lm.models.cache",
    "ConcatenateKVCache": "mlx_lm.models.cache",
    "create_attention_mask": "mlx_lm.models.base",
    "create_ssm_mask": "mlx_lm.models.base",
    "scaled_dot_product_attention": "mlx_lm.models.base",
    "ArraysCache": "mlx_lm.models.cache",
    "KVCache": "mlx_lm.models.cache",
    "RotatingKVCache": "mlx_lm.models.cache",
    "SwitchGLU": "mlx_lm.models.switch_layers",
    "SwitchLinear": "mlx_lm.models.switch_layers",
    "initialize_rope": "mlx_lm.models.rope_utils",
    "swiglu": "mlx_lm.models.activations",
}

#: The sums over the processes that share a module.
OVER_PROCESSES = {
    "sum_gradients": "sum_gradients(self.sharding_group)({0})",
    "all_sum": "mx.distributed.all_sum({0}, group=self.sharding_group)",
}

#: What the arguments for state are annotated with.
STATE_TYPES = {
    "mask": "mx.array | str | None = None",
    "cache": "Any = None",
    "layer_cache": "Any = (None, None)",
    "caches": "list | None = None",
}


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


def methods(program: Program, cached: list[str], root: Arguments, shared: bool = False) -> str:
    """The properties and methods of the model that mlx-lm looks for; `cached` are the layers with a cache each.

    Each layer of a decoder beside an encoder keeps what it made of the encoder's output too, in caches of its own. `shared`:
    some layers have no cache of their own.
    """
    crossed = program.memory.crossed if program.memory is not None else 0
    lines: list[str] = []
    names = [path.rpartition(".")[0] for path in cached]
    lists = {name: len(set(cached) & {f"{name}.{i}" for i in range(len(cached))}) for name in names}
    in_rows = any(part.isdigit() for name in names for part in name.split("."))  # layers.0.1
    below = (len(cached) > len(set(cached)) or len(lists) > 1) and not in_rows
    is_list = cached == [f"{name}.{i}" for i, name in enumerate(names)] and len(set(names)) == 1
    if is_list and names[0] != "layers" and not crossed:  # which the model has itself
        lines += [
            "@property",
            "def layers(self) -> list[nn.Module]:",
            f"    return self.{names[0]}",
        ]
    if below and all(lists.values()):
        every = [f"self.{name}" for name in lists]
        joined = every[0] if len(every) == 1 else f"[{', '.join(f'*{name}' for name in every)}]"
        lines += ["@property", "def layers(self) -> list[nn.Module]:", f"    return {joined}"]
    kinds = dict(zip(program.layer_words, program.sights, strict=True))
    made = {word: _beside(_made(kind, root), crossed) for word, kind in kinds.items()}
    times, rest = divmod(len(program.sights), max(len(cached), 1))
    more = f" for _ in range({len(program.sights)})"
    if is_list and times > 1 and not rest:
        more = f" for _ in range({times} * len(self.layers))"
    elif below and all(lists.values()) and len(program.sights) == len(cached):
        turns = {name: names.count(name) // lists[name] for name in lists}
        more = " + ".join(
            f"{t} * len(self.{n})" if t > 1 else f"len(self.{n})" for n, t in turns.items()
        )
        more = f" for _ in range({more})"
    elif is_list and not shared:
        more = f" for _ in self.{names[0] if crossed else 'layers'}"
    *some, default = sorted(made, key=lambda word: made[word] == _beside("KVCache()", crossed))
    each = "".join(f'{made[word]} if kind == "{word}" else ' for word in some) + made[default]
    if len(set(made.values())) > 1:
        root.look_up({0: program.layer_words}, "layer_types")
        more = " for kind in self.args.layer_types"
    else:
        each = made[default]
    if (
        each + more != "KVCache() for _ in self.layers" or program.counting
    ):  # which is mlx-lm's default
        counting = " + [ArraysCache(size=1)]" * bool(program.counting)
        lines += ["", "def make_cache(self) -> list:", f"    return [{each}{more}]{counting}"]
    return "\n\n" * bool(lines) + "\n".join(f"    {line}" if line else "" for line in lines)


def _made(kind: Kind, root: Arguments) -> str:
    """How the cache of a layer is made."""
    if isinstance(kind, tuple):
        return f"CacheList({', '.join(_made(part, root) for part in kind)})"
    if isinstance(kind, State):
        return f"ArraysCache(size={kind.slots})"
    if kind.window is None:
        return "KVCache()"
    size = root.look_up({0: kind.window}, *_WINDOW) or str(kind.window)
    return f"RotatingKVCache(max_size={size.replace('args.', 'self.args.')})"


def _beside(cache: str, crossed: int) -> str:
    others = ", ".join(["ConcatenateKVCache()"] * crossed)
    return f"CacheList({cache}, {others})" if crossed else cache
