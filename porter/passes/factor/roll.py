"""Calls of a list's modules in a row become a loop."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import takewhile

from porter.ir import Node
from porter.passes.factor.blocks import Block, Item, Loop, reads
from porter.passes.factor.encode_turns import encoded
from porter.passes.view_forms import flatten_axes, squeezed_axes

#: The calls of several classes that make a loop.
_FEW = 3
_INDEXED = re.compile(r"^(.*?)\.?(\d+)$")


def list_position(path: str) -> tuple[str, int] | None:
    """("blocks", 3) of "blocks.3", ("denselayer", 3) of "denselayer3"; None where no number ends the path."""
    match = _INDEXED.match(path)
    return (match[1], int(match[2])) if match and match[1] else None


def roll_loops(block: Block, same_class: Callable[[Block, Block], bool]) -> None:
    """Replaces runs of at least two turns among the block's items by loops. The block's children have their classes."""
    if block.is_sequential:
        return
    position = 0
    while position < len(block.items):
        loop, length = _loop_at(block, position, same_class)
        if loop is not None:
            block.items[position : position + length] = [loop]
        position += 1


def roll_single_turns(blocks: list[Block], same_class: Callable[[Block, Block], bool]) -> None:
    """A list with one layer in one call of a class is a loop too, where the list is one in another call of it."""
    loops: dict[tuple[str, str], Loop] = {}
    for block in blocks:
        for item in block.items:
            if isinstance(item, Loop):
                place = list_position(block.relative(item.blocks[0].path))
                if place is not None and place[1] == 0:
                    loops.setdefault((block.cls, place[0]), item)
    for block in blocks if loops else ():
        places = [_place_in_list(block, item) for item in block.items]
        for position, place in enumerate(places):
            like = loops.get((block.cls, place[0])) if place is not None else None
            if like is None or sum(p is not None and p[0] == place[0] for p in places) > 1:  # type: ignore[index]
                continue
            turn = block.items[position : position + len(like.turns[0])]
            if (loop := _single(block, turn, like, same_class)) is not None:
                block.items[position : position + len(turn)] = [loop]
                break


def _place_in_list(block: Block, item: Item) -> tuple[str, int] | None:
    return list_position(block.relative(item.path)) if isinstance(item, Block) else None


def _single(
    block: Block, turn: list[Item], like: Loop, same_class: Callable[[Block, Block], bool]
) -> Loop | None:
    """The turn as a loop of one, which carries what the other loop carries."""
    first = turn[0]
    if not isinstance(first, Block) or not same_class(first, like.blocks[0]):
        return None
    code, slots = encoded(turn)
    if code != encoded(like.turns[0])[0]:
        return None
    written = [value for item in turn for value in item.outputs]
    after = {v for item in block.items[block.items.index(turn[-1]) + 1 :] for v in reads(item)}
    read = [value for value in written if value in after or value in block.outputs]
    if any(written.index(value) not in like.carried for value in read):
        return None
    loop = Loop([turn], [slots], like.carried, like.caches, like.masks)
    shared = [v for item in turn for v in reads(item) if v.is_parameter]
    loop.inputs = list(dict.fromkeys([*slots, *shared]))
    loop.outputs = read
    return loop


def _loop_at(
    block: Block, start: int, same_class: Callable[[Block, Block], bool]
) -> tuple[Loop | None, int]:
    first = block.items[start]
    if not isinstance(first, Block) or (place := list_position(block.relative(first.path))) is None:
        return None, 0
    starts = [start]
    mixed = False
    for position in range(start + 1, len(block.items)):
        item = block.items[position]
        if isinstance(item, Block):
            expected = (place[0], place[1] + len(starts))
            if list_position(block.relative(item.path)) != expected:
                break
            if not same_class(first, item) and not (_has_cache(first) and _has_cache(item)):
                mixed = True
            starts.append(position)
        elif not isinstance(item, Node):
            break
    if not first.path.endswith(f".{place[1]}") and len(starts) < 4:
        return None, 0  # conv1, conv2: names that end in a number, no list
    if mixed and first.path.endswith(f".{place[1]}") and _is_chain_of_calls(block, starts):
        loop, length = _longest(block, starts, _FEW)
        if loop is not None:
            return loop, length
    if mixed:  # as far as the calls are of one class
        starts = [*takewhile(lambda p: same_class(first, block.items[p]), starts)]  # type: ignore[arg-type]
    loop, length = _longest(block, starts, 2)
    return (None, 0) if loop is not None and _is_sum(block, loop) else (loop, length)


def _is_sum(block: Block, loop: Loop) -> bool:
    """Whether the loop adds to what the member before gives what its own give: a sum over members of the list."""
    turn = loop.turns[0]
    first = list_position(block.relative(loop.blocks[0].path))
    carried = [slot for slot, place in enumerate(loop.carried) if place is not None]
    plain = len(turn) == 2 and isinstance(turn[1], Node) and turn[1].op == "+"
    if not plain or len(carried) != 1 or first is None:
        return False
    start = loop.slots[0][carried[0]]
    makers = (i for i in block.items if isinstance(i, Block) and start in i.outputs)
    member = next(makers, None)
    called = member is not None and list_position(block.relative(member.path))
    return called == (first[0], first[1] - 1) and start not in loop.blocks[0].inputs


def _longest(block: Block, starts: list[int], fewest: int) -> tuple[Loop | None, int]:
    """The loop of the most turns that begin at these places, and how many items it has."""
    if len(starts) < fewest:
        return None, 0
    stride = starts[1] - starts[0]
    even = [p for i, p in enumerate(starts) if p == starts[0] + i * stride]
    while len(even) >= fewest:
        if even[-1] + stride <= len(block.items):
            turns = [block.items[p : p + stride] for p in even]
            loop = _rolled(block, turns, starts[0], even[-1] + stride)
            if loop is not None:
                return loop, stride * len(even)
        even.pop()
    return None, 0


def _is_chain_of_calls(block: Block, starts: list[int]) -> bool:
    """Whether nothing but calls of modules stands there: several classes with one form of call are as good as one."""
    items = block.items[starts[0] : starts[-1] + 1]
    calls = [item for item in items if isinstance(item, Block) and not item.is_sequential]
    return len(calls) == len(items)


def _has_cache(block: Block) -> bool:
    """Whether it is a decoder's layer: those may be of several classes, which are called alike."""
    return any(v.node is not None and v.node.op == "cache[]" for v in block.inputs if v is not None)


