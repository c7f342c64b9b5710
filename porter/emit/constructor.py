"""The constructor of a class: its parameters, layers, lists and children."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from porter.emit.arguments import Arguments
from porter.emit.attributes import Attributes, Place
from porter.emit.expressions import Code, Vector, is_constant, literal
from porter.emit.layers import CONSTRUCTORS, MLX_LM, SYNONYMS
from porter.emit.syntax import dtype_text
from porter.emit.turns import alternating, factor, first_apart, growth, runs, term
from porter.emit.variants import Variants
from porter.errors import UnsupportedError
from porter.ir import Node, Value
from porter.passes.factor.classes import BlockClass
from porter.passes.factor.tree import Block, Loop, layer_path, module_form

Instances = list[tuple[int, Any]]  # (instance of the class, what the item is there)

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
        self.child = child  # block -> (class, its arguments, which instance the block is)
        self.variants = variants
        self.layer_words = layer_words  # the kind of each layer of a decoder

    # --- expressions

    def item(self, items: Instances) -> str:
        """The constructor call of a layer, a child or a Sequential."""
        first = items[0][1]
        if isinstance(first, Node):
            return self.layer(items)
        if first.is_sequential:
            return self.sequential(items)
        return self.child_call(items)

    def _activation(self, items: Instances) -> str:
        """`nn.ReLU()` in a Sequential; where the instances differ, of the class that they are given."""
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

    def child_call(self, items: Instances, index: str = "") -> str:
        """`Block(args)` or `Block(dim, heads, stride=2)`."""
        del index
        cls, arguments, _ = self.child(items[0][1])
        vectors = {}
        for name in arguments.ordered():
            given = self._given(name, arguments, items)
            if any(literal(value) != arguments.default(name) for value in given.values()):
                vectors[name] = given
        attribute = items[0][1].path.rpartition(".")[2]
        named = attribute.isidentifier()
        texts = {
            n: self._argument(
                v,
                n,
                f"{attribute}_{n}" if named and n in arguments.made else n,
                n in arguments.sizes,
            )
            for n, v in vectors.items()
        }
        return self._call(cls.name, arguments, texts)

    def _given(self, name: str, arguments: Arguments, items: Instances) -> Vector:
        """What a child's parameter is in each instance of this class, in every size of the model that knows it."""
        vector, blocks = arguments.parameters[name], dict(items)
        cls = self.child(items[0][1])[0]
        given: Vector = {i: vector.get(self.child(block)[2]) for i, block in items}
        for k, (key, i, _) in enumerate(self.variants.keys(self.cls, blocks)):
            inner = self.child(blocks[i])[2] + len(cls.instances) * (1 + k // len(blocks))
            if vector.get(inner) is not None:
                given[key] = vector[inner]
        return given

    def _argument(
        self, vector: Vector, name: str, fallback: str = "", is_size: bool = False
    ) -> str:
        known = {i: value for i, value in vector.items() if value is not None}
        if not known:
            return "None"
        return self.arguments.look_up(known, name) or self.arguments.resolve(
            known, fallback or name, name, is_size=is_size
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
        count = lengths.pop()
        stages = self.stages({i: block.items for i, block in items})
        if stages is not None:
            return f"nn.Sequential(*({stages}))"
        entries = [self.item([(i, block.items[p]) for i, block in items]) for p in range(count)]
        total = self._length({i: (block.path, count) for i, block in items})
        return f"nn.Sequential({', '.join(runs(entries, total))})"

    def _length(self, containers: dict[int, tuple[str, int]]) -> str | None:
        """The name for the number of members of containers, given as path and count; None where it has none."""
        counts = {i: count for i, (_, count) in containers.items()}
        paths = {i: path for i, (path, _) in containers.items()}
        others = self.variants.lengths(self.cls, paths, counts)
        if not others or is_constant(counts | others):
            return None
        if max(counts.values()) < 2:
            self.arguments.config.unexplained += 1
            return None
        return self.arguments.look_up(counts | others, "depth", "num_layers")

    def loop(self, items: Instances) -> str:
        """The list that a loop runs over, as a comprehension."""
        blocks = {i: loop.blocks for i, loop in items}
        if len({id(self.child(block)[0]) for row in blocks.values() for block in row}) > 1:
            return self._mixed(blocks)
        call, table, uses_index = self._repeated_call(blocks)
        if table is None:
            lengths: Vector = {i: len(row) for i, row in blocks.items()}
            containers = {i: row[0].path.rpartition(".")[0] for i, row in blocks.items()}
            lengths |= self.variants.lengths(self.cls, containers, lengths)
            count = self.arguments.resolve(
                lengths,
                self._list_name(items[0][1]),
                "depth",
                "num_layers",
                "num_hidden_layers",
                "n_layer",
            )
        else:
            count = f"len({table})"
        return f"[{call} for {'i' if uses_index else '_'} in range({count})]"

    def _mixed(self, blocks: dict[int, list[Block]]) -> str:
        """A list of layers of several classes: each by its kind, where the kind tells the class; else one by one."""
        words, rows = self.layer_words, list(blocks.values())
        members: dict[str, list[int]] = {}
        for place, word in enumerate(words):
            members.setdefault(word, []).append(place)
        told = all(len(row) == len(words) for row in rows) and all(
            len({id(self.child(row[place])[0]) for place in places}) == 1
            for places in members.values()
            for row in rows
        )
        calls = {}
        for word, places in members.items() if told else ():
            chosen = {i: [row[place] for place in places] for i, row in blocks.items()}
            call, table, uses_index = self._repeated_call(chosen)
            if table is None and not uses_index:
                calls[word] = call
        if calls and len(calls) == len(members):
            *some, default = sorted(calls, key=lambda word: len(members[word]))
            each = "".join(f'{calls[word]} if kind == "{word}" else ' for word in some)
            kinds = self.arguments.resolve({0: words}, "layer_types")
            return f"[{each}{calls[default]} for kind in {kinds}]"
        texts = [self.item([(i, row[k]) for i, row in blocks.items()]) for k in range(len(rows[0]))]
        lengths = {i: (row[0].path.rpartition(".")[0], len(row)) for i, row in blocks.items()}
        return f"[{', '.join(runs(texts, self._length(lengths)))}]"

    def stages(self, blocks: dict[int, list[Any]]) -> str | None:
        """`Stage(args.dims[i], args.depths[i]) for i in range(len(args.depths))`; None where no tuple runs along the calls."""
        members = [block for row in blocks.values() for block in row]
        if len(members) < 3 * len(blocks) or not all(
            isinstance(block, Block) and not block.is_sequential for block in members
        ):
            return None
        if len({id(self.child(block)[0]) for block in members}) > 1:
            return None
        known = set(self.arguments.parameters)
        call, table, _ = self._repeated_call(blocks, tables_only=True)
        if table is None:
            for name in set(self.arguments.parameters) - known:
                del self.arguments.parameters[name]
            return None
        return f"{call} for i in range(len({table}))"

    def _repeated_call(
        self, blocks: dict[int, list[Block]], tables_only: bool = False
    ) -> tuple[str, str | None, bool]:
        """The call of one class along lists: its text, the tuple with an element for each turn, whether it names the index."""
        cls, arguments, _ = self.child(next(iter(blocks.values()))[0])
        texts, table, uses_index = {}, None, False
        rows = {name: self._rows(name, arguments, blocks) for name in arguments.ordered()}
        rows = {
            name: found
            for name, found in rows.items()
            if any(literal(v) != arguments.default(name) for row in found.values() for v in row)
        }
        tables = {name: self._tables(found) for name, found in rows.items()}
        if tables_only and not any(found for found, _ in tables.values()):
            return "", None, False
        for name, found in rows.items():
            whole, text = tables[name]
            if text is not None:
                texts[name], indexed, table = text, True, table or whole
            else:
                texts[name], indexed = self._row(found, name, name in arguments.sizes)
            uses_index |= indexed
        return self._call(cls.name, arguments, texts), table, uses_index

    def _rows(
        self, name: str, arguments: Arguments, blocks: dict[int, list[Block]]
    ) -> dict[int, list[Any]]:
        """What a child's parameter is along the list of each instance, in every size of the model that knows it."""
        vector = arguments.parameters[name]
        rows = {i: [vector.get(self.child(block)[2]) for block in row] for i, row in blocks.items()}
        cls = self.child(next(iter(blocks.values()))[0])[0]
        for k, (key, i, _) in enumerate(self.variants.keys(self.cls, blocks)):
            shift = len(cls.instances) * (1 + k // len(blocks))
            row = [vector.get(self.child(block)[2] + shift) for block in blocks[i]]
            if None not in row:
                rows[key] = row
        return rows

    def _tables(self, rows: dict[int, list[Any]]) -> tuple[str | None, str | None]:
        """A tuple that the rows are, or are one behind, and the text of its element in turn i."""
        if all(len(set(map(repr, row))) == 1 for row in rows.values()):
            return None, None
        for name in self.arguments.tables():
            columns = self.arguments.symbols[name]
            if any(len(columns.get(i) or ()) != len(row) for i, row in rows.items()):
                continue
            if all(list(columns[i]) == row for i, row in rows.items()):
                text = self.arguments.name(name)
                return text, f"{text}[i]"
            if all(list(columns[i][:-1]) == row[1:] for i, row in rows.items()):
                first = {i: row[0] for i, row in rows.items()}
                text = self.arguments.name(name)
                if all(columns[i][0] == value for i, value in first.items()):
                    return text, f"{text}[max(i - 1, 0)]"
                return text, f"{text}[i - 1] if i else {self._argument(first, 'first')}"
        return None, None

    def _list_name(self, loop: Loop) -> str:
        return str(self.attributes.places[self.cls.template.relative(loop.blocks[0].path)][0])

    def _row(
        self, rows: dict[int, list[Any]], name: str, is_size: bool = False
    ) -> tuple[str, bool]:
        """An argument that may change along the list, and whether it names the index."""
        if all(len(set(map(repr, row))) == 1 for row in rows.values()):
            same = {i: row[0] for i, row in rows.items()}
            return self._argument(same, name, is_size=is_size), False
        first = {i: row[0] for i, row in rows.items()}
        rest = {i: row[1] for i, row in rows.items() if len(row) > 1}

        def turn(vector: Vector) -> str:
            return self._argument(vector, name, is_size=is_size)

        if all(len(set(map(repr, row[1:]))) <= 1 for row in rows.values()):
            return first_apart(turn(first), turn(rest)), True
        if all(row[k] == row[k % 2] for row in rows.values() for k in range(len(row))):
            return alternating(turn(first), turn(rest)), True
        steps = {
            i: row[1] - row[0]
            for i, row in rows.items()
            if len(row) > 1 and all(type(v) is int for v in row)
        }
        if len(steps) == len(rows) and all(
            v == row[0] + k * steps[i] for i, row in rows.items() for k, v in enumerate(row)
        ):
            return (
                f"{turn(first)} + i * {factor(self._argument(steps, 'step', 'step'))}",
                True,
            )
        grown = growth(rows)
        if grown is not None:
            return f"{term(turn(first))} {grown}**i", True
        count = len(self.cls.instances)
        here = {i: row for i, row in rows.items() if i < count}
        if len(here) < len(rows):  # nothing says what the other sizes have here
            self.arguments.config.unexplained += any(rows[i] != here[i % count] for i in rows)
            return self._row(here, name)
        tuples = {i: tuple(row) for i, row in rows.items()}
        return f"{self.arguments.resolve(tuples, name)}[i]", True

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
            return self._length(containers)
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
