"""What a view is: which parts of an array's axes make up each of its own.

A view of an array is described by atoms: each axis of the array is split into atoms, and each axis of the view is a run
of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from porter.ir import Node, Size, Value
from porter.ir.builder import simplify
from porter.passes.layout.permutations import divides


@dataclass(frozen=True, slots=True, eq=False)
class Atom:
    """A part of an axis; two atoms are the same only if they are the same object."""

    size: Size


Axes = tuple[tuple[Atom, ...], ...]


@dataclass(frozen=True, slots=True)
class Form:
    """A view of `base`: the atoms of the base's axes, those of the view's, and atoms of which one index is picked.

    `called` is what the author calls what is picked.
    """

    base: Value
    source: Axes
    axes: Axes
    picks: tuple[tuple[Atom, int], ...] = ()
    length: int = 0  # how many nodes made it
    called: str | None = None

    @classmethod
    def of(cls, value: Value) -> Form:
        axes = tuple((Atom(size),) if size != 1 else () for size in value.shape)
        return cls(value, axes, axes)

    def split(self, atom: Atom, first: Size, second: Size) -> tuple[Form, tuple[Atom, Atom]]:
        parts = (Atom(first), Atom(second))

        def divided(axes: Axes) -> Axes:
            return tuple(
                tuple(p for a in axis for p in (parts if a is atom else (a,))) for axis in axes
            )

        form = replace(self, source=divided(self.source), axes=divided(self.axes))
        return form, parts

    def with_axes(self, axes: Axes, picks: tuple[tuple[Atom, int], ...] | None = None) -> Form:
        picks = self.picks if picks is None else picks
        return replace(self, axes=axes, picks=picks, length=self.length + 1)


def regrouped(form: Form, shape: tuple[Size, ...]) -> Form | None:
    """The form after a reshape; None where sizes can't be told apart."""
    axes: list[tuple[Atom, ...]] = []
    queue = [atom for axis in form.axes for atom in axis]
    for size in shape:
        group: list[Atom] = []
        done: Size = 1
        while simplify(done - size) != 0:
            if not queue:
                return None
            atom = queue.pop(0)
            rest = (
                simplify(size / done)
                if not isinstance(size, int) or not isinstance(done, int)
                else size // done
            )
            if divides(atom.size, rest):
                group.append(atom)
                done = simplify(done * atom.size)
            elif divides(rest, atom.size):
                form, parts = form.split(
                    atom,
                    rest,
                    simplify(atom.size / rest) if not _ints(atom.size, rest) else atom.size // rest,
                )
                axes = [
                    tuple(p for a in axis for p in (parts if a is atom else (a,))) for axis in axes
                ]
                group.append(parts[0])
                queue.insert(0, parts[1])
                done = simplify(done * rest)
            else:
                return None
        axes.append(tuple(group))
    return form.with_axes(tuple(axes)) if not queue else None


def _ints(*sizes: Size) -> bool:
    return all(isinstance(size, int) for size in sizes)


def product(sizes: Any) -> Size:
    result: Size = 1
    for size in sizes:
        result = simplify(result * size)
    return result


def flatten_axes(node: Node) -> tuple[int, int] | None:
    """(first, last) where a reshape only merges a run of axes."""
    source, target = node.args[0].shape, node.output.shape
    merged = len(source) - len(target)
    if merged < 1:
        return None
    for first in range(len(target)):
        last = first + merged
        before = all(
            simplify(a - b) == 0 for a, b in zip(source[:first], target[:first], strict=True)
        )
        after = all(
            simplify(a - b) == 0
            for a, b in zip(source[last + 1 :], target[first + 1 :], strict=True)
        )
        if before and after:
            return first, last
    return None


def squeezed_axes(node: Node) -> tuple[int, ...]:
    """The axes of size 1 that a reshape only removes; none where it does more."""
    source, target = node.args[0].shape, node.output.shape
    if len(target) >= len(source) or any(size == 1 for size in target):
        return ()
    axes = tuple(axis for axis, size in enumerate(source) if size == 1)
    left = [size for size in source if size != 1]
    same = len(left) == len(target) and all(
        simplify(a - b) == 0 for a, b in zip(left, target, strict=True)
    )
    return axes if same else ()
