"""Steps as a loop: `for t in range(x.shape[1]): h = self.cell(x[:, t], h)`."""

from __future__ import annotations

import builtins
from collections import Counter
from typing import Any

from porter.emit.loop_text import are_alike, in_one, loop_lines
from porter.emit.names import variable
from porter.emit.statements import Statements
from porter.emit.syntax import Text, infix
from porter.ir import Value
from porter.passes.factor.blocks import all_reads
from porter.passes.factor.find_steps import Steps, find_part

#: What a list of the turns' results is called.
_LISTS = ("outputs", "collected", "results", "rows", "columns")


def write_steps(body: Any, steps: Steps) -> bool:
    """Writes the loop. False, and nothing is written, where the turns' statements are not alike but for numbers that grow."""
    for body.statements.spelled in (False, True):
        if _write_steps(body, steps):
            body.statements.spelled = False
            return True
    body.statements.spelled = False
    return False


def _write_steps(body: Any, steps: Steps) -> bool:
    statements: Statements = body.statements
    saved = (
        [*statements.lines], dict(statements.names), dict(statements.pending), dict(statements.left),
        statements.reserved, statements.indent,
    )  # fmt: skip
    given = _gone_through(statements, steps)
    if given is None:
        return _left(statements, saved)
    names = _name_arrays(statements, steps, given)
    lists: dict[int, str] = {}
    for place in (*steps.collected, *steps.sums):
        busy = statements.busy() | {*lists.values(), *(name for name in names if name is not None)}
        lists[place] = _name_results(statements, steps, place, busy)
        statements.say(f"{lists[place]} = {0 if place in steps.sums else '[]'}")
    reserved = statements.busy() | {*lists.values()} | {n for n in names if n is not None}
    bodies, ends = _write_turns(body, steps, names, lists, reserved)
    lines = loop_lines(body, steps, bodies, reserved, given)
    if lines is None:
        return _left(statements, saved)
    if len(lists) == 1 and len(lines) == 2 and (line := in_one(lines, statements.lines[-1])):
        statements.lines[-1:] = [line]
    else:
        statements.lines += lines
    statements.names |= ends
    statements.reserved = saved[4]
    for place, chain in steps.sums.items():
        statements.names[chain[-1].output] = lists.pop(place)
        statements.measure(chain[-1].output, statements.names[chain[-1].output])
    for place, name in lists.items():
        column = steps.column(place)
        statements.collected.append((column, name))
        entries = {value: f"{name}[{k}]" for k, value in enumerate(column[:-1])} | {
            column[-1]: f"{name}[-1]"
        }
        statements.names |= {
            v: text for v, text in entries.items() if v is not None and v not in ends
        }
    return True


def _name_results(statements: Statements, steps: Steps, place: int, busy: set[str]) -> str:
    """What the author calls a sum; for a list the plural of what the author calls each entry."""
    if place in steps.sums:
        name = statements.places.local_name(steps.sums[place][-1].output)
        return variable(name if name not in ("_", None) else "total", busy, ("total", "sum_"))
    names = {statements.places.local_name(value) for value in steps.column(place) if value}
    name = names.pop() if len(names) == 1 else None
    plural = f"{name}s" if name and len(name) > 2 and name[-1] not in "sxyz_" else _LISTS[0]
    return variable(plural, busy, _LISTS)


def _left(statements: Statements, saved: Any) -> bool:
    """The statements as they were before the loop."""
    (
        statements.lines, statements.names, statements.pending, statements.left,
        statements.reserved, statements.indent,
    ) = saved  # fmt: skip
    return False


def _write_turns(
    body: Any, steps: Steps, names: list[str | None], lists: dict[int, str], reserved: set[str]
) -> tuple[list[list[str]], dict[Value, str]]:
    """The statements of each turn, and the names of what the last one leaves."""
    statements: Statements = body.statements
    kept = dict(statements.names)
    start = len(statements.lines)
    # one array that several states start from has one name: such a first turn is not written
    starts = {(place, steps.slots[0][slot]) for slot, place in enumerate(steps.carried)}
    skipped = len(starts) > len({value for _, value in starts})
    for item in (*(steps.turns[0] if skipped else ()), *steps.rest):
        for value in all_reads(item):
            if value in kept or value in statements.pending:
                statements.left[value] -= 1
            statements.pending.pop(value, None)
    inside = Counter(v for turn in (*steps.turns, steps.rest) for i in turn for v in all_reads(i))
    inside.update(v for place in steps.sums for v in steps.column(place) if v is not None)
    made = [value for row in steps.written for value in row if value is not None]
    starts_of = [
        v for v, place in zip(steps.slots[0], steps.carried, strict=True) if place is not None
    ]
    counted = made if skipped else [*made, *starts_of]
    behind = {value: statements.left.get(value, 0) - inside[value] for value in counted}
    carried = zip(steps.carried, names, strict=True)
    targets = {place: name for place, name in carried if place is not None and name is not None}
    statements.reserved = reserved
    for place, end in enumerate(steps.written[-1]):
        if end is None or place in targets or place in lists or behind[end] == 0:
            continue
        targets[place] = statements.free_name(end, {*targets.values()})  # read behind the loop
    statements.reserved = reserved | {*targets.values()}
    bodies: list[list[str]] = []
    statements.indent += 1
    for k in range(skipped, len(steps.turns)):
        statements.names = dict(kept)
        _write_turn(body, steps, k, names, lists, targets)
        bodies.append(statements.lines[start:])
        del statements.lines[start:]
    statements.indent -= 1
    row = steps.written[-1]
    ends = {end: targets[p] for p, end in enumerate(row) if end is not None and p in targets}
    statements.names = kept
    statements.left |= behind
    return bodies, ends


