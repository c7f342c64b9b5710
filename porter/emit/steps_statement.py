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
    lasting = statements.busy() | {*lists.values()} | {n for n in names if n is not None}
    bodies, ends = _write_turns(body, steps, names, lists, lasting)
    lines = _loop(statements, steps, bodies, lasting)
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
        statements.names |= {
            value: f"{name}[{k}]"
            for k, value in enumerate(column)
            if value not in ends and value is not None
        }
    return True


def _write_turns(
    body: Any, steps: Steps, names: list[str | None], lists: dict[int, str], reserved: set[str]
) -> tuple[list[list[str]], dict[Value, str]]:
    """The statements of each turn, and the names of what the last one leaves."""
    statements: Statements = body.statements
    carried = {names[slot] for slot, place in enumerate(steps.carried) if place is not None}
    statements.reserved = reserved - carried
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
    behind = {value: statements.left.get(value, 0) - inside[value] for value in made}
    lasting = {
        place
        for place, end in enumerate(steps.written[-1])
        if end is not None and behind[end] > (place in steps.collected)
    }
    bodies: list[list[str]] = []
    statements.indent += 1
    for k in range(skipped, len(steps.turns)):
        statements.names = dict(kept)
        _write_turn(body, steps, k, names, lists, lasting)
        bodies.append(statements.lines[start:])
        del statements.lines[start:]
    statements.indent -= 1
    ends: dict[Value, str] = {}
    for last, end in zip(steps.written[len(steps.turns) - 1], steps.written[-1], strict=True):
        if end is not None and last in statements.names:
            ends[end] = statements.names[last]
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


def _produced(steps: Steps, k: int) -> list[Value]:
    return [value for value in steps.written[k] if value is not None]


def _name_arrays(statements: Statements, steps: Steps) -> list[str | None]:
    """Names for what each slot holds; what a loop changes and is read behind it gets one of its own."""
    names: list[str | None] = []
    for slot, value in enumerate(steps.slots[0]):
        place = steps.carried[slot]
        if place is not None and place in steps.carried[:slot]:
            names.append(names[steps.carried.index(place)])
        elif place is not None:
            names.append(_name_carried(statements, steps, slot, place, names))
        elif slot in steps.rows or (value.is_parameter and value not in statements.names):
            names.append(None)
        else:
            names.append(statements.name(value))
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
    lasting: set[int],
) -> None:
    """The statements of one turn; the arrays in the places of `lasting` are read behind the loop."""
    statements: Statements = body.statements
    written = _produced(steps, k)
    targets = {
        written[place]: names[slot] for slot, place in enumerate(steps.carried) if place is not None
    }
    for slot, (value, name) in enumerate(zip(steps.slots[k], names, strict=True)):
        if name is not None:
            statements.names[value] = name
        if steps.carried[slot] is not None:
            statements.left[value] = sum(_reads(item).count(value) for item in steps.turns[k])
    for place, value in enumerate(written):
        inside = sum(_reads(item).count(value) for item in steps.turns[k])
        statements.left[value] = inside + (value in targets) + (place in lists) + (place in lasting)
    statements.targets = {value: name for value, name in targets.items() if name is not None}
    for item in steps.turns[k]:
        body.write_item(item)
    statements.targets = {}
    for place, name in lists.items():
        statements.say(f"{name}.append({statements.read(written[place]).code})")
    _pass_on(statements, targets)


def _pass_on(statements: Statements, targets: dict[Value, str | None]) -> None:
    """Gives what the next turn reads the names under which it does."""
    for value, name in targets.items():
        if value in statements.pending:
            assert name is not None
            others = {n for v, n in targets.items() if v is not value}
            if statements.pending[value].names & others:
                statements.name(value)
    left: list[tuple[str, str]] = []
    for value, name in targets.items():
        assert name is not None
        if value in statements.pending:
            statements.assign(value, statements.pending.pop(value), name)
        elif statements.names[value] != name:
            left.append((name, statements.names[value]))
            statements.names[value] = name
    if left:
        to, of = zip(*left, strict=True)
        statements.say(f"{', '.join(to)} = {', '.join(of)}")


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
