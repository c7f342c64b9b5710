"""Rows that a mask chooses, worked on by themselves and put back in their places."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from porter.ir import Node, Program, Value
from porter.ir.builder import Builder
from porter.ir.ops import ACTIVATIONS, ELEMENTWISE, LAST_AXIS_LAYERS
from porter.passes.cleanup import remove_dead
from porter.passes.fuse.match import producer, replace_node

#: A mask without the views of it: the array it is made of, and whether it is turned round.
Mask: TypeAlias = tuple[Value, bool]
_VIEWS = (".reshape", ".flatten", ".squeeze", "mx.expand_dims")


@dataclass(slots=True)
class _Choice:
    """What becomes of the rows that one mask chooses."""

    chosen: list[Node] = field(default_factory=list)
    between: list[Node] = field(default_factory=list)
    put: list[Node] = field(default_factory=list)  # by fn.masked_put
    taken: list[Node] = field(
        default_factory=list
    )  # by their number among the chosen, for mx.where
    lost: bool = False


def keep_all_rows(program: Program) -> int:
    """`x[mask] = f(x[mask])`, with an f that works on each row by itself, becomes mx.where(mask, f(x), x). Returns how many.

    Nobody has to wait for how many rows a mask chooses, and it may choose none: `x.masked_scatter(mask, f(x[mask]))` too.
    """
    users, rows, choices = program.users(), dict[Value, Mask](), dict[Mask, _Choice]()
    for node in program.nodes:
        if node.op == "fn.masked_select":
            mask = _bare(node.args[1])
            rows[node.output] = mask
            choices.setdefault(mask, _Choice()).chosen.append(node)
        masks = {rows[value] for value in node.inputs() if value in rows}
        if not masks:
            continue
        choice = choices[mask := masks.pop()]
        if masks:
            for other in (mask, *masks):
                choices[other].lost = True
        elif _is_by_row(node, rows):
            rows[node.output] = mask
            choice.between.append(node)
        elif _is_put(node, rows, mask):
            choice.put.append(node)
        elif _is_taken(node, rows, mask, users):
            choice.taken.append(node)
        else:
            choice.lost = True
    for value in program.output_values():
        if value in rows:
            choices[rows[value]].lost = True
    count = 0
    for choice in choices.values():
        if not choice.lost and (choice.put or choice.taken) and _of_one_shape(choice):
            _keep(program, choice)
            count += 1
    if count:
        remove_dead(program)
    return count


def _of_one_shape(choice: _Choice) -> bool:
    """Whether what is chosen from and what is put into have the mask's axes first, and none has them merged."""
    lead = choice.chosen[0].args[1].shape
    masks = [node.args[1].shape for node in (*choice.chosen, *choice.put)]
    return all(shape == lead for shape in masks) and all(
        node.output.shape == (*lead, *node.args[0].shape[1:]) for node in choice.taken
    )


def _keep(program: Program, choice: _Choice) -> None:
    lead = choice.chosen[0].args[1].shape
    for node in choice.between:
        node.output.shape = (*lead, *node.output.shape[1:])
        node.output.origin = None  # which has the chosen rows alone
    for node in choice.put:
        x, mask, values = node.args
        build = Builder(node.scope, node.location)
        axes = tuple(range(mask.rank, x.rank))
        shape = (*mask.shape, *[1] * len(axes))
        wide = (
            build.op(
                "mx.expand_dims",
                mask,
                axes[0] if len(axes) == 1 else axes,
                shape=shape,
                dtype="bool",
            )
            if axes
            else mask
        )
        y = build.op("mx.where", wide, values, x, shape=x.shape, dtype=x.dtype)
        replace_node(program, node, build.nodes, y)
    program.replace({node.output: node.args[0] for node in choice.taken})
    program.replace({node.output: node.args[0] for node in choice.chosen})


def _bare(mask: Any) -> Mask:
    turned = False
    while (node := producer(mask, "~", *_VIEWS)) is not None:
        turned ^= node.op == "~"
        mask = node.args[0]
    return mask, turned


def _is_by_row(node: Node, rows: dict[Value, Mask]) -> bool:
    if len(node.outputs) != 1 or "axis" in node.kwargs:
        return False
    given = [value for value in node.inputs() if value not in node.params.values()]
    chosen = [value for value in given if value in rows]
    rank = node.output.rank
    if node.op in LAST_AXIS_LAYERS:
        return len(given) == 1 and rank > 1
    if node.op not in ELEMENTWISE and node.op not in ACTIVATIONS:
        return False
    # what is beside them is the same for all rows
    return all(value.rank == rank for value in chosen) and all(
        value.rank < rank for value in given if value not in rows
    )


def _is_put(node: Node, rows: dict[Value, Mask], mask: Mask) -> bool:
    if node.op != "fn.masked_put" or _bare(node.args[1]) != mask:
        return False
    x, where, values = node.args
    return values in rows and x not in rows and values.shape[1:] == x.shape[where.rank :]


def _is_taken(
    node: Node, rows: dict[Value, Mask], mask: Mask, users: dict[Value, list[Node]]
) -> bool:
    """Whether each place takes its row by how many were chosen up to it, and places that were not chosen take none."""
    key = node.attrs.get("key", ())
    if node.op != "[]" or node.args[0] not in rows or len(key) != 1:
        return False
    number = _through_views(key[0])
    order = producer(number, "-")
    if order is None or order.args[1] != 1:
        return False
    total = producer(_through_views(order.args[0]), "mx.cumsum")
    if total is None or total.kwargs or len(total.args) != 1 or _bare(total.args[0]) != mask:
        return False
    return all(
        user.op == "mx.where" and _bare(user.args[0]) == mask and user.args[1] is node.output
        and user.args[2] is not node.output
        for user in users.get(node.output, [])
    )  # fmt: skip


def _through_views(value: Any) -> Any:
    while (node := producer(value, *_VIEWS)) is not None:
        value = node.args[0]
    return value
