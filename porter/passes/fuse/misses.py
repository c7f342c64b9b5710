"""What a fusion says where its pattern was nearly there."""

from __future__ import annotations

from porter.ir import Node, Program


class Missed(Exception):
    """The start of a pattern was found, and the rest is not as the fusion needs it: the reason, as a clause."""


def note_miss(program: Program, what: str, node: Node, reason: Missed) -> None:
    """Remembers that `what` stayed spelled out."""
    key = (what, str(reason))
    count, first = program.misses.get(key, (0, node.location))
    program.misses[key] = (count + 1, first)


def sentences(program: Program) -> list[str]:
    """One sentence for each reason, with how often and where first."""
    return [
        f"{what} stayed spelled out{f' {count} times' if count > 1 else ''}: {reason}"
        + (f" ({'first at ' if count > 1 else ''}{first})" if first else "")
        for (what, reason), (count, first) in program.misses.items()
    ]
