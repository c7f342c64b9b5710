"""Arithmetic of axis orders.

A permutation `p` says how a tensor is stored: its axis `i` is the logical axis `p[i]`.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from math import prod
from typing import Any

from porter.ir import Size
from porter.ir.builder import simplify

Permutation = tuple[int, ...]


def identity(rank: int) -> Permutation:
    return tuple(range(rank))


def relabel(stored: Permutation, axes: Sequence[int]) -> Permutation:
    """How the same storage holds the logical tensor's `transpose(axes)`."""
    return tuple(list(axes).index(axis) for axis in stored)


def axes_between(stored: Permutation, wanted: Permutation) -> Permutation:
    """The transpose that takes the stored order to the wanted one."""
    return tuple(stored.index(axis) for axis in wanted)


def without(stored: Permutation, removed: set[int]) -> Permutation:
    """The order that is left when logical axes are gone."""
    left = [axis for axis in stored if axis not in removed]
    return tuple(sorted(left).index(axis) for axis in left)


def inserted(stored: Permutation, axis: int) -> Permutation:
    """The order with a new logical axis of size 1, stored before the axis that follows it logically."""
    shifted = [old + (old >= axis) for old in stored]
    position = shifted.index(axis + 1) if axis + 1 in shifted else len(shifted)
    return (*shifted[:position], axis, *shifted[position:])


def reshape_blocks(
    source: Sequence[Size], target: Sequence[Size]
) -> list[tuple[list[int], list[int]]] | None:
    """Splits a reshape into the smallest runs of axes with equal products: [(source axes, target axes)].

    None where the sizes can't be told apart (symbolic products that don't match).
    """
    blocks = _blocks(source, target)
    if blocks is not None:
        return blocks
    blocks = _blocks([_exact(size) for size in source], [_exact(size) for size in target])
    return blocks if blocks and _leave_no_rest(source, target, blocks) else None


def _exact(size: Size) -> Size:
    """The size with quotients that leave no rest: `h // 4` as h / 4."""
    if isinstance(size, int):
        return size
    return size.replace(
        lambda part: type(part).__name__ == "FloorDiv", lambda part: part.args[0] / part.args[1]
    )


#: Sizes at which products are compared, in turn for one symbol after the other.
_POINTS = (64, 97, 30, 55, 124, 101, 42, 83, 72)


def _leave_no_rest(
    source: Sequence[Size], target: Sequence[Size], blocks: list[tuple[list[int], list[int]]]
) -> bool:
    """Whether quotients must be exact, since the reshape as a whole keeps the number of elements.

    So it is where one side's product is never the larger one, in any block: nothing makes up for what a quotient cuts off.
    """
    symbols = sorted(
        {s for size in [*source, *target] if not isinstance(size, int) for s in size.free_symbols},
        key=str,
    )
    signs: set[int] = set()
    for shift in range(len(_POINTS)):
        point = {s: _POINTS[(shift + 4 * i) % len(_POINTS)] for i, s in enumerate(symbols)}
        before, after = _at(source, point), _at(target, point)
        for left, right in blocks:
            gap = prod(before[axis] for axis in left) - prod(after[axis] for axis in right)
            signs |= {(gap > 0) - (gap < 0)} - {0}
    return len(signs) < 2


def _at(sizes: Sequence[Size], point: dict[Any, int]) -> list[int]:
    return [size if isinstance(size, int) else int(size.subs(point)) for size in sizes]


def _blocks(
    source: Sequence[Size], target: Sequence[Size]
) -> list[tuple[list[int], list[int]]] | None:
    blocks: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(source) or j < len(target):
        if i < len(source) and j < len(target) and _are_equal(source[i], target[j]):
            blocks.append(([i], [j]))
            i, j = i + 1, j + 1
            continue
        if i < len(source) and source[i] == 1:
            blocks.append(([i], []))
            i += 1
            continue
        if j < len(target) and target[j] == 1:
            blocks.append(([], [j]))
            j += 1
            continue
        if i == len(source) or j == len(target):
            return None
        left, right = [i], [j]
        a, b = source[i], target[j]
        i, j = i + 1, j + 1
        while not _are_equal(a, b):
            smaller = _smaller(a, b)
            if smaller == 0 and i < len(source):
                a = simplify(a * source[i])
                left.append(i)
                i += 1
            elif smaller == 1 and j < len(target):
                b = simplify(b * target[j])
                right.append(j)
                j += 1
            else:
                return None
        blocks.append((left, right))
    return blocks


def _are_equal(a: Size, b: Size) -> bool:
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    gap = simplify(a - b)
    return gap == 0 or (not isinstance(gap, int) and gap.expand() == 0)


def _smaller(a: Size, b: Size) -> int | None:
    """0 where the first product has to grow, 1 where the second has, None where neither divides the other."""
    from sympy import sympify

    if (sympify(b) / sympify(a)).is_integer or divides(a, b):
        return 0
    if (sympify(a) / sympify(b)).is_integer or divides(b, a):
        return 1
    if isinstance(a, int) and isinstance(b, int):
        return 0 if a < b else 1
    return None


def divides(a: Size, b: Size) -> bool:
    """Whether b / a is whole: a fraction-free expression for symbolic sizes."""
    if isinstance(a, int) and isinstance(b, int):
        return a != 0 and b % a == 0
    from sympy import fraction, sympify, together

    try:
        return fraction(together(sympify(b) / sympify(a)))[1] == 1
    except ZeroDivisionError:  # sympy tries a size of 0 inside a floor
        return False


def permuted_reshape(
    source: Sequence[Size],
    target: Sequence[Size],
    stored: Permutation,
    free: Container[int] = (),
) -> Permutation | None:
    """How the target of a reshape is stored when its source is stored in another order; None where it can't be.

    Within the axes of the target that are `free` the elements may stand in any order.
    """
    blocks = reshape_blocks(source, target)
    if blocks is None:
        return None
    order: list[tuple[int, list[int]]] = []
    for left, right in blocks:
        if not left:
            continue
        positions = [stored.index(axis) for axis in left if source[axis] != 1] or [
            stored.index(left[0])
        ]
        if len(right) == 1 and right[0] in free:
            positions.sort()
        if positions != list(
            range(positions[0], positions[0] + len(positions))
        ) and not _contiguous(positions, stored, source):
            return None
        order.append((positions[0], right))
    order.sort(key=lambda item: item[0])
    result = [axis for _, right in order for axis in right]
    for left, right in blocks:
        if not left:  # a new axis of size 1: before the axis that follows it logically
            axis = right[0]
            following = [
                result.index(later) for later in range(axis + 1, len(target)) if later in result
            ]
            result.insert(following[0] if following else len(result), axis)
    return tuple(result)


def _contiguous(positions: list[int], stored: Permutation, sizes: Sequence[Size]) -> bool:
    """Whether the positions rise and only axes of size 1 lie between them."""
    if positions != sorted(positions):
        return False
    between = set(range(positions[0], positions[-1])) - set(positions)
    return all(sizes[stored[position]] == 1 for position in between)
