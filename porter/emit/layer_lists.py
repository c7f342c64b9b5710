"""Lists of layers as comprehensions: `[Block(args.dims[i]) for i in range(args.depth)]`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from porter.emit.arguments import Arguments
from porter.emit.attributes import Attributes
from porter.emit.child_calls import ChildCalls, Instances
from porter.emit.literals import Vector, is_constant, literal
from porter.emit.turns import alternating, factor, first_apart, growth, runs, term
from porter.errors import UnsupportedError
from porter.passes.factor.blocks import Block


class LayerLists:
    """Writes the lists of a class, and what the call in a comprehension is given in each turn."""

    def __init__(
        self,
        calls: ChildCalls,
        attributes: Attributes,
        item: Callable[[Instances], str],
        layer_words: tuple[str, ...] = (),
    ):
        self.cls = calls.cls
        self.calls = calls
        self.arguments = calls.arguments
        self.variants = calls.variants
        self.attributes = attributes
        self.item = item  # the constructor call of one member
        self.layer_words = layer_words  # the kind of each layer of a decoder

    def comprehension(self, items: Instances) -> str:
        """The list that a loop runs over, as a comprehension."""
        blocks = {i: loop.blocks for i, loop in items}
        first = items[0][1].blocks[0]
        if first.is_sequential:
            return self._sequentials(first, blocks)
        if len({id(self.calls.child(block)[0]) for row in blocks.values() for block in row}) > 1:
            return self._mixed(blocks)
        call, table, uses_index = self._repeated_call(blocks)
        count = self._count(first, blocks) if table is None else f"len({table})"
        return f"[{call} for {'i' if uses_index else '_'} in range({count})]"

    def _sequentials(self, first: Block, blocks: dict[int, list[Block]]) -> str:
        """A list of Sequentials: once where they are all alike, else one by one."""
        call, *others = [
            self.item([(i, row[k]) for i, row in blocks.items() if k < len(row)])
            for k in range(max(map(len, blocks.values())))
        ]
        if all(other == call for other in others):
            return f"[{call} for _ in range({self._count(first, blocks)})]"
        if len({len(row) for row in blocks.values()}) > 1:
            raise UnsupportedError(
                f"{self.cls.name} keeps lists of different lengths in {first.path}, whose Sequentials differ: porter can't "
                "write that yet."
            )
        lengths = {i: (row[0].path.rpartition(".")[0], len(row)) for i, row in blocks.items()}
        return f"[{', '.join(runs([call, *others], self.length(lengths)))}]"

    def _count(self, first: Block, blocks: dict[int, list[Block]]) -> str:
        """How many layers a list has."""
        lengths: Vector = {i: len(row) for i, row in blocks.items()}
        containers = {i: row[0].path.rpartition(".")[0] for i, row in blocks.items()}
        lengths |= self.variants.lengths(self.cls, containers, lengths)
        names = ("depth", "num_layers", "num_hidden_layers", "n_layer")
        return self.arguments.resolve(lengths, self._list_name(first), *names)

    def _list_name(self, first: Block) -> str:
        return str(self.attributes.places[self.cls.template.relative(first.path)][0])

    def _mixed(self, blocks: dict[int, list[Block]]) -> str:
        """A list of layers of several classes: each by its kind, where the kind tells the class; else one by one."""
        words, rows = self.layer_words, list(blocks.values())
        members: dict[str, list[int]] = {}
        for place, word in enumerate(words):
            members.setdefault(word, []).append(place)
        told = all(len(row) == len(words) for row in rows) and all(
            len({id(self.calls.child(row[place])[0]) for place in places}) == 1
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
        return f"[{', '.join(runs(texts, self.length(lengths)))}]"

    def stages(self, blocks: dict[int, list[Any]]) -> str | None:
        """`Stage(args.dims[i], args.depths[i]) for i in range(len(args.depths))`; None where no tuple runs along the calls."""
        members = [block for row in blocks.values() for block in row]
        if len(members) < 3 * len(blocks) or not all(
            isinstance(block, Block) and not block.is_sequential for block in members
        ):
            return None
        if len({id(self.calls.child(block)[0]) for block in members}) > 1:
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
        cls, arguments, _ = self.calls.child(next(iter(blocks.values()))[0])
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
        return self.calls.call(cls.name, arguments, texts), table, uses_index

    def _rows(
        self, name: str, arguments: Arguments, blocks: dict[int, list[Block]]
    ) -> dict[int, list[Any]]:
        """What a child's parameter is along the list of each instance, in every size of the model that knows it."""
        vector = arguments.parameters[name]
        rows = {
            i: [vector.get(self.calls.child(block)[2]) for block in row]
            for i, row in blocks.items()
        }
        cls = self.calls.child(next(iter(blocks.values()))[0])[0]
        for k, (key, i, _) in enumerate(self.variants.keys(self.cls, blocks)):
            shift = len(cls.instances) * (1 + k // len(blocks))
            row = [vector.get(self.calls.child(block)[2] + shift) for block in blocks[i]]
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
                return text, f"{text}[i - 1] if i else {self.calls.argument(first, 'first')}"
        return None, None

    def _row(
        self, rows: dict[int, list[Any]], name: str, is_size: bool = False
    ) -> tuple[str, bool]:
        """An argument that may change along the list, and whether it names the index."""
        if all(len(set(map(repr, row))) == 1 for row in rows.values()):
            same = {i: row[0] for i, row in rows.items()}
            return self.calls.argument(same, name, is_size=is_size), False
        first = {i: row[0] for i, row in rows.items()}
        rest = {i: row[1] for i, row in rows.items() if len(row) > 1}

        def turn(vector: Vector) -> str:
            return self.calls.argument(vector, name, is_size=is_size)

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
                f"{turn(first)} + i * {factor(self.calls.argument(steps, 'step', 'step'))}",
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

    def length(self, containers: dict[int, tuple[str, int]]) -> str | None:
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
