"""Checks of an author's that a graph cannot hold: `assert (window > 0).all()`, `if not valid.all(): raise ...`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import FrameType

import torch
from torch.fx.experimental.sym_node import SymNode
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

_Span = tuple[int | None, int | None, int | None, int | None]
_TORCH = Path(torch.__file__).parent
_OWN = Path(__file__).parent
#: Parts of torch that are written as authors write; the rest carries out what they ask.
_AUTHORS = ("distributions", "nn")


@contextmanager
def passed_checks() -> Iterator[None]:
    """What data decides is as it has to be for an author's assertion to hold, or his `raise` not to be reached."""
    plain = SymNode.guard_bool

    def guard_bool(self: SymNode, file: str, line: int) -> bool:
        try:
            return plain(self, file, line)
        except GuardOnDataDependentSymNode:
            wanted = _wanted(sys._getframe(1))
            if wanted is None:
                raise
            return wanted

    SymNode.guard_bool = guard_bool  # type: ignore[method-assign]
    try:
        yield
    finally:
        SymNode.guard_bool = plain  # type: ignore[method-assign]


def _wanted(frame: FrameType | None) -> bool | None:
    """What the expression that the author's code is asking now has to be; None where it is no check."""
    while frame is not None and _is_torchs(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None:
        return None
    place = frame.f_lasti // 2
    before, now = islice(frame.f_code.co_positions(), place - 1, place + 1)
    for check, test, passes in _checks(frame.f_code.co_filename):
        # Python 3.11 gives a jump the place of its statement: what it asks was worked out just before.
        asked = before if now == _span(check) else now
        for leaf, value in _leaves(test, passes):
            if _span(leaf) == asked:
                return value
    return None


def _is_torchs(file: str) -> bool:
    path = Path(file)
    if path.parent == _OWN:  # modes through which every call of torch's goes
        return True
    return path.is_relative_to(_TORCH) and path.relative_to(_TORCH).parts[0] not in _AUTHORS


@lru_cache(maxsize=64)
def _checks(file: str) -> tuple[tuple[ast.stmt, ast.expr, bool], ...]:
    """The checks of a file, their conditions, and what each is when the check passes."""
    try:
        tree = ast.parse(Path(file).read_text("utf-8"))
    except (OSError, SyntaxError, ValueError):
        return ()
    found: list[tuple[ast.stmt, ast.expr, bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            found.append((node, node.test, True))
        elif isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise):
            found.append((node, node.test, False))
        elif isinstance(node, ast.If) and node.orelse and isinstance(node.orelse[-1], ast.Raise):
            found.append((node, node.test, True))
    return tuple(found)


def _leaves(test: ast.expr, value: bool) -> Iterator[tuple[ast.expr, bool]]:
    """The parts of a condition that are asked one by one, and the value of each that settles the whole."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        yield from _leaves(test.operand, not value)
    elif isinstance(test, ast.BoolOp):
        for part in test.values:
            yield from _leaves(part, value)
    yield test, value


def _span(node: ast.expr | ast.stmt) -> _Span:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset
