"""What a forward does with each layer of a list, wherever it does it: `[head(x) for head in self.heads]`.

A call of each layer is where it begins. What is done alike to the arrays that go in and come out joins its turn, as long as
the turns can still be taken one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from porter.ir import Node, Value
from porter.passes.factor.blocks import Block, Item, all_reads
from porter.passes.factor.encode_turns import encoded
from porter.passes.factor.find_steps import Steps, alike_turns, find_part, with_rest
from porter.passes.factor.layer_names import member_path

#: Fewer calls are as readable one by one.
_LEAST = 3
#: Rows of items tried for one loop, at most.
_TRIALS = 300

#: What one statement of the loop is in each turn; None where the last turn does without.
Row = tuple[Item | None, ...]


def gather_steps(block: Block, fixed: set[Item]) -> tuple[list[Item], dict[Item, Steps]]:
    """The block's items, those of a loop in its turns' order, and the loops by their first items; none has one of `fixed`.

    A stretch of items stays together: an item, or those of a loop.
    """
    stretches = [[item] for item in block.items]
    found: list[Steps] = []
    taken = set(fixed)
    # twice: the arrays of one loop may be what a later one goes through
    for calls in (*_groups(block, taken), *_groups(block, taken)):
        gathering = _Gathering(block, stretches, fixed, taken)
        for group in (calls, calls[1:], calls[:-1]):
            if len(group) < _LEAST or not taken.isdisjoint(group):
                continue
            ways = (gathering.loop(group), gathering.loop(group[::-1]))
            steps = max(ways, key=lambda s: -1 if s is None else len(s.turns[0]))
            several = steps is not None and (len(steps.turns[0]) > 1 or _has_layers(group))
            if steps is not None and several and _is_needed(steps, found, block):
                found.append(steps)
                taken |= steps.items()
                stretches = in_order(stretches, steps, fixed) or stretches
                break
    items = [item for stretch in stretches for item in stretch]
    return items, {steps.turns[0][0]: steps for steps in found}


def _groups(block: Block, taken: set[Item]) -> Iterator[list[Item]]:
    """Calls of the layers of one list, in the list's order; and what makes the arrays that one statement puts together."""
    lists: dict[str, dict[int, list[Item]]] = {}
    for item in block.items:
        path = None if item in taken else _path_of(block, item)
        parts = path.split(".") if path is not None else []
        for place, part in enumerate(parts):
            if part.isdigit():
                name = ".".join([*parts[:place], "*", *parts[place + 1 :]])
                lists.setdefault(name, {}).setdefault(int(part), []).append(item)
    for calls in sorted(lists.values(), key=len, reverse=True):
        numbers = sorted(calls)
        even = numbers == [*range(numbers[0], numbers[0] + len(numbers))]
        if not even or len(numbers) < _LEAST or any(len(calls[n]) > 1 for n in numbers):
            continue
        yield [calls[n][0] for n in numbers]
    makers = {value: item for item in block.items for value in item.outputs}
    for item in block.items:
        for values in (*_sequences(item), _summands(item, makers)):
            made = [makers.get(value) for value in values]
            if len({*made}) == len(made) >= _LEAST and None not in made:
                yield made  # type: ignore[misc]


def _path_of(block: Block, item: Item) -> str | None:
    """The path of the layer or the module that an item calls, seen from the block."""
    if isinstance(item, Block):
        return block.relative(item.path)
    layer = isinstance(item, Node) and item.is_layer and item.params
    return member_path(block, item) if layer else None  # type: ignore[arg-type]


def _has_layers(group: list[Item]) -> bool:
    """Whether each item calls a module of its own."""
    return all(isinstance(item, Block) or item.is_layer for item in group)  # type: ignore[union-attr]


