"""The same statements again and again: the steps of a loop that torch.export has unrolled, over time or by a fixed number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from porter.ir import Node, Value
from porter.passes.factor.blocks import Block, Item, all_reads
from porter.passes.factor.encode_turns import encoded

#: Fewer steps are as readable one by one, and may be alike by chance.
LEAST = 4
#: Items of one step, at most.
_LONGEST = 400


@dataclass(slots=True, eq=False)
class Steps:
    """`for t in range(n): h = cell(x[:, t], h)`: turns that do the same to what the turn before gave.

    `slots` are the arrays that each turn reads from outside; `carried[i]` is the place, among the arrays that a turn writes, of
    what the next turn reads in slot i (None: none of these). In the slots of `rows` each turn has an array of its own, made
    before the loop; in others they have the same. `written` are the arrays that the turns write, and `collected` the places
    whose arrays are read behind the loop, not the last alone. Whole numbers may grow from turn to turn. A last turn some of
    whose results nobody reads, which left the graph, is in `rest`, with None for each of them in what it writes.
    """

    turns: list[list[Item]]
    slots: list[list[Value]]
    carried: list[int | None]
    rows: set[int]
    written: list[list[Value | None]]
    collected: list[int]
    rest: list[Item]
    #: the additions of what the turns write in a place, which nothing else reads
    sums: dict[int, list[Node]] = field(default_factory=dict)
    #: whether all whole numbers grow by the same from turn to turn
    is_even: bool = True

    @property
    def count(self) -> int:
        """How often the loop is gone through."""
        return len(self.written)

    def items(self) -> set[Item]:
        """What the loop stands for."""
        chains = (node for chain in self.sums.values() for node in chain)
        return {*(item for turn in self.turns for item in turn), *self.rest, *chains}

    def column(self, place: int) -> list[Value | None]:
        """What the turns write in one place."""
        return [row[place] for row in self.written]


def find_steps(block: Block, fixed: set[Item]) -> dict[Item, Steps]:
    """The runs of at least LEAST equal turns among the block's items, by their first items; none has an item of `fixed`."""
    items = block.items
    keys = [object() if item in fixed else _key(item) for item in items]
    if len(items) < 2 * LEAST or len(set(keys)) * 2 > len(keys):
        return {}
    found: dict[Item, Steps] = {}
    taken: set[int] = set()
    for start, stride, length in sorted(_runs(keys), key=lambda run: (-run[2], run[1])):
        if taken & {*range(start, start + length)}:
            continue
        steps = _best(block, start, stride, length)
        if steps is not None:
            first = items.index(steps.turns[0][0])
            found[items[first]] = steps
            taken |= {*range(first, first + len(steps.turns) * stride + len(steps.rest))}
    return found