def _texts_of_row(statements: Statements, steps: Steps, slot: int) -> list[str]:
    """What each turn reads of an array of its own: an expression held back, or an entry of a list."""
    for column, name in statements.collected:
        entries = {value: f"{name}[{k}]" for k, value in enumerate(column) if value is not None}
        statements.names |= {
            v: entries[v] for slots in steps.slots if (v := slots[slot]) in entries
        }
    pending, names = statements.pending, statements.names
    values = [slots[slot] for slots in steps.slots]
    return [
        pending[v].code if v in pending else names.get(v, f"{k}?") for k, v in enumerate(values)
    ]


def _gone_through(statements: Statements, steps: Steps) -> dict[int, tuple[str, str]] | None:
    """Words for the arrays of turns that no number tells apart, and what each of these goes through: `(x, y, z)`.

    None where that would be several such lists, side by side.
    """
    words: dict[tuple[Value, ...], tuple[str, str]] = {}
    found: dict[int, tuple[str, str]] = {}
    for slot in sorted(steps.rows):
        if are_alike(_texts_of_row(statements, steps, slot)):
            continue
        column = tuple(slots[slot] for slots in steps.slots)
        if column not in words:
            texts = [statements.name(value) for value in column]
            word = statements.free_name(column[0], {*texts, *(word for word, _ in words.values())})
            words[column] = word, _list_of(statements, column) or f"({', '.join(texts)})"
        found[slot] = words[column]
    spelled_out = sum(through.startswith("(") for _, through in words.values())
    return found if spelled_out <= 1 else None


def _list_of(statements: Statements, column: tuple[Value, ...]) -> str | None:
    """`outputs`, or a part of it, where an earlier loop has put these arrays into a list."""
    for whole, name in statements.collected:
        part = find_part(whole, column)
        if part is None:
            continue
        start, backward = part
        stop = start + len(column)
        ends = (start or "", "" if stop == len(whole) else stop)
        text = name if ends == ("", "") else f"{name}[{ends[0]}:{ends[1]}]"
        return f"{text}[::-1]" if backward else text
    return None


def _name_arrays(
    statements: Statements, steps: Steps, given: dict[int, tuple[str, str]]
) -> list[str | None]:
    """Names for what each slot holds; what a loop changes and is read behind it gets one of its own."""
    names: list[str | None] = []
    statements.reserved = statements.reserved | {word for word, _ in given.values()}
    for slot, value in enumerate(steps.slots[0]):
        place = steps.carried[slot]
        name: str | None = None
        if place is not None and place in steps.carried[:slot]:
            name = names[steps.carried.index(place)]
        elif place is not None:
            name = _name_carried(statements, steps, slot, place, names)
        elif slot in given:
            name = given[slot][0]
        elif slot not in steps.rows and (not value.is_parameter or value in statements.names):
            name = statements.name(value)
        names.append(name)
        statements.reserved = statements.reserved | ({name} if name is not None else set())
    return names


def _name_carried(
    statements: Statements, steps: Steps, slot: int, place: int, names: list[str | None]
) -> str:
    value, following = steps.slots[0][slot], steps.written[0][place]
    assert following is not None
    reads = sum(all_reads(item).count(value) for item in steps.turns[0])
    if value in statements.pending:
        name = statements.free_name(following, {n for n in names if n})
        return statements.assign(value, statements.pending.pop(value), name)
    old = statements.names.get(value) or statements.places.parameter(value)
    free = not value.is_parameter and statements.left.get(value, 0) <= reads
    free = free and not hasattr(builtins, old)  # the one argument of a Sequential is `input`
    if free and old not in names and following.name in (old, "_", None):
        statements.flush(old, value)
        return old
    name = statements.free_name(following, {old, *(n for n in names if n)})
    statements.say(f"{name} = {old}")
    return name


def _write_turn(
    body: Any,
    steps: Steps,
    k: int,
    names: list[str | None],
    lists: dict[int, str],
    targets: dict[int, str],
) -> None:
    """The statements of one turn; the arrays in the places of `targets` are read later, under these names."""
    statements: Statements = body.statements
    read = Counter(value for item in steps.turns[k] for value in all_reads(item))
    for slot, (value, name) in enumerate(zip(steps.slots[k], names, strict=True)):
        if name is not None:
            statements.names[value] = name
        if steps.carried[slot] is not None:
            statements.left[value] = read[value]
    written = [value for item in steps.turns[k] for value in item.outputs]
    for place, value in enumerate(written):
        statements.left[value] = read[value] + (place in targets) + (place in lists)
    statements.targets = {written[place]: name for place, name in targets.items()}
    for item in steps.turns[k]:
        body.write_item(item)
    for place, name in lists.items():
        text = statements.read(written[place])
        is_sum = place in steps.sums
        statements.say(
            f"{name} = {infix('+', Text(name), text).code}"
            if is_sum
            else f"{name}.append({text.code})"
        )
    late = [
        (n, statements.names[v]) for v, n in statements.targets.items() if statements.names[v] != n
    ]
    if late:  # what the turn before gave was still read
        to, of = zip(*late, strict=True)
        statements.say(f"{', '.join(to)} = {', '.join(of)}")
    statements.targets = {}
