"""The parameters of the emitted model with their recipes, and the calls that can be compared one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from porter.emit.attributes import Attributes
from porter.emit.places import Housing, placed
from porter.errors import PorterError
from porter.ir import Node, Value
from porter.passes.factor.blocks import Block, reads
from porter.passes.factor.layer_names import layer_path, member_path


class Collection:
    """Walks the instances of the tree."""

    def __init__(self, housing: Housing):
        self.housing = housing
        self.recipes: dict[str, Any] = {}
        self.kept: dict[str, Value] = {}
        self.modules: list[dict[str, Any]] = []
        self.cached: list[str] = []  # paths of the layers that are given a cache each
        self.places: dict[Block | Node, str] = {}  # the MLX paths of blocks and layers

    def walk(
        self,
        block: Block,
        prefix: str = "",
        attributes: Attributes | None = None,
    ) -> None:
        """Walks the instances: MLX paths of parameters, and the calls to compare."""
        attributes = attributes or self.housing.of(block)

        def at(path: str) -> str:
            return f"{prefix}.{attributes.dotted(path)}" if prefix else attributes.dotted(path)

        for position, item in enumerate(block.items):
            for child, relative in placed(block, item, attributes):
                path = (
                    f"{prefix}.layers.{position}"
                    if block.is_sequential
                    else f"{prefix}.{relative}".lstrip(".")
                )
                self.places[child] = path
                self._entry(path, child)
                here = {v for i in block.items if isinstance(i, Node) for v in i.outputs}
                if any(v in here and _is_of_layer(v) for v in child.inputs if v):
                    self.cached.append(path)
                if child.is_sequential:
                    self.walk(child, path, Attributes())
                else:
                    self.walk(child, path)
            for value in () if isinstance(item, Node) else reads(item):
                own = value.is_parameter and block.owns(value.path or "")
                if own and not self.housing.keeps(block, value):
                    self._add(at(block.relative(value.path or "")), value)
            if isinstance(item, Node):
                self._node(block, item, position, prefix, at)
        for value in block.outputs:  # a buffer that is handed out as it is
            own = value.is_parameter and block.owns(value.path or "")
            if own and not self.housing.keeps(block, value):
                self._add(at(block.relative(value.path or "")), value)

    def _node(
        self,
        block: Block,
        node: Node,
        position: int,
        prefix: str,
        at: Callable[[str], str],
    ) -> None:
        if node.is_layer:
            path = (
                f"{prefix}.layers.{position}"
                if block.is_sequential
                else at(member_path(block, node))
            )
            self.places[node] = path
            for role, value in node.params.items():
                self._add(f"{path}.{role}", value)
            for value in node.args:
                if isinstance(value, Value) and value.is_parameter and block.owns(value.path or ""):
                    self._add(at(block.relative(value.path or "")), value)
            self._entry(path, node)
            return
        for value in node.inputs():
            own = value.is_parameter and block.owns(value.path or "")
            if own and not self.housing.keeps(block, value):
                self._add(at(block.relative(value.path or "")), value)

    def _add(self, path: str, value: Value) -> None:
        if self.recipes.setdefault(path, value.recipe) != value.recipe:
            raise PorterError(
                f"{path} would hold two tensors, {self.recipes[path]} and {value.recipe}: "
                "a layer that the source shares between modules has no place of its own. Report this model."
            )
        if value.data is not None:
            self.kept[path] = value

    def _entry(self, path: str, item: Block | Node) -> None:
        inputs = [
            value
            for value in (item.inputs if isinstance(item, Block) else item.args)
            if not isinstance(value, Value) or "cache" not in value.dtype
        ]
        while inputs and inputs[-1] is None:
            inputs.pop()
        values = [*inputs, *item.outputs]
        if not all(
            isinstance(v, Value) and (v.origin is not None or _is_made(v)) and _is_as_read(v)
            for v in values
        ) or any(v.dtype == "mask" for v in item.outputs):
            return
        leaf = isinstance(item, Node)
        cls = (
            item.op
            if isinstance(item, Node)
            else ("nn.Sequential" if item.is_sequential else self.housing.classes[item].name)
        )
        source = layer_path(item) if isinstance(item, Node) else item.path

        def spec(value: Value) -> dict[str, Any]:
            if value.origin is None:
                state = value.node is not None and value.node.op == "create_ssm_mask"
                return {"const": None if state else "causal"}
            return {
                "value": value.origin,
                "permute": list(value.permute) if value.permute else None,
            }

        self.modules.append(
            {
                "path": path,
                "class": cls,
                "leaf": leaf,
                "source": source,
                "inputs": [spec(v) for v in inputs],
                "outputs": [spec(v) for v in item.outputs],
            }
        )


def _is_made(value: Value) -> bool:
    """Whether it is mlx-lm's mask, for which "causal" or none can stand."""
    made = ("create_attention_mask", "create_ssm_mask")
    return value.node is not None and value.node.op in made


def _is_of_layer(value: Value) -> bool:
    """Whether the value is an item of the model's list of caches."""
    node = value.node
    return node is not None and node.op == "cache[]" and node.args[0].dtype == "caches"


def _is_as_read(value: Value) -> bool:
    """Whether an array is, up to its permute, what the graph calls by the name of its origin."""
    return not value.is_parameter or (value.recipe.function == "source")
