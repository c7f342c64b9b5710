"""The constructor of a class: its parameters, layers, lists and children."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from porter.emit.arguments import Arguments
from porter.emit.attributes import Attributes, Place
from porter.emit.expressions import Code, Vector, is_constant, literal
from porter.emit.layers import CONSTRUCTORS
from porter.emit.syntax import dtype_text
from porter.errors import UnsupportedError
from porter.ir import Node, Value
from porter.passes.factor.classes import BlockClass
from porter.passes.factor.tree import Block, Loop, module_form

Instances = list[tuple[int, Any]]  # (instance of the class, what the item is there)


class Constructor:
    """Writes what `__init__` assigns."""

    def __init__(
        self,
        cls: BlockClass,
        arguments: Arguments,
        attributes: Attributes,
        child: Callable[[Block], Any],
    ):
        self.cls = cls
        self.arguments = arguments
        self.attributes = attributes
        self.child = child  # block -> (class, its arguments, which instance the block is)

    # --- expressions

    def item(self, items: Instances) -> str:
        """The constructor call of a layer, a child or a Sequential."""
        first = items[0][1]
        if isinstance(first, Node):
            return self.layer(items)
        if first.is_sequential:
            return self.sequential(items)
        return self.child_call(items)

    def layer(self, items: Instances) -> str:
        node: Node = items[0][1]
        if not node.is_layer:
            return module_form(node.op) or node.op
        if node.op not in CONSTRUCTORS:
            raise UnsupportedError(
                f"{node.op} at {node.location} has no constructor in porter/emit/layers.py."
            )
        positional, keywords = CONSTRUCTORS[node.op]
        parts = [self._number(items, name) for name in positional]
        for name, default in keywords.items():
            if name not in node.attrs:
                continue
            vector = {i: other.attrs[name] for i, other in items}
            if is_constant(vector) and _same(vector[min(vector)], default):
                continue
            if (
                name == "stride"
                and default is None
                and all(o.attrs.get("kernel_size") == o.attrs["stride"] for _, o in items)
            ):
                continue
            parts.append(f"{name}={self._number(items, name)}")
        return f"{node.op}({', '.join(parts)})"

    def _number(self, items: Instances, name: str) -> str:
        vector = {i: _as_code(other.attrs[name]) for i, other in items}
        return self.arguments.resolve(vector, name)

    def child_call(self, items: Instances, index: str = "") -> str:
        """`Block(args)` or `Block(dim, heads, stride=2)`."""
        del index
        cls, arguments, _ = self.child(items[0][1])
        vectors = {}
        for name in arguments.ordered():
            vector = arguments.parameters[name]
            given = {i: vector.get(self.child(block)[2]) for i, block in items}
            if any(literal(value) != arguments.default(name) for value in given.values()):
                vectors[name] = given
        attribute = items[0][1].path.rpartition(".")[2]
        texts = {
            n: self._argument(v, n, f"{attribute}_{n}" if n in arguments.made else n)
            for n, v in vectors.items()
        }
        return self._call(cls.name, arguments, texts)

    def _argument(self, vector: Vector, name: str, fallback: str = "") -> str:
        known = {i: value for i, value in vector.items() if value is not None}
        if not known:
            return "None"
        return self.arguments.look_up(known, name) or self.arguments.resolve(
            known, fallback or name, name
        )

    def _call(self, name: str, arguments: Arguments, texts: dict[str, str]) -> str:
        parts = ["args"] if arguments.uses_args else []
        if arguments.uses_args:
            self.arguments.uses_args = True
        by_position = True
        required = [parameter for parameter in texts if arguments.default(parameter) is None]
        for position, parameter in enumerate(required):
            text = texts[parameter]
            by_position &= position < 3 and text not in ("True", "False", "None")
            parts.append(text if by_position else f"{parameter}={text}")
        parts += [
            f"{parameter}={text}" for parameter, text in texts.items() if parameter not in required
        ]
        return f"{name}({', '.join(parts)})"

    def sequential(self, items: Instances) -> str:
        lengths = {len(block.items) for _, block in items}
        assert len(lengths) == 1, "sequentials of one class have one length"
        entries = [
            self.item([(i, block.items[p]) for i, block in items]) for p in range(lengths.pop())
        ]
        return f"nn.Sequential({', '.join(_runs(entries))})"

    def loop(self, items: Instances) -> str:
        """The list that a loop runs over, as a comprehension."""
        first: Loop = items[0][1]
        cls, arguments, _ = self.child(first.blocks[0])
        texts, uses_index = {}, False
        for name in arguments.ordered():
            vector = arguments.parameters[name]
            rows = {
                i: [vector.get(self.child(block)[2]) for block in loop.blocks] for i, loop in items
            }
            if all(
                literal(value) == arguments.default(name) for row in rows.values() for value in row
            ):
                continue
            texts[name], indexed = self._row(rows, name)
            uses_index |= indexed
        lengths = {i: len(loop.blocks) for i, loop in items}
        count = self.arguments.resolve(
            lengths, self._list_name(first), "depth", "num_layers", "num_hidden_layers", "n_layer"
        )
        return f"[{self._call(cls.name, arguments, texts)} for {'i' if uses_index else '_'} in range({count})]"

    def _list_name(self, loop: Loop) -> str:
        return str(self.attributes.places[self.cls.template.relative(loop.blocks[0].path)][0])

    def _row(self, rows: dict[int, list[Any]], name: str) -> tuple[str, bool]:
        """An argument that may change along the list, and whether it names the index."""
        if all(len(set(map(repr, row))) == 1 for row in rows.values()):
            return self._argument({i: row[0] for i, row in rows.items()}, name), False
        first = {i: row[0] for i, row in rows.items()}
        rest = {i: row[1] for i, row in rows.items() if len(row) > 1}
        if all(len(set(map(repr, row[1:]))) <= 1 for row in rows.values()):
            return (
                f"{self._argument(first, name)} if i == 0 else {self._argument(rest, name)}",
                True,
            )
        if all(row[k] == row[k % 2] for row in rows.values() for k in range(len(row))):
            return _alternating(self._argument(first, name), self._argument(rest, name)), True
        steps = {
            i: row[1] - row[0]
            for i, row in rows.items()
            if len(row) > 1 and all(type(v) is int for v in row)
        }
        if len(steps) == len(rows) and all(
            v == row[0] + k * steps[i] for i, row in rows.items() for k, v in enumerate(row)
        ):
            return (
                f"{self._argument(first, name)} + i * {self._argument(steps, 'step', 'step')}",
                True,
            )
        tuples = {i: tuple(row) for i, row in rows.items()}
        return f"{self.arguments.resolve(tuples, name)}[i]", True

    def parameter(self, items: list[tuple[int, Value]]) -> str:
        value = items[0][1]
        sizes = []
        for axis in range(value.rank):
            vector = {i: v.shape[axis] for i, v in items}
            sizes.append(self.arguments.resolve(vector, _shape_hint(value, axis)))
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
        for name, entries in by_name.items():
            present = {i for _, _, items in entries for i, _ in items}
            lacking = set(range(len(self.cls.instances))) - present
            condition = None
            if lacking:
                flag = {i: i in present for i in range(len(self.cls.instances))}
                condition = self.arguments.flag(flag, f"has_{name}", f"use_{name}", name)
            value = self._list(entries) if entries[0][0] else self.text(entries[0][2])
            if condition and condition != "True":
                result += [f"if {condition}:", f"    self.{name} = {value}"]
            else:
                result.append(f"self.{name} = {value}")
        return result

    def text(self, items: Instances) -> str:
        first = items[0][1]
        if isinstance(first, Value):
            return self.parameter(items)
        if isinstance(first, Loop):
            return self.loop(items)
        return self.item(items)

    def _list(self, entries: list[tuple[Place, str, Instances]]) -> str:
        """The list at a place: a comprehension where one loop fills it, else its items one by one."""
        place, _, items = entries[0]
        if len(entries) == 1 and len(place) == 1 and isinstance(items[0][1], Loop):
            return self.loop(items)
        rows: dict[int, list[tuple[Place, str, Instances]]] = {}
        for place, path, items in entries:
            if len(place) > 1 or not isinstance(items[0][1], Loop):
                rows.setdefault(int(place[0]), []).append((place[1:], path, items))
                continue
            if len({len(loop.blocks) for _, loop in items}) > 1:
                raise UnsupportedError(
                    f"{self.cls.name} keeps lists of different lengths in {path}: porter can't write that yet."
                )
            for k in range(len(items[0][1].blocks)):
                turn = [(i, loop.blocks[k]) for i, loop in items]
                rows.setdefault(int(place[0]) + k, []).append(((), path, turn))
        texts = []
        for number in sorted(rows):
            inner = rows[number]
            texts.append(self._list(inner) if inner[0][0] else self.text(inner[0][2]))
        return f"[{', '.join(_runs(texts))}]"


def _alternating(even: str, odd: str) -> str:
    """Python for what takes turns along a list."""
    if even == "False":
        return "i % 2 == 1" if odd == "True" else f"i % 2 == 1 and {odd}"
    return "i % 2 == 0" if (even, odd) == ("True", "False") else f"{even} if i % 2 == 0 else {odd}"


def _runs(texts: list[str]) -> list[str]:
    """Equal constructor calls in a row as a comprehension."""
    result: list[str] = []
    start = 0
    while start < len(texts):
        stop = start
        while stop < len(texts) and texts[stop] == texts[start]:
            stop += 1
        count = stop - start
        if count > 2 or (count == 2 and len(texts[start]) > 30):
            result.append(f"*({texts[start]} for _ in range({count}))")
        else:
            result += texts[start:stop]
        start = stop
    return result


def _same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and value == default


def _shape_hint(value: Value, axis: int) -> str:
    leaf = (value.path or "size").rpartition(".")[2]
    return "dim" if axis == value.rank - 1 else f"{leaf}_size"


def _as_code(value: Any) -> Any:
    """A function among the attributes is named as the IR names ops: "nn.relu"."""
    return Code(value) if isinstance(value, str) and value.startswith(("nn.", "mx.")) else value
