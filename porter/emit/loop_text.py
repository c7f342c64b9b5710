"""The text of a loop: turns whose texts are one but for numbers, which a counter, a layer of a list or a word stands for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from porter.emit.names import variable
from porter.emit.statements import Statements
from porter.passes.factor.find_steps import Steps

#: A layer of a list, at a place that changes from turn to turn.
_MEMBER = re.compile(r"self((?:\.\w+|\[\d+\])*)\[\0(\d+)\0\]")
_PARTS = re.compile(r"\.(\w+)|\[(\d+)\]")
#: Numbers that follow no line, which a loop gives a word, and how many of them at most.
_SIZES, _UNEVEN = ("length", "n"), 2
#: Whole numbers in a line.
_NUMBERS = re.compile(r"(?<![\w.])(\d+)(?![\w.])")


def loop_lines(
    body: Any,
    steps: Steps,
    bodies: list[list[str]],
    lasting: set[str],
    given: dict[int, tuple[str, str]],
) -> list[str] | None:
    """The lines of the loop; None where the turns differ in more than numbers that grow."""
    statements: Statements = body.statements
    indent = "    " * statements.indent
    texts = ["\n".join(lines) for lines in bodies]
    parts = [_NUMBERS.split(text) for text in texts]
    columns = _columns(parts)
    if columns is None:
        return None
    uneven = {tuple(n - column[0] for n in column) for column in columns if not _is_even(column)}
    # the numbers of a turn that is not written are known where all grow evenly
    if len(uneven) > _UNEVEN or not (steps.is_even or len(bodies) == steps.count):
        return None
    for column in columns:  # from the first turn on
        column[:0] = [2 * column[0] - column[1]] * (len(steps.turns) - len(bodies))
    words = {*re.findall(r"(?<![\w.])\w+", texts[0])} | lasting
    sizes: dict[str, list[int]] = {}
    pieces = list(parts[0])
    for place, column in enumerate(columns):
        if _is_even(column):
            pieces[2 * place + 1] = f"\0{place}\0" if column[0] != column[1] else str(column[0])
        else:
            word = _word_of(column, sizes, words)
            is_plain = word in sizes or _is_apart(pieces[2 * place], pieces[2 * place + 2])
            pieces[2 * place + 1] = word if is_plain else f"({word})"
    words |= {*sizes}
    text, members = _members(body, "".join(pieces), columns, steps.count, words)
    lists = members | dict(given.values())
    lists |= {word: f"({', '.join(map(str, column))})" for word, column in sizes.items()}
    words |= {*lists}
    changing = [columns[int(place)] for place in re.findall(r"\0(\d+)\0", text)]
    counter = variable("i" if lists else "t", words, ("i", "k", "step", "turn", "n"))
    count = steps.count
    backward = (
        not lists
        and bool(changing)
        and all(c[0] == count - 1 and c[1] == count - 2 for c in changing)
    )
    text = _with_counter(text, columns, counter, backward)
    if statements.spelled:
        text = re.sub(r"(?<=[\[ ])0:(?=\w)", ":", text)
    if lists:
        header = _header(lists, counter if changing else None)
        return [f"{indent}for {header}:", *text.split("\n")]
    word, runs_over = counter if changing else "_", f"range({count})"
    whole = _list_gone_through(statements, text, counter, count)
    if whole is not None:
        word, runs_over = variable("row", words, ("item", "entry")), whole
        text = text.replace(f"{whole}[{counter}]", word)
    elif (size := _size_gone_through(statements, text, counter, count)) is not None:
        runs_over = f"range({size})"
    header = f"{word} in {f'reversed({runs_over})' if backward else runs_over}"
    return [f"{indent}for {header}:", *text.split("\n")]


def in_one(lines: list[str], start: str) -> str | None:
    """A loop of one statement as an expression: `x = [head(x) for head in self.heads]`, or a sum."""
    loop, statement = (line.strip() for line in lines)
    name, _, initial = start.strip().partition(" = ")
    runs, indent = loop.removesuffix(":"), start[: len(start) - len(start.lstrip())]
    if initial == "[]" and statement.startswith(f"{name}.append("):
        expression = statement.removeprefix(f"{name}.append(").removesuffix(")")
        return f"{indent}{name} = [{expression} {runs}]"
    if initial == "0" and statement.startswith(f"{name} = {name} + "):
        return f"{indent}{name} = sum({statement.removeprefix(f'{name} = {name} + ')} {runs})"
    return None


def are_alike(texts: list[str]) -> bool:
    """Whether texts differ in nothing but whole numbers that grow."""
    return _growing([_NUMBERS.split(text) for text in texts])


def _word_of(column: list[int], sizes: dict[str, list[int]], words: set[str]) -> str:
    """`size` for numbers that follow no line, `size + 1` where each is as much more than what an earlier word stands for."""
    for word, known in sizes.items():
        more = column[0] - known[0]
        if column == [n + more for n in known]:
            return f"{word} + {more}" if more > 0 else f"{word} - {-more}" if more else word
    word = variable("size" if min(column) else "k", words | {*sizes}, _SIZES)
    sizes[word] = column
    return word


def _members(
    body: Any, text: str, columns: list[list[int]], count: int, words: set[str]
) -> tuple[str, dict[str, str]]:
    """The text with words for layers of lists that the turns go through, and the lists."""
    found: dict[tuple[str, int, int], str] = {}
    lists: dict[str, str] = {}
    while (member := next(_steady(text, columns), None)) is not None:
        first, second = columns[int(member[2])][:2]
        key = (member[1], first, second - first)
        if key not in found:
            whole = tuple(int(n) if n else name for name, n in _PARTS.findall(member[1]))
            start = first if second > first else first - count + 1
            through, word = body.places.list_part(whole, start, count)
            found[key] = variable(word, words | {*lists}, ("layer", "module", "block", "branch"))
            lists[found[key]] = through if second > first else f"reversed({through})"
        text = text.replace(member[0], found[key])
    return text, lists


def _steady(text: str, columns: list[list[int]]) -> Iterator[re.Match[str]]:
    """The layers of lists that are gone through one by one."""
    for member in _MEMBER.finditer(text):
        first, second = columns[int(member[2])][:2]
        if abs(second - first) == 1:
            yield member


def _with_counter(text: str, columns: list[list[int]], counter: str, backward: bool) -> str:
    """The text with the counter's terms where numbers grow."""

    def term(match: re.Match[str]) -> str:
        first, second = columns[int(match[1])][:2]
        found = counter if backward else _term(first, second - first, counter)
        plain = found == counter or _is_apart(text[: match.start()], text[match.end() :])
        return found if plain else f"({found})"

    return re.sub(r"\0(\d+)\0", term, text)


