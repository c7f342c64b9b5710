"""Numbers of a class in the model's other sizes: an expression for a size must hold there too.

In variant k (from 1) instance i of a class with n instances has the key i + k * n in a vector. What is not known of a variant
has no entry.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from porter.emit.literals import Vector
from porter.emit.names import identifier
from porter.errors import InputError
from porter.ir import ModuleInfo, Node, Value, Variant
from porter.passes.factor.classes import BlockClass
from porter.passes.factor.layer_names import layer_path
from porter.weights.recipe_specs import shape_of
from porter.weights.tensors import TensorSpec

#: Where a layer's sizes stand in the shape of its weight.
_AXES = {
    "input_dims": -1, "output_dims": 0, "in_channels": -1, "out_channels": 0, "num_features": 0,
    "num_embeddings": 0,
}  # fmt: skip
#: The same where a layer's weight is stacked.
_STACKED = {
    "nn.SwitchLinear": {"num_experts": 0, "output_dims": 1, "input_dims": 2},
    "nn.SwitchGLU": {"num_experts": 0, "hidden_dims": 1, "input_dims": 2},
}


@dataclass(frozen=True, slots=True)
class Shapes:
    """Shapes by checkpoint key, as the recipes read them."""

    table: dict[str, tuple[int, ...]]

    def keys(self) -> Any:
        return self.table.keys()

    def spec(self, key: str) -> TensorSpec:
        if key not in self.table:
            raise InputError(f"{key} is no tensor of this size of the model; leave it out.")
        return TensorSpec("float32", self.table[key])

    def read(self, key: str) -> Any:
        raise InputError(f"{key} has no data here; ask for its shape only.")

    def close(self) -> None:
        """There is nothing open."""


@dataclass(slots=True)
class Variants:
    """The model's other sizes, beside the modules of the one that is ported."""

    modules: dict[str, ModuleInfo]
    others: list[Variant] = field(default_factory=list)

    def keys(self, cls: BlockClass, instances: Iterable[int]) -> Iterable[tuple[int, int, Variant]]:
        """(key, instance, variant) for each instance in each variant."""
        count = len(cls.instances)
        for k, variant in enumerate(self.others, 1):
            for i in instances:
                yield i + k * count, i, variant

    def told(self, cls: BlockClass) -> tuple[dict[str, Vector], set[str]]:
        """What the source calls the numbers of a class, and which of them are attributes that no constructor argument is."""
        symbols: dict[str, Vector] = {}
        paths = [block.path for block in cls.instances]
        infos = {i: self.modules.get(path) for i, path in enumerate(paths)}
        for key, i, variant in self.keys(cls, range(len(paths))):
            infos[key] = variant.modules.get(paths[i])
        for source in ("arguments", "attributes"):
            for i, info in infos.items():
                for name, value in (getattr(info, source) if info else {}).items():
                    value = tuple(value) if isinstance(value, list) else value
                    if name.isidentifier() and name == identifier(name):
                        symbols.setdefault(name, {}).setdefault(i, value)
        given = {name for info in infos.values() if info for name in info.arguments}
        for name, vector in symbols.items():
            if all(
                isinstance(v, tuple) and len(v) == 2 and v[0] == v[1] and type(v[0]) is int
                for v in vector.values()
            ):
                symbols[name] = {i: v[0] for i, v in vector.items()}  # a square window has one size
        return symbols, set(symbols) - given if given else set()

    def nodes(self, cls: BlockClass, node: Node) -> list[tuple[int, Node]]:
        """The likes of a node in the sizes whose graph is known."""
        here = {i: found for i, found in enumerate(cls.of(node)) if found is not None}
        return [
            (key, variant.nodes[here[i]])
            for key, i, variant in self.keys(cls, here)
            if here[i] in variant.nodes
        ]

    def values(self, cls: BlockClass, value: Value) -> list[tuple[int, Value]]:
        """The likes of an array in the sizes whose graph is known."""
        here = {i: table[value] for i, table in enumerate(cls.values) if value in table}
        return [
            (key, variant.values[here[i]])
            for key, i, variant in self.keys(cls, here)
            if here[i] in variant.values
        ]

    def numbers(self, cls: BlockClass, items: list[tuple[int, Any]], name: str) -> Vector:
        """A layer's number in the other sizes."""
        nodes = dict(items)
        found = {
            key: self._number(nodes[i], name, variant) for key, i, variant in self.keys(cls, nodes)
        }
        return {key: value for key, value in found.items() if value is not None}

    def _number(self, node: Node, name: str, variant: Variant) -> Any:
        if node in variant.nodes:
            return variant.nodes[node].attrs.get(name)
        path = layer_path(node)
        here, there = self.modules.get(path), variant.modules.get(path)
        axes = _STACKED.get(node.op, _AXES)
        if name not in axes and name != "dims" and name != "kernel_size":
            if here is None or there is None or name not in there.attributes:
                return None
            same = _number_of(here.attributes.get(name)) == _number_of(node.attrs[name])
            return _number_of(there.attributes[name]) if same else None
        weight = node.params.get("weight", node.params.get("gate_proj.weight"))
        if weight is None and name == "dims" and there is not None:
            normalized = there.attributes.get("normalized_shape")  # of a norm without parameters
            return normalized[-1] if isinstance(normalized, (list, tuple)) else normalized
        shape = _shape(weight, variant)
        if weight is None or shape is None:
            return None
        if name == "kernel_size":
            kernel = shape[1:-1]
            return kernel[0] if isinstance(node.attrs[name], int) else kernel
        axis = axes.get(name, -1)
        if weight.shape[axis] == node.attrs[name]:
            return shape[axis]
        groups = there.attributes.get("groups") if there is not None else None
        return shape[axis] * groups if name == "in_channels" and isinstance(groups, int) else None

    def sizes(self, cls: BlockClass, items: list[tuple[int, Value]], axis: int) -> Vector:
        """An axis of a parameter in the other sizes."""
        values = dict(items)
        shapes = {key: _shape(values[i], v) for key, i, v in self.keys(cls, values)}
        return {key: shape[axis] for key, shape in shapes.items() if shape is not None}

    def presence(self, cls: BlockClass, paths: list[str], here: Vector) -> Vector:
        """`here`, whether an instance keeps anything at one of the source's paths in its block, and that in the other sizes.

        `here` alone where the source keeps what the port leaves out: then nothing tells of the other sizes.
        """
        blocks = dict(enumerate(cls.instances))

        def found(modules: dict[str, ModuleInfo], i: int) -> bool:
            start = f"{blocks[i].path}." if blocks[i].path else ""
            return any(_is_kept(modules, start + path) for path in paths)

        if any(found(self.modules, i) != here[i] for i in blocks):
            return here
        others = self.keys(cls, blocks)
        return here | {key: found(variant.modules, i) for key, i, variant in others}

    def lengths(self, cls: BlockClass, containers: dict[int, str], counts: Vector) -> Vector:
        """How many members each container (a ModuleList's or Sequential's path) has in the other sizes.

        Empty unless the port keeps all of its members here.
        """
        if any(len(_members(self.modules, path)) != counts[i] for i, path in containers.items()):
            return {}
        return {
            key: len(_members(variant.modules, containers[i]))
            for key, i, variant in self.keys(cls, containers)
        }


def _is_kept(modules: dict[str, ModuleInfo], path: str) -> bool:
    """Whether a module or a tensor has the path."""
    owner = modules.get(path.rpartition(".")[0])
    return path in modules or (owner is not None and path.rpartition(".")[2] in owner.tensors)


def _members(modules: dict[str, ModuleInfo], container: str) -> list[str]:
    start = f"{container}." if container else ""
    return [
        path for path in modules if path.startswith(start) and path[len(start) :].isdigit()
    ]  # fmt: skip


def _shape(value: Value | None, variant: Variant) -> tuple[int, ...] | None:
    if value is None or value.recipe is None:
        return None
    if value in variant.values:
        return variant.values[value].shape
    try:
        shape = shape_of(value.recipe, Shapes(variant.shapes))
    except InputError:  # the recipe holds a size of its own
        return None
    return shape if len(shape) == value.rank else None


def _number_of(value: Any) -> Any:
    """The one number of a square window's pair."""
    if isinstance(value, (tuple, list)) and value and all(item == value[0] for item in value):
        return value[0]
    return tuple(value) if isinstance(value, list) else value
