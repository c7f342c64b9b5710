"""Lists of lists: `for attention, mlp in self.layers` becomes a loop over layers of a class."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from porter.ir import Frame, Node, Program

#: A member of a row of a list, relative to the module that has the list: "layers.3.0", "blocks.2.attn".
_MEMBER = re.compile(r"^([^\d.]\w*)\.(\d+)\.(.+)$")

Scope = tuple[Frame, ...]


@dataclass(slots=True)
class _Row:
    """The nodes from a row's first to its last, by place in the program, and what they are: calls of members, and ops."""

    number: int
    places: list[int] = field(default_factory=list)
    form: list[tuple[str, str]] = field(default_factory=list)


def group_rows(program: Program) -> int:
    """Rows of a list that do the same, by several modules each and what the author's loop has between them, become modules.

    A ModuleList of ModuleLists or of ModuleDicts is not called, so its rows are no modules in the graph. Returns how many rows.
    """
    count = 0
    for parent, name in _lists(program.nodes):
        rows = _rows(program.nodes, parent, name)
        if len(rows) < 2 or len({tuple(row.form) for row in rows}) > 1 or len(rows[0].form) < 2:
            continue
        _extend(program.nodes, parent, rows)
        for row in rows:
            frame = _frame(parent, name, row.number)
            for place in row.places:
                node = program.nodes[place]
                node.scope = (*parent, frame, *node.scope[len(parent) :])
        count += len(rows)
    return count


def _lists(nodes: list[Node]) -> list[tuple[Scope, str]]:
    """Each module call with a list of rows, and the list's name; outer ones first."""
    found: dict[tuple[Scope, str], None] = {}
    for node in nodes:
        for depth in range(len(node.scope)):
            match = _member(node.scope, depth)
            if match is not None:
                found[node.scope[:depth], match[1]] = None
    return sorted(found, key=lambda key: len(key[0]))


def _member(scope: Scope, depth: int) -> re.Match[str] | None:
    """The member of a row that the call at `depth` is, seen from the call around it."""
    above = scope[depth - 1].path if depth else ""
    path = scope[depth].path
    if above and not path.startswith(f"{above}."):
        return None
    return _MEMBER.match(path.removeprefix(f"{above}.") if above else path)


def _rows(nodes: list[Node], parent: Scope, name: str) -> list[_Row]:
    """The list's rows in their order; none where they overlap, or where something else is called between a row's members."""
    depth = len(parent)
    rows: list[_Row] = []
    open_since: list[int] = []  # nodes of the parent's own behind the last member
    calls: set[Frame] = set()
    for place, node in enumerate(nodes):
        if node.scope[:depth] != parent:
            continue
        if len(node.scope) == depth:
            open_since.append(place)
            continue
        match = _member(node.scope, depth)
        if match is None or match[1] != name:
            open_since.append(-1)
            continue
        frame, number = node.scope[depth], int(match[2])
        if not rows or rows[-1].number != number:
            if rows and number != rows[-1].number + 1:
                return []
            rows.append(_Row(number))
        elif -1 in open_since:
            return []
        else:
            rows[-1].places += open_since
            rows[-1].form += [("op", nodes[between].op) for between in open_since]
        open_since = []
        rows[-1].places.append(place)
        if frame not in calls:
            rows[-1].form.append((match[3], frame.cls))
            calls.add(frame)
    return rows


def _extend(nodes: list[Node], parent: Scope, rows: list[_Row]) -> None:
    """What every row has behind its last member (a residual sum) is its own as well."""
    tails = []
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        stop = following.places[0] if following is not None else len(nodes)
        tail = []
        for place in range(row.places[-1] + 1, stop):
            if nodes[place].scope == parent:
                tail.append(place)
            elif nodes[place].scope[: len(parent)] == parent:
                break
        tails.append(tail)
    length = 0
    while all(len(tail) > length for tail in tails) and (
        len({nodes[tail[length]].op for tail in tails}) == 1
    ):
        length += 1
    for row, tail in zip(rows, tails, strict=True):
        row.places += tail[:length]


def _frame(parent: Scope, name: str, number: int) -> Frame:
    above = parent[-1] if parent else Frame("", "model")
    path = f"{above.path}.{name}.{number}" if above.path else f"{name}.{number}"
    singular = name[:-1] if name.endswith("s") and not name.endswith("ss") else name
    word = "".join(part.capitalize() for part in singular.split("_"))
    return Frame(path, f"{above.cls}.{name}.{word}", above.call)