def _is_apart(before: str, behind: str) -> bool:
    """Whether no operator stands beside a term."""
    return before.rstrip(" ")[-1:] in "[(,:=" and behind.lstrip(" ")[:1] in "]),:\n"


def _header(lists: dict[str, str], counter: str | None) -> str:
    """`head, x in zip(self.heads, outputs)`, with a counter where one is needed."""
    words, through = ", ".join(lists), ", ".join(lists.values())
    several = len(lists) > 1
    if several:
        through = f"zip({through})"
    if counter is None:
        return f"{words} in {through}"
    return f"{counter}, {f'({words})' if several else words} in enumerate({through})"


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


def _growing(parts: list[list[str]]) -> bool:
    """Whether texts cut at their numbers differ in nothing but numbers that grow evenly."""
    columns = _columns(parts)
    return columns is not None and all(map(_is_even, columns))


def _columns(parts: list[list[str]]) -> list[list[int]] | None:
    """The numbers in each place of texts cut at their numbers; None where they differ in more."""
    if any(row[::2] != parts[0][::2] for row in parts):
        return None
    return [[int(row[p]) for row in parts] for p in range(1, len(parts[0]), 2)]


def _is_even(column: list[int]) -> bool:
    return all(n == column[0] + k * (column[1] - column[0]) for k, n in enumerate(column))