class _Gathering:
    """One loop that grows."""

    def __init__(
        self, block: Block, stretches: list[list[Item]], fixed: set[Item], taken: set[Item]
    ):
        self.block, self.stretches, self.fixed, self.taken = block, stretches, fixed, taken
        items = [item for stretch in stretches for item in stretch]
        self.position = {item: k for k, item in enumerate(items)}
        self.maker = {value: item for item in items for value in item.outputs}
        self.readers: dict[Value, list[Item]] = {}
        for item in items:
            for value in dict.fromkeys(all_reads(item)):
                self.readers.setdefault(value, []).append(item)

    def loop(self, group: list[Item]) -> Steps | None:
        """The loop of the most statements around these calls; None where the calls can't be in one."""
        if len({_code(item) for item in group}) > 1:
            return None
        self.count, self.trials = len(group), 0
        best, rows = self._completed([tuple(group)])
        refused: set[Row] = set()
        while best is not None and self.trials < _TRIALS:
            for row in self._next_rows(rows):
                if row not in refused:
                    steps, more = self._completed([*rows, row])
                    if steps is not None:
                        best, rows = steps, more
                        break
                    refused.add(row)
            else:
                break
        return best

    def _completed(self, rows: list[Row]) -> tuple[Steps | None, list[Row]]:
        """The rows, with what stands between two turns until these can follow one another."""
        while self.trials < _TRIALS:
            steps = self._steps(rows)
            row = next(self._next_rows(rows), None)
            if steps is not None or row is None:
                return steps, rows
            rows = [*rows, row]
        return None, rows

    def _next_rows(self, rows: list[Row]) -> Iterator[Row]:
        """Rows of alike items that make what the rows read, then of such that read what these write.

        A reader may be of the next turn; what makes what a turn reads is of the same one, or was there before the loop.
        """
        inside = {item for row in rows for item in row}
        present = [[item for item in row if item is not None] for row in rows]
        for items in present:
            for column in zip(*map(all_reads, items), strict=False):
                makers = [self.maker.get(value) for value in column]
                new = [m for m in makers if m is not None and m not in inside | self.taken]
                if len(new) == len(items):
                    yield from self._alike(new[0], [[item] for item in new])
        for items in present:
            for place, value in enumerate(items[0].outputs):
                choices = [self._free_readers(item.outputs[place], inside) for item in items]
                for first in self._free_readers(value, inside):
                    yield from self._alike(first, choices)

    def _free_readers(self, value: Value, inside: set[Item | None]) -> list[Item]:
        readers = self.readers.get(value, ())
        return [item for item in readers if item not in inside and item not in self.taken]

    def _alike(self, first: Item, choices: list[list[Item]]) -> Iterator[Row]:
        """An item of each turn like the first; that of the last turn may be missing."""
        code = _code(first)
        chosen = [next((item for item in some if _code(item) == code), None) for some in choices]
        row = (*chosen, *[None] * (self.count - len(chosen)))
        present = [item for item in row if item is not None]
        if len(present) == len({*present}) and None not in row[:-1]:
            yield row

    def _steps(self, rows: list[Row]) -> Steps | None:
        """The rows as a loop; None where it can't run."""
        self.trials += 1
        ordered = sorted(rows, key=lambda row: self.position[row[1]])  # type: ignore[index]
        turns = [[item for item in turn if item is not None] for turn in zip(*ordered, strict=True)]
        kept = [k for k, row in enumerate(ordered) if row[-1] is not None]
        is_whole = len(kept) == len(ordered)
        steps = alike_turns(turns if is_whole else turns[:-1], is_even=not is_whole)
        if steps is not None and not is_whole:
            steps = with_rest(steps, kept, turns[-1])
        if steps is None:
            return None
        steps = self._with_results(steps)
        return steps if in_order(self.stretches, steps, self.fixed) is not None else None

    def _with_results(self, steps: Steps) -> Steps:
        """The steps with what is read behind them: whole columns, and sums over the turns."""
        inside = steps.items()
        sums: dict[int, list[Node]] = {}
        collected: list[int] = []
        for place in range(len(steps.written[0])):
            column = steps.column(place)
            chain = self._sum(column, inside)
            if chain is not None:
                sums[place] = chain
                continue
            behind = {r for v in column[:-1] for r in self.readers.get(v, ())} - inside  # type: ignore[arg-type]
            if behind or any(value in self.block.outputs for value in column[:-1]):
                collected.append(place)
        return replace(steps, collected=collected, sums=sums)

    def _sum(self, column: list[Value | None], inside: set[Item]) -> list[Node] | None:
        """The additions of `a + b + c + d`, where nothing else reads these."""
        chain: list[Node] = []
        total, *others = column
        for value in others:
            readers = [
                [reader for reader in self.readers.get(v, ()) if reader not in inside]  # type: ignore[arg-type]
                for v in (total, value)
            ]
            reader = readers[0][0] if readers[0] else None
            kept = total in self.block.outputs or value in self.block.outputs
            if kept or readers != [[reader], [reader]] or reader in self.taken:
                return None
            if not isinstance(reader, Node) or reader.op != "+" or reader.kwargs:
                return None
            if {*reader.args} != {total, value} or not _is_float(reader.output):
                return None
            chain.append(reader)
            total = reader.output
        return chain