def _best(block: Block, start: int, stride: int, length: int) -> Steps | None:
    """The run as steps: as a whole, or in a phase in which it ends with a turn that passes on little."""
    whole = _steps(block, start, stride, length // stride)
    if whole is not None and len(whole.turns) * stride + len(whole.rest) >= length:
        return whole
    phases = []
    for first in range(start + 1, start + stride + 1):
        count, left_over = divmod(length - (first - start), stride)
        passed_on = _passed_on(block.items, first + stride, stride)
        phases.append((-count, left_over, passed_on, first))
    tried = (
        _steps(block, first, stride, -count)
        for count, _, _, first in sorted(phases)
        if -count >= LEAST
    )
    return next((steps for steps in tried if steps is not None), whole)


def _key(item: Item) -> Any:
    if isinstance(item, Node):
        return item.op, len(item.args), tuple(v.path for v in item.params.values())
    return item.path if isinstance(item, Block) else object()


def _runs(keys: list[Any]) -> Iterator[tuple[int, int, int]]:
    """Where the keys repeat: the first place, the length of a turn, and that of all turns."""
    for stride in range(1, min(len(keys) // LEAST, _LONGEST) + 1):
        start = 0
        for place in range(len(keys) - stride + 1):
            if place + stride < len(keys) and keys[place] == keys[place + stride]:
                continue
            if place - start >= (LEAST - 1) * stride:
                yield start, stride, place - start + stride
            start = place + 1


def _turns(length: int, stride: int) -> tuple[int, bool]:
    """How many turns there are, negative, and whether something is left over: of phases the lesser pair is better."""
    count, rest = divmod(length, stride)
    return -count, rest > 0


def _passed_on(items: list[Item], place: int, length: int) -> int:
    """How many arrays made in a stretch before the place are read in one behind it."""
    made = {value for item in items[max(0, place - length) : place] for value in item.outputs}
    return len(
        made & {value for item in items[place : place + length] for value in all_reads(item)}
    )


def _steps(block: Block, start: int, stride: int, count: int) -> Steps | None:
    """The turns as steps, where they differ in nothing but what is passed on and in numbers that grow."""
    stop = start + stride * count
    turns = [block.items[place : place + stride] for place in range(start, stop, stride)]
    steps = alike_turns(turns)
    if steps is None or not any(place is not None for place in steps.carried):
        return None
    return _with_rest(block, steps, stop) or _with_collected(block, steps, stop)


def alike_turns(turns: list[list[Item]], is_even: bool = True) -> Steps | None:
    """Turns that differ in nothing but what is passed on, arrays of their own, and numbers that grow (`is_even`) or not."""
    numbers: list[list[Any]] = [[] for _ in turns]
    codes, slots = zip(
        *(encoded(turn, row) for turn, row in zip(turns, numbers, strict=True)), strict=True
    )
    if any(code != codes[0] for code in codes):
        return None
    grows = all(map(_grows, zip(*numbers, strict=True)))
    if is_even and not grows:
        return None
    written: list[list[Value | None]] = [_written(turn) for turn in turns]
    carried: list[int | None] = []
    rows: set[int] = set()
    for slot, column in enumerate(zip(*slots, strict=True)):
        pairs = [*zip(written, column[1:], strict=False)]
        places = {row.index(value) if value in row else None for row, value in pairs}
        if all(value is column[0] for value in column):
            carried.append(None)
        elif len(places) == 1 and None not in places:
            carried.append(places.pop())
        elif places == {None} and not any(value in row for row in written for value in column):
            carried.append(None)
            rows.add(slot)
        else:
            return None
    firsts = {(place, value) for place, value in zip(carried, slots[0], strict=True)}
    states = [place for place, _ in firsts if place is not None]
    if len(states) > len(set(states)):
        return None
    return Steps(turns, [*slots], carried, rows, written, [], [], is_even=grows)


def _with_rest(block: Block, steps: Steps, stop: int) -> Steps | None:
    """The steps with a last turn that is not whole."""
    last = steps.turns[-1]
    kept: list[int] = []
    place = stop
    for index, item in enumerate(last):
        if place < len(block.items) and _key(block.items[place]) == _key(item):
            kept.append(index)
            place += 1
    whole = with_rest(steps, kept, block.items[stop:place])
    if whole is None:
        return None
    found = _with_collected(block, whole, place)
    after = _read_behind(block, place)
    lasting = {*found.collected, *found.carried}
    row = found.written[-1]
    return found if all(v not in after or p in lasting for p, v in enumerate(row)) else None


def with_rest(steps: Steps, kept: list[int], rest: list[Item]) -> Steps | None:
    """The steps with a last turn that has some of the items alone, those at the places `kept`."""
    *_, before, last = steps.turns
    dropped = [
        _numbers([turn[i] for i in range(len(last)) if i not in kept]) for turn in (before, last)
    ]
    if not rest or steps.rows or dropped[0] != dropped[1]:
        return None  # an index that grows would pass the end
    numbers: list[list[Any]] = [[], [], []]
    parts = ([before[i] for i in kept], [last[i] for i in kept], rest)
    (_, _), (code, slots), (rest_code, rest_slots) = (
        encoded(part, row) for part, row in zip(parts, numbers, strict=True)
    )
    if code != rest_code or not all(map(_grows, zip(*numbers, strict=True))):
        return None
    for value, own in zip(slots, rest_slots, strict=True):
        if value not in steps.slots[-1]:
            return None  # of an item that the rest lacks
        passed = steps.carried[steps.slots[-1].index(value)]
        if own is not (value if passed is None else steps.written[-1][passed]):
            return None
    row = [
        rest[kept.index(i)].outputs[k] if i in kept else None
        for i, item in enumerate(last)
        for k in range(len(item.outputs))
    ]
    return replace(steps, written=[*steps.written, row], rest=rest)


def _with_collected(block: Block, steps: Steps, stop: int) -> Steps:
    """The steps with the places of which arrays of turns but the last are read behind them."""
    after = _read_behind(block, stop)
    places = range(len(steps.written[0]))
    collected = [p for p in places if any(value in after for value in steps.column(p)[:-1])]
    return replace(steps, collected=collected)


def _read_behind(block: Block, stop: int) -> set[Value]:
    return {value for item in block.items[stop:] for value in all_reads(item)} | {*block.outputs}


def find_part(whole: Sequence[Any], part: Sequence[Any]) -> tuple[int, bool] | None:
    """Where a list holds another, and whether the wrong way round."""
    for backward in (False, True):
        wanted = [*reversed(part)] if backward else [*part]
        for start in range(len(whole) - len(part) + 1):
            if [*whole[start : start + len(part)]] == wanted:
                return start, backward
    return None


def _numbers(items: list[Item]) -> list[Any]:
    found: list[Any] = []
    encoded(items, found)
    return found


def _grows(numbers: tuple[Any, ...]) -> bool:
    """Whether the numbers are one, or whole numbers at equal distances."""
    first, second = numbers[:2]
    if type(first) is not int:
        return all(type(n) is type(first) and n == first for n in numbers)
    return all(type(n) is int and n == first + k * (second - first) for k, n in enumerate(numbers))


def _written(turn: list[Item]) -> list[Value | None]:
    return [value for item in turn for value in item.outputs]
