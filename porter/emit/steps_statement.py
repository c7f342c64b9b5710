"""Steps as a loop: `for t in range(x.shape[1]): h = self.cell(x[:, t], h)`."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from porter.emit.names import variable
from porter.emit.statements import Statements
from porter.ir import Value
from porter.passes.factor.find_steps import Steps

#: Whole numbers in a line.
_NUMBERS = re.compile(r"(?<![\w.])(\d+)(?![\w.])")


def write_steps(body: Any, steps: Steps) -> bool:
    """Writes the loop. False, and nothing is written, where the turns' statements are not alike but for numbers that grow."""
    statements: Statements = body.statements
    saved = (
        [*statements.lines], dict(statements.names), dict(statements.pending), dict(statements.left),
        statements.reserved, statements.indent,
    )  # fmt: skip
    if not all(_alike(_texts_of_row(statements, steps, slot)) for slot in steps.rows):
        return False
    names = _name_arrays(statements, steps)
    lists: dict[int, str] = {}
    for place in steps.collected:
        busy = statements.busy() | {*lists.values(), *(name for name in names if name is not None)}
        lists[place] = variable("outputs", busy, ("collected", "results", "rows", "columns"))
        statements.say(f"{lists[place]} = []")
    reserved = statements.busy() | {*lists.values()} | {n for n in names if n is not None}
    bodies, ends = _write_turns(body, steps, names, lists, reserved)
    lines = _loop(statements, steps, bodies, reserved)
    if lines is None:
        (
            statements.lines, statements.names, statements.pending, statements.left,
            statements.reserved, statements.indent,
        ) = saved  # fmt: skip
        return False
    statements.lines += lines
    statements.names |= ends
    statements.reserved = saved[4]
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
        for value in _reads(item):
            if value in kept or value in statements.pending:
                statements.left[value] -= 1
            statements.pending.pop(value, None)
    inside = Counter(v for turn in (*steps.turns, steps.rest) for i in turn for v in _reads(i))
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


def _alike(texts: list[str]) -> bool:
    """Whether texts differ in nothing but whole numbers that grow."""
    return _growing([_NUMBERS.split(text) for text in texts]) is not None


def _growing(parts: list[list[str]]) -> list[list[int]] | None:
    """The numbers in each place of texts cut at their numbers; None where they differ in more, or grow unevenly."""
    if any(row[::2] != parts[0][::2] for row in parts):
        return None
    columns = [[int(row[p]) for row in parts] for p in range(1, len(parts[0]), 2)]
    even = all(
        n == column[0] + k * (column[1] - column[0])
        for column in columns
        for k, n in enumerate(column)
    )
    return columns if even else None


def _name_arrays(statements: Statements, steps: Steps) -> list[str | None]:
    """Names for what each slot holds; what a loop changes and is read behind it gets one of its own."""
    names: list[str | None] = []
    for slot, value in enumerate(steps.slots[0]):
        place = steps.carried[slot]
        name: str | None = None
        if place is not None and place in steps.carried[:slot]:
            name = names[steps.carried.index(place)]
        elif place is not None:
            name = _name_carried(statements, steps, slot, place, names)
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
    reads = sum(_reads(item).count(value) for item in steps.turns[0])
    if value in statements.pending:
        name = statements.free_name(following, {n for n in names if n})
        return statements.assign(value, statements.pending.pop(value), name)
    old = statements.names.get(value) or statements.places.parameter(value)
    free = not value.is_parameter and statements.left.get(value, 0) <= reads
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
    read = Counter(value for item in steps.turns[k] for value in _reads(item))
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
        statements.say(f"{name}.append({statements.read(written[place]).code})")
    late = [
        (n, statements.names[v]) for v, n in statements.targets.items() if statements.names[v] != n
    ]
    if late:  # what the turn before gave was still read
        to, of = zip(*late, strict=True)
        statements.say(f"{', '.join(to)} = {', '.join(of)}")
    statements.targets = {}


def _reads(item: Any) -> list[Value]:
    values = item.inputs() if hasattr(item, "op") else item.inputs
    return [value for value in values if value is not None]


def _loop(
    statements: Statements, steps: Steps, bodies: list[list[str]], lasting: set[str]
) -> list[str] | None:
    """The lines of the loop; None where the turns differ in more than numbers that grow."""
    indent = "    " * statements.indent
    texts = ["\n".join(lines) for lines in bodies]
    parts = [_NUMBERS.split(text) for text in texts]
    columns = _growing(parts)
    if columns is None:
        return None
    for column in columns:  # from the first turn on
        column[:0] = [2 * column[0] - column[1]] * (len(steps.turns) - len(bodies))
    words = {*re.findall(r"\w+", texts[0])} | lasting
    counter = variable("t", words, ("i", "k", "step", "turn", "n"))
    count = steps.count
    changing = [c for c in columns if c[0] != c[1]]
    backward = bool(changing) and all(c[0] == count - 1 and c[1] == count - 2 for c in changing)
    pieces = list(parts[0])
    for place, column in enumerate(columns):
        if column[0] != column[1]:
            term = counter if backward else _term(column[0], column[1] - column[0], counter)
            before, behind = (
                pieces[2 * place].rstrip(" ")[-1:],
                pieces[2 * place + 2].lstrip(" ")[:1],
            )
            plain = term == counter or (before in "[(,:=" and behind in "]),:\n")
            pieces[2 * place + 1] = term if plain else f"({term})"
    text = "".join(pieces)
    word, runs_over = counter if changing else "_", f"range({count})"
    whole = _list_gone_through(statements, text, counter, count)
    if whole is not None:
        word, runs_over = variable("row", words, ("item", "entry")), whole
        text = text.replace(f"{whole}[{counter}]", word)
    elif (size := _size_gone_through(statements, text, counter, count)) is not None:
        runs_over = f"range({size})"
    header = f"for {word} in {f'reversed({runs_over})' if backward else runs_over}:"
    return [indent + header, *text.split("\n")]


def _term(first: int, step: int, counter: str) -> str:
    if step < 0:
        times = counter if step == -1 else f"{-step} * {counter}"
        return f"{first} - {times}"
    times = counter if step == 1 else f"{step} * {counter}"
    return f"{times} + {first}" if first else times


def _list_gone_through(statements: Statements, text: str, counter: str, count: int) -> str | None:
    """A list that an earlier loop has made, where the counter does nothing but go through it."""
    uses = len(re.findall(rf"\b{counter}\b", text))
    for column, name in statements.collected:
        if uses and text.count(f"{name}[{counter}]") == uses and len(column) == count:
            return name
    return None


def _size_gone_through(statements: Statements, text: str, counter: str, count: int) -> str | None:
    """`x.shape[1]`, where the loop goes along an axis of an array."""
    for name, axes in re.findall(rf"\b(\w+)\[((?::, )*){counter}[\],]", text):
        axis = axes.count(":")
        for value, own in statements.names.items():
            likes = [m[value] for m in statements.cls.values if value in m] or [value]
            if own == name and all(v.rank > axis and v.shape[axis] == count for v in likes):
                return f"{name}.shape[{axis}]"
    return None
