"""The constructor of a class: its parameters, layers, lists and children."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from porter.emit.arguments import Arguments
from porter.emit.attributes import Attributes, Place
from porter.emit.child_calls import ChildCalls, Instances
from porter.emit.layer_lists import LayerLists
from porter.emit.layers import CONSTRUCTORS, MLX_LM, SYNONYMS
from porter.emit.literals import Code, Vector, is_constant, literal
from porter.emit.syntax import dtype_text
from porter.emit.turns import runs
from porter.emit.variants import Variants
from porter.errors import UnsupportedError
from porter.ir import Node, Value
from porter.passes.factor.blocks import Block, Loop
from porter.passes.factor.classes import BlockClass
from porter.passes.factor.layer_names import layer_path
from porter.passes.factor.tree import NUMBERED, module_form

#: Numbers that no shape shows: where a setting gives them they are written even if they are MLX's default.
_SETTINGS = ("eps", "base")


class Constructor:
    """Writes what `__init__` assigns."""

    def __init__(
        self,
        cls: BlockClass,
        arguments: Arguments,
        attributes: Attributes,
        child: Callable[[Block], Any],
        variants: Variants,
        layer_words: tuple[str, ...] = (),
    ):
        self.cls = cls
        self.arguments = arguments
        self.attributes = attributes
        self.variants = variants
        self.calls = ChildCalls(cls, arguments, child, variants)
        self.lists = LayerLists(self.calls, attributes, self.item, layer_words)

    # --- expressions

    def item(self, items: Instances) -> str:
        """The constructor call of a layer, a child or a Sequential."""
        first = items[0][1]
        if isinstance(first, Node):
            return self.layer(items)
        if first.is_sequential:
            return self.sequential(items)
        return self.calls.text(items)

    def _activation(self, items: Instances) -> str:
        """`nn.ReLU()` in a Sequential; where the instances differ, of the class that they are given."""
        if items[0][1].op in NUMBERED:
            module, name, default = NUMBERED[items[0][1].op]
            vector = {i: other.args[1] for i, other in items}
            usual = is_constant(vector) and vector[min(vector)] == default
            return f"{module}({'' if usual else self.arguments.resolve(vector, name)})"
        forms = {i: module_form(other.op) or other.op for i, other in items}
        if len(set(forms.values())) == 1:
            return forms[min(forms)]
        if all(form.endswith("()") for form in forms.values()):
            vector = {i: Code(form.removesuffix("()")) for i, form in forms.items()}
            return f"{self.arguments.resolve(vector, 'activation')}()"
        return self.arguments.resolve({i: Code(form) for i, form in forms.items()}, "activation")

    def layer(self, items: Instances) -> str:
        node: Node = items[0][1]
        if not node.is_layer:
            return self._activation(items)
        if node.op not in CONSTRUCTORS:
            raise UnsupportedError(
                f"{node.op} at {node.location} has no constructor in porter/emit/layers.py."
            )
        if "scaling" in node.attrs:
            return self._scaled_rope(items)
        positional, keywords = CONSTRUCTORS[node.op]
        parts = [self._number(items, name) for name in positional]
        for name, default in keywords.items():
            if name not in node.attrs:
                continue
            vector = {i: other.attrs[name] for i, other in items}
            usual = is_constant(vector) and _same(vector[min(vector)], default)
            if usual and not (name in _SETTINGS and self._is_setting(items[0][1], name, vector)):
                continue
            if (
                name == "stride"
                and default is None
                and all(o.attrs.get("kernel_size") == o.attrs["stride"] for _, o in items)
            ):
                continue
            parts.append(f"{name}={self._number(items, name)}")
        return f"{MLX_LM.get(node.op, node.op)}({', '.join(parts)})"

    def _is_setting(self, node: Node, name: str, vector: Vector) -> bool:
        """Whether a setting of the source gives the number, which another checkpoint may have differently."""
        hint = _hint(node, name)
        return self.arguments.look_up(vector, hint, *SYNONYMS.get(hint, ()), exact=True) is not None

    def _scaled_rope(self, items: Instances) -> str:
        """A rotation whose frequencies follow the source's description, which mlx-lm reads too."""
        attrs = items[0][1].attrs
        if any(other.attrs["scaling"] != attrs["scaling"] for _, other in items):
            raise UnsupportedError(
                f"{self.cls.name} has rotations that are scaled in more than one way: porter can't write that yet."
            )
        scaling = dict(attrs["scaling"])
        longest = scaling.pop("max_position_embeddings")
        described = self.arguments.description("rope_parameters", scaling)
        parts = [
            self._number(items, "dims"),
            f'base={described}["rope_theta"]',
            f"traditional={attrs['traditional']}",
            f"scaling_config={described}",
            f"max_position_embeddings={self.arguments.resolve({0: longest}, 'max_position_embeddings')}",
        ]
        return f"initialize_rope({', '.join(parts)})"

    def _number(self, items: Instances, name: str) -> str:
        vector = {i: _as_code(other.attrs[name]) for i, other in items}
        vector = vector | self.variants.numbers(self.cls, items, name)
        name = _hint(items[0][1], name)
        attribute = layer_path(items[0][1]).rpartition(".")[2]
        fallback = f"{attribute}_{name}" if attribute.isidentifier() else ""
        return self.arguments.resolve(vector, name, fallback=fallback)

    def sequential(self, items: Instances) -> str:
        lengths = {len(block.items) for _, block in items}
        assert len(lengths) == 1, "sequentials of one class have one length"
        count = lengths.pop()
        stages = self.lists.stages({i: block.items for i, block in items})
        if stages is not None:
            return f"nn.Sequential(*({stages}))"
        entries = [self.item([(i, block.items[p]) for i, block in items]) for p in range(count)]
        total = self.lists.length({i: (block.path, count) for i, block in items})
        return f"nn.Sequential({', '.join(runs(entries, total))})"

    def parameter(self, items: list[tuple[int, Value]]) -> str:
        value = items[0][1]
        sizes = []
        for axis in range(value.rank):
            vector = {i: v.shape[axis] for i, v in items}
            vector |= self.variants.sizes(self.cls, items, axis)
            leaf = (value.path or "size").rpartition(".")[2]
            hint = _shape_hint(value, axis)
            sizes.append(self.arguments.resolve(vector, hint, fallback=f"{leaf}_size"))
        shape = f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"
        kind = (
            ""
            if value.dtype.startswith(("float", "bfloat"))
            else f", dtype={dtype_text(value.dtype)}"
        )
        return f"mx.zeros({shape}{kind})"

    # --- lines

    def lines(self, members: list[tuple[str, Instances]], order: Callable[[str], int]) -> list[str]:
        """Assignments for the members (relative source path, what is there), lists gathered, in the source's order."""
        by_name: dict[str, list[tuple[Place, str, Instances]]] = {}
        for path, items in sorted(
            members, key=lambda member: (not isinstance(member[1][0][1], Value), order(member[0]))
        ):
            place = self.attributes.places[path]
            by_name.setdefault(str(place[0]), []).append((place[1:], path, items))
        result: list[str] = []
        # of whole numbers: MLX refuses to differentiate by what it indexes with
        tables: list[str] = []
        for name, entries in by_name.items():
            present = {i for _, _, items in entries for i, _ in items}
            lacking = set(range(len(self.cls.instances))) - present
            condition = None
            if lacking:
                flag = {i: i in present for i in range(len(self.cls.instances))}
                flag = self.variants.presence(self.cls, [path for _, path, _ in entries], flag)
                condition = self.arguments.flag(flag, f"has_{name}", f"use_{name}", name)
            value = self._list(entries) if entries[0][0] else self.text(entries[0][2])
            if condition and condition != "True":
                result += [f"if {condition}:", f"    self.{name} = {value}"]
            else:
                result.append(f"self.{name} = {value}")
            kept = entries[0][2][0][1]
            if isinstance(kept, Value) and not entries[0][0] and "int" in kept.dtype:
                tables.append(name)
        if tables:
            result.append(f"self.freeze(keys=[{', '.join(map(literal, tables))}], recurse=False)")
        return result

    def text(self, items: Instances) -> str:
        first = items[0][1]
        if isinstance(first, Value):
            return self.parameter(items)
        if isinstance(first, Loop):
            return self.lists.comprehension(items)
        return self.item(items)

    def _list(self, entries: list[tuple[Place, str, Instances]]) -> str:
        """The list at a place: a comprehension where one loop fills it, else its items one by one."""
        place, _, items = entries[0]
        if len(entries) == 1 and len(place) == 1 and isinstance(items[0][1], Loop):
            return self.lists.comprehension(items)
        rows: dict[int, list[tuple[Place, str, Instances]]] = {}
        for place, path, items in entries:
            if len(place) > 1 or not isinstance(items[0][1], Loop):
                rows.setdefault(int(place[0]), []).append((place[1:], path, items))
                continue
            if len({len(loop.blocks) for _, loop in items}) > 1:
                raise UnsupportedError(
                    f"{self.cls.name} keeps lists of different lengths in {path}: porter can't write that yet."
                )
            for k, block in enumerate(items[0][1].blocks):
                turn = [(i, loop.blocks[k]) for i, loop in items]
                own = self.attributes.places[self.cls.template.relative(block.path)]
                rows.setdefault(int(own[-1]), []).append(((), path, turn))
        texts = []
        for number in sorted(rows):
            inner = rows[number]
            texts.append(self._list(inner) if inner[0][0] else self.text(inner[0][2]))
        looped = any(isinstance(found[0][1], Loop) for _, _, found in entries)
        members = runs(texts, self._members(rows, looped))
        alone = len(members) == 1 and members[0].startswith("*(")
        return f"[{members[0][2:-1] if alone else ', '.join(members)}]"

    def _members(
        self, rows: dict[int, list[tuple[Place, str, Instances]]], looped: bool
    ) -> str | None:
        """The name for the length of a list whose members are given one by one, where the forward runs over most of them."""
        found: dict[int, list[Block]] = {}
        for row in rows.values():
            for place, _, items in row:
                for i, block in items if not place else ():
                    if isinstance(block, Block):
                        found.setdefault(i, []).append(block)
        if not found or any(len(blocks) != len(rows) for blocks in found.values()):
            return None
        containers = {
            i: (blocks[0].path.rpartition(".")[0], len(blocks)) for i, blocks in found.items()
        }
        if looped:
            return self.lists.length(containers)
        counts = {i: count for i, (_, count) in containers.items()}
        paths = {i: path for i, (path, _) in containers.items()}
        others = self.variants.lengths(self.cls, paths, counts)
        self.arguments.config.unexplained += bool(others) and not is_constant(counts | others)
        return None


def _hint(node: Node, name: str) -> str:
    """What sources call a layer's constructor argument, where MLX has another word for it."""
    if node.op == "nn.RoPE":
        return {"dims": "rotary_dim", "base": "rope_theta", "scale": "rope_scale"}.get(name, name)
    return name


def _same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and value == default


def _shape_hint(value: Value, axis: int) -> str:
    leaf = (value.path or "size").rpartition(".")[2]
    return "dim" if axis == value.rank - 1 else f"{leaf}_size"


def _as_code(value: Any) -> Any:
    """A function among the attributes is named as the IR names ops: "nn.relu"."""
    return Code(value) if isinstance(value, str) and value.startswith(("nn.", "mx.")) else value
