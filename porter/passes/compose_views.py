"""Chains of reshapes, transposes and picks within one module become the shortest ones that do the same.

nn.MultiheadAttention, for one, turns a batch-first input around, projects it, unflattens, moves axes, squeezes and views
again; what is left of it here is one reshape and one transpose. `view_forms` says what a view is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from porter.ir import Node, Program, Size, Value
from porter.ir.builder import Builder
from porter.ir.ops import LAST_AXIS_LAYERS
from porter.passes.cleanup import remove_dead
from porter.passes.homes import Homes
from porter.passes.view_forms import Atom, Axes, Form, product, regrouped


def compose_views(program: Program) -> int:
    """Rewrites the chains that get shorter. Returns how many values are made anew."""
    composer = _Composer(program)
    for node in list(program.nodes):
        composer.read(node)
    changed = composer.rewrite()
    if changed:
        remove_dead(program)
    return changed


@dataclass(slots=True)
class _Composer:
    program: Program
    forms: dict[Value, Form] = field(default_factory=dict)
    pushed: dict[Node, Form] = field(default_factory=dict)  # layer -> the form that it should read
    outputs: dict[Value, Value] = field(
        default_factory=dict
    )  # a pushed layer's output -> its new one
    homes: Homes = field(init=False)

    def __post_init__(self) -> None:
        self.homes = Homes(self.program)

    # --- forms

    def form(self, value: Value, scope: Any) -> Form:
        """The value's form as a node in `scope` sees it: chains don't reach across modules."""
        known = self.forms.get(value)
        return known if known is not None and self.is_in_reach(value, scope) else Form.of(value)

    def is_in_reach(self, value: Value, scope: Any) -> bool:
        """Whether the chain that made a value goes on in `scope`; through a layer that reads another order, beside it."""
        if value.node is None:
            return False
        homes = {self.homes.home(value.node.scope)}
        if value in self.outputs:
            homes.add(self.homes.home(value.node.scope[:-1]))
        return self.homes.home(scope) in homes

    def read(self, node: Node) -> None:
        if (
            node.layout
            or not node.args
            or not isinstance(node.args[0], Value)
            or node.args[0].is_parameter
        ):
            return
        if node.op in LAST_AXIS_LAYERS:
            self._push(node)
            return
        form = self.form(node.args[0], node.scope)
        if node.op == "unpack":
            for index, value in enumerate(node.outputs):
                picked = self._picked(form, 0, index)
                if picked is not None:
                    self._keep(value, replace(picked, called=value.name))
        elif node.op == ".transpose":
            self._keep(
                node.output, form.with_axes(tuple(form.axes[axis] for axis in node.args[1:]))
            )
        elif node.op == ".reshape":
            self._keep(node.output, regrouped(form, node.output.shape))
        elif node.op == "mx.expand_dims" and isinstance(node.args[1], int):
            axis = node.args[1] % node.output.rank
            self._keep(node.output, form.with_axes((*form.axes[:axis], (), *form.axes[axis:])))
        elif node.op == ".squeeze" and isinstance(node.args[1], int):
            axis = node.args[1] % len(form.axes)
            if not form.axes[axis]:
                self._keep(node.output, form.with_axes((*form.axes[:axis], *form.axes[axis + 1 :])))
        elif node.op == "[]":
            self._read_index(node, form)

    def _read_index(self, node: Node, form: Form) -> None:
        key = node.attrs["key"]
        integers = [axis for axis, k in enumerate(key) if isinstance(k, int)]
        if (
            len(integers) == 1
            and all(isinstance(k, int) or k == slice(None) for k in key)
            and key[integers[0]] >= 0
        ):
            self._keep(node.output, self._picked(form, integers[0], key[integers[0]]))

    def _picked(self, form: Form, axis: int, index: int) -> Form | None:
        if not form.axes[axis] and index == 0:  # the one place of an axis that was put in
            return form.with_axes((*form.axes[:axis], *form.axes[axis + 1 :]))
        if len(form.axes[axis]) != 1 or form.picks:
            return None
        return form.with_axes(
            (*form.axes[:axis], *form.axes[axis + 1 :]), ((form.axes[axis][0], index),)
        )

    def _keep(self, value: Value, form: Form | None) -> None:
        if form is not None:
            self.forms[value] = form

    def _push(self, node: Node) -> None:
        """A layer on the last axis doesn't mind how the others are arranged: it reads them in the base's own order."""
        form = self.forms.get(node.args[0])
        producer = node.args[0].node
        if (
            form is None
            or form.picks
            or producer is None
            or producer.scope not in (node.scope, node.scope[:-1])
        ):
            return
        last = form.axes[-1]
        leading = [atom for axis in form.axes[:-1] for atom in axis]
        order = [
            atom for axis in form.source for atom in axis if any(atom is other for other in leading)
        ]
        wanted: Axes = (*((atom,) for atom in order), last)
        if len(wanted) == len(form.axes) and all(
            len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True))
            for a, b in zip(wanted, form.axes, strict=True)
        ):
            return
        if len(order) != len(leading) or any(len(axis) == 0 for axis in form.axes):
            return
        place = {id(atom): index for index, atom in enumerate(order)}
        for axis in form.axes[:-1] if len(leading) > 2 else ():  # two are tokens and batch, turned
            if any(place[id(b)] != place[id(a)] + 1 for a, b in pairwise(axis)):
                return  # windows, say: the tokens of each are the author's, and stay together
        self.pushed[node] = Form(form.base, form.source, wanted, (), form.length)
        shape = (*(atom.size for atom in order), node.output.shape[-1])
        fresh = Value(shape, node.output.dtype, name=node.output.name)
        base = Form.of(fresh)
        renamed = {id(atom): base.axes[i][0] for i, atom in enumerate(order)}
        axes = (
            *(tuple(renamed[id(atom)] for atom in axis) for axis in form.axes[:-1]),
            base.axes[-1],
        )
        self.outputs[node.output] = fresh
        self.forms[node.output] = Form(fresh, base.source, axes, (), form.length + 1)

    # --- rewrite

    def rewrite(self) -> int:
        """Makes every value that something else than a view reads, where that got shorter or its base moved."""
        viewed = {
            node
            for node in self.program.nodes
            if any(value in self.forms for value in node.outputs)
        } - set(self.pushed)
        wanted: dict[Value, None] = {}
        for node in self.program.nodes:
            if (
                node in viewed
                and all(value in self.forms for value in node.outputs)
                and node.op not in LAST_AXIS_LAYERS
            ):
                wanted.update(
                    dict.fromkeys(
                        v
                        for v in node.inputs()
                        if v in self.forms and v.node and not self.is_in_reach(v, node.scope)
                    )
                )
                continue
            if node not in self.pushed:
                wanted.update(
                    dict.fromkeys(value for value in node.inputs() if value in self.forms)
                )
        wanted.update(
            dict.fromkeys(value for value in self.program.output_values() if value in self.forms)
        )
        plans = {value: _Plan.of(self.forms[value]) for value in wanted}
        moved = set(self.outputs.values())
        chosen = {
            v: p
            for v, p in plans.items()
            if p.cost < self.forms[v].length or self.forms[v].base in moved
        }
        if not chosen and not self.pushed:
            return 0
        groups: dict[tuple[Any, ...], list[tuple[Value, _Plan]]] = {}
        for value, plan in chosen.items():  # each module makes its own views of what it is given
            scope = value.node.scope if value.node is not None else ()
            groups.setdefault((scope, plan.key), []).append((value, plan))
        nodes: list[Node] = []
        mapping: dict[Value, Value] = {}
        group_of = {value: members for members in groups.values() for value, _ in members}
        for node in self.program.nodes:
            if node in self.pushed:
                view = node.args[0].node
                builder = Builder(view.scope if view is not None else node.scope, node.location)
                form = self.pushed[node]
                node.args[0] = _Plan.of(form).make(builder, {}, None)
                nodes += builder.nodes
                fresh = self.outputs[node.output]
                fresh.node, node.outputs = node, [fresh]
                nodes.append(node)
                continue
            nodes.append(node)
        self.program.nodes = nodes
        self._make_all(group_of, mapping)
        self.program.replace(mapping)
        return len(mapping) + len(self.pushed)

    def _make_all(
        self, group_of: dict[Value, list[tuple[Value, _Plan]]], mapping: dict[Value, Value]
    ) -> None:
        """Puts each new value where the first of its group was made."""
        nodes: list[Node] = []
        made: set[int] = set()
        pending = {v: k for k, v in self.outputs.items()}
        for node in self.program.nodes:
            nodes.append(node)
            for value in [*node.outputs, *(pending[v] for v in node.outputs if v in pending)]:
                members = group_of.get(value)
                if members is None or id(members) in made:
                    continue
                made.add(id(members))
                builder = Builder(
                    node.scope if value.node is None else value.node.scope, node.location
                )
                shared: dict[Any, Any] = {}
                for member, plan in members:
                    mapping[member] = plan.make(builder, shared, member, [p for _, p in members])
                nodes += builder.nodes
        self.program.nodes = nodes


@dataclass(frozen=True, slots=True)
class _Plan:
    """The shortest way to a form: split the base's axes, transpose, pick, merge."""

    base: Value
    pieces: tuple[Size, ...]  # the base's axes, split
    order: tuple[int, ...]  # of the pieces, the picked one first
    pick: int | None
    shape: tuple[Size, ...]
    called: str | None  # what the author calls what is picked

    @classmethod
    def of(cls, form: Form) -> _Plan:
        pieces = _coalesced(form)
        flat = [p for axis in form.axes for p in axis]
        starts = {id(piece[0]): i for i, piece in enumerate(pieces)}
        order = [starts[id(atom)] for atom in flat if id(atom) in starts]
        picked = [starts[id(atom)] for atom, _ in form.picks]
        sizes = tuple(product(atom.size for atom in piece) for piece in pieces)
        shape = tuple(product(atom.size for atom in axis) for axis in form.axes)
        return cls(
            form.base, sizes, (*picked, *order), form.picks[0][1] if form.picks else None, shape,
            form.called,
        )  # fmt: skip

    @property
    def key(self) -> tuple[Any, ...]:
        return (id(self.base), self.pieces, self.order, self.pick is None)

    @property
    def cost(self) -> int:
        left = [self.pieces[i] for i in self.order][self.pick is not None :]
        return (
            (self.pieces != self.base.shape)
            + (self.order != tuple(range(len(self.order))))
            + (self.pick is not None)
            + (tuple(left) != self.shape)
        )

    def make(
        self,
        builder: Builder,
        shared: dict[Any, Any],
        target: Value | None,
        group: list[_Plan] | None = None,
    ) -> Value:
        """Adds the nodes; a transpose that several picks share is made once, and unpacked where all are wanted."""
        if self.pick is not None and len(group or [self]) == 1:
            value = self._pick_alone(builder, self.pick)
        else:
            if self.key not in shared:
                value = builder.reshape(self.base, self.pieces)
                shared[self.key] = builder.transpose(value, self.order)
            value = shared[self.key]
            if self.pick is not None:
                value = self._pick(builder, shared, value, group or [self])
        result = _reshaped(builder, value, self.shape)
        if (
            target is not None
            and result.node is not None
            and result.origin is None
            and result is not self.base
        ):
            result.origin, result.permute = target.origin, target.permute
            result.name = result.name or target.name
        return result

    def _pick_alone(self, builder: Builder, pick: int) -> Value:
        """One index of an axis, where that axis is."""
        place, *order = self.order
        value = builder.reshape(self.base, self.pieces)
        rest = value.shape[:place] + value.shape[place + 1 :]
        value = builder.index(value, (*[slice(None)] * place, pick), rest)
        return builder.transpose(value, tuple(axis - (axis > place) for axis in order))

    def _pick(
        self, builder: Builder, shared: dict[Any, Any], value: Value, group: list[_Plan]
    ) -> Value:
        rest = value.shape[1:]
        picks, whole = sorted(p.pick or 0 for p in group), value.shape[0]
        if isinstance(whole, int) and whole > 1 and picks == list(range(whole)):
            name = ("unpacked", *self.key)
            if name not in shared:
                count = value.shape[0]
                shared[name] = builder.node(
                    "unpack", value, shapes=[rest] * count, dtypes=[value.dtype] * count
                ).outputs
                for plan in group:
                    shared[name][plan.pick or 0].name = plan.called
            return shared[name][self.pick or 0]
        return builder.index(value, (self.pick,), rest)


def _reshaped(builder: Builder, value: Value, shape: tuple[Size, ...]) -> Value:
    """The value in that shape: `x[None]` where that is all."""
    for axis in range(len(shape)):
        if shape[axis] == 1 and shape[:axis] + shape[axis + 1 :] == value.shape:
            return builder.op("mx.expand_dims", value, axis, shape=shape, dtype=value.dtype)
    return builder.reshape(value, shape)


def _coalesced(form: Form) -> list[list[Atom]]:
    """The base's atoms, those together that stay side by side in one axis of the view."""
    following = {id(a): b for axis in form.axes for a, b in pairwise(axis)}
    pieces: list[list[Atom]] = []
    for axis in form.source:
        for position, atom in enumerate(axis):
            if position and following.get(id(axis[position - 1])) is atom:
                pieces[-1].append(atom)
            else:
                pieces.append([atom])
    return pieces