def _rolled(block: Block, turns: list[list[Item]], start: int, stop: int) -> Loop | None:
    codes = [encoded(turn) for turn in turns]
    if any(code[0] != codes[0][0] for code in codes) or any(map(_needs_sizes, turns[0])):
        return None
    slots = [code[1] for code in codes]
    produced = [[value for item in turn for value in item.outputs] for turn in turns]
    carried: list[int | None] = []
    caches: set[int] = set()
    masks: set[int] = set()
    for slot in range(len(slots[0])):
        column = [values[slot] for values in slots]
        if all(value is column[0] for value in column):
            carried.append(None)
            continue
        if all(value.node is not None and value.node.op == "cache[]" for value in column):
            if not _counts_up([value.node.attrs["index"] for value in column if value.node]):
                return None
            caches.add(slot)
            carried.append(None)
            continue
        if all(value.dtype == "mask" for value in column):
            masks.add(slot)
            carried.append(None)
            continue
        places = {
            produced[i].index(slots[i + 1][slot]) if slots[i + 1][slot] in produced[i] else None
            for i in range(len(turns) - 1)
        }
        if len(places) != 1 or None in places:
            return None
        carried.append(places.pop())
    if not any(place is not None for place in carried):
        return None
    passed_on = {place for place in carried if place is not None}
    after = {v for item in block.items[stop:] for v in reads(item)} | set(block.outputs)
    for i, values in enumerate(produced):
        last = i == len(turns) - 1
        for place, value in enumerate(values):
            read_later = value in after or (not last and any(value in s for s in slots[i + 2 :]))
            if not last and read_later:
                return None
            if last and value in after and place not in passed_on:
                return None
    loop = Loop(turns, slots, carried, caches, masks)
    read = [value for column in masks for values in slots for value in (values[column],)]
    shared = [v for item in turns[0] for v in reads(item) if v.is_parameter]
    loop.inputs = list(dict.fromkeys([*slots[0], *read, *shared]))
    loop.outputs = [value for value in produced[-1] if value in after]
    return loop


def _needs_sizes(item: Item) -> bool:
    """Whether sizes are to be read off arrays for an item, which a turn has no line for."""
    if not isinstance(item, Node) or item.op != ".reshape":
        return False
    return not flatten_axes(item) and not squeezed_axes(item)


def _counts_up(numbers: list[int]) -> bool:
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))