def in_order(
    stretches: list[list[Item]], steps: Steps, fixed: set[Item]
) -> list[list[Item]] | None:
    """The items with the loop's in one stretch; None where what is made from a turn goes into a later one."""
    inside = steps.items()
    places = [k for k, stretch in enumerate(stretches) if stretch[0] in inside]
    first, stop = places[0], places[-1] + 1
    made = {value for item in inside for value in item.outputs}
    behind: set[Value] = set()
    before: list[list[Item]] = []
    after: list[list[Item]] = []
    for stretch in stretches[first:stop]:
        read = {value for item in stretch for value in all_reads(item)}
        if stretch[0] in inside:
            if read & behind:
                return None
        elif stretch[0] in fixed:
            return None
        elif read & (made | behind):
            after.append(stretch)
            behind |= {value for item in stretch for value in item.outputs}
        else:
            before.append(stretch)
    loop = [*(item for turn in steps.turns for item in turn), *steps.rest]
    loop += [item for chain in steps.sums.values() for item in chain]
    return [*stretches[:first], *before, loop, *after, *stretches[stop:]]


def _is_needed(steps: Steps, loops: list[Steps], block: Block) -> bool:
    """Whether the arrays of turns are read together: by a statement that takes them all, or by another loop."""
    lists = [block.outputs, *(s for item in block.items for s in _sequences(item))]
    rows = [
        [*column]
        for other in loops
        for slot, column in enumerate(zip(*other.slots, strict=True))
        if slot in other.rows
    ]
    return all(
        any(find_part(whole, steps.column(place)) is not None for whole in (*lists, *rows))
        for place in steps.collected
    )


def _summands(item: Item, makers: dict[Value, Item]) -> list[Value]:
    """The arrays that a chain of additions adds up, from the left."""
    others: list[Value] = []
    while isinstance(item, Node) and item.op == "+" and len({*item.inputs()}) == 2:
        first, second = item.inputs()
        others.append(second)
        if first not in makers:
            return []
        item, total = makers[first], first
    return [total, *reversed(others)] if others else []


def _sequences(item: Item) -> Iterator[list[Any]]:
    """The lists of arrays that a node is given."""
    if isinstance(item, Node):
        yield from (list(arg) for arg in item.args if isinstance(arg, (list, tuple)))


def _code(item: Item) -> Any:
    """What items of one row share: all but numbers, and where they stand in lists."""
    return encoded([item], [])[0] if isinstance(item, (Node, Block)) else object()


def _is_float(value: Value) -> bool:
    return value.dtype.startswith(("float", "bfloat", "complex"))
