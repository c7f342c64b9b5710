"""One node of a template as an expression; numbers that differ among the instances become arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sympy import Expr

from porter.emit.arguments import Arguments
from porter.emit.decoder import STATE
from porter.emit.literals import Code, Vector, is_constant
from porter.emit.measured import Measured
from porter.emit.number_roles import OPERANDS, number_role
from porter.emit.numbered_sizes import with_number
from porter.emit.part_statement import write_part
from porter.emit.reshape_sizes import ReshapeSizes
from porter.emit.sizes import (
    Dims,
    is_symbolic,
    size_at,
    sizes_in,
)
from porter.emit.syntax import (
    ATOM,
    DTYPES,
    PRECEDENCE,
    Text,
    arithmetic,
    call,
    dtype_text,
    method,
    plain,
    prefix,
    sequence,
    slice_text,
    subscript,
)
from porter.emit.variants import Variants
from porter.ir import Node, Value
from porter.ir.builder import simplify
from porter.ir.ops import INFIX
from porter.passes.factor.classes import BlockClass
from porter.passes.factor.encode_turns import FILLS, spelled_key
from porter.passes.hand_sizes import handed
from porter.passes.view_forms import flatten_axes, squeezed_axes


class NodeText:
    """Writes nodes; keeps the class's named dims."""

    def __init__(self, cls: BlockClass, arguments: Arguments, places: Any, statements: Any):
        self.cls = cls
        self.arguments = arguments
        self.places = places
        self.statements = statements
        self.variants: Variants = places.model.variants
        self.dims = Dims(cls, self.variants, label=self._label, hidden=statements.hidden)
        self.measured = Measured(self.dims, lambda: set(statements.names_of_inputs))
        self.sizes: dict[int, list[Any]] = {}
        self.planned: dict[tuple[int, Any], Text | None] = {}
        self._plan()

    def _label(self, value: Value) -> str:
        return (
            self.statements.names[value]
            if value in self.statements.names
            else str(self.places.parameter(value))
        )

    # --- sizes

    def _plan(self) -> None:
        """Decides before anything is written where each size comes from, so that arrays that are measured get names."""
        seen: list[Value] = list(self.cls.template.inputs)
        for item in self.cls.template.items:
            if isinstance(item, Node):
                self._plan_node(item, seen)
            seen += item.outputs

    def _plan_node(self, node: Node, seen: list[Value]) -> None:
        candidates = [v for v in seen if not v.is_parameter] or seen
        operands = [v for v in node.inputs() if not v.is_parameter]
        given = [v for v in self.cls.template.inputs if v.is_parameter]
        order = [
            *self.cls.template.inputs,
            *[v for v in operands if v in seen],
            *reversed(candidates),
            *given,
        ]
        if node.op == "size":
            self._size(node)
        elif node.op == ".reshape":
            if not (self._everywhere(node, flatten_axes) or self._everywhere(node, squeezed_axes)):
                self.sizes[id(node)] = ReshapeSizes(self, node, order).texts()
        else:
            for part in (node.args, node.kwargs, node.attrs):
                self._plan_symbols(part, node, [*order, *self._tables()])

    def _tables(self) -> list[Value]:
        """The class's own parameters that no layer holds."""
        nodes = [i for i in self.cls.template.items if isinstance(i, Node) and not i.is_layer]
        given = self.cls.template.inputs
        return [v for i in nodes for v in i.inputs() if v.is_parameter and v not in given]

    def _everywhere(self, node: Node, form: Any) -> bool:
        """Whether a reshape has the same form (a flatten, a squeeze) in every instance."""
        first = form(node)
        return bool(first) and all(
            form(other) == first for other in self.cls.of(node) if other is not None
        )

    def likes(self, node: Node) -> list[tuple[int, Node]]:
        """The node in each instance that has it, and in the sizes whose graph is known."""
        here = [(i, other) for i, other in enumerate(self.cls.of(node)) if other is not None]
        return (here or [(0, node)]) + self.variants.nodes(self.cls, node)

    def _plan_symbols(self, part: Any, node: Node, order: list[Value]) -> None:
        """Reserves the dims that symbolic sizes outside reshapes need."""
        real = node.op in INFIX and node.output.dtype.startswith(("float", "bfloat"))
        for _, size in sizes_in(part):
            if isinstance(size, Expr):
                vector = self._vector_of(node, size)
                self.planned[id(node), size] = (
                    self.given(node, vector)
                    or self.measured.text(vector, order, real)
                    or with_number(self.measured, self.arguments, vector, order, real)
                )

    def given(self, node: Node, vector: Vector) -> Text | None:
        """A size that the module around this one hands over."""
        likes = [(i, o) for i, o in enumerate(self.cls.of(node)) if o is not None and i in vector]
        for k, (value, _) in enumerate(handed(node)):
            if all(simplify(list(handed(o))[k][1] - vector[i]) == 0 for i, o in likes):
                name = self.statements.names.get(value)
                assert value.node is not None
                return Text(name, names={name}) if name else self._size(value.node)
        return None

    def _size(self, node: Node) -> Text:
        """An axis of an array, or what is worked out from it."""
        if "size" not in node.attrs:
            return self.measured.axis(*node.args)
        vector = {i: other.attrs["size"] for i, other in self.likes(node)}
        text = self.measured.text(vector, [node.args[0]])
        return Text(self._traced(vector, node)) if text is None else text

    def _vector_of(self, node: Node, size: Expr) -> Vector:
        """The size in each instance, where instances hold equal places of equal nodes."""
        paths = [
            (group, path)
            for group in ("args", "kwargs", "attrs")
            for path, s in sizes_in(getattr(node, group))
            if s is size
        ]
        group, path = paths[0]
        return {i: size_at(getattr(other, group), path) for i, other in self.likes(node)}

    def dim_names(self) -> set[str]:
        return self.dims.letters()

    def is_measured(self, value: Value) -> bool:
        return bool(self.dims.axes(value))

    def shape_lines(self, value: Value, name: str) -> list[str]:
        """`B, L, _ = x.shape`, and `H = int(L**0.5)` after it."""
        axes = self.dims.axes(value)
        if not axes:
            return []
        roots = [f"{root} = int({dim}**0.5)" for dim, root in self.dims.roots_of(value)]
        if len(axes) == 1:
            axis, dim = next(iter(axes.items()))
            return [f"{dim} = {name}.shape[{axis}]", *roots]
        names = ", ".join(axes.get(axis, "_") for axis in range(value.rank))
        return [f"{names} = {name}.shape", *roots]

    # --- expressions

    def text(self, node: Node) -> Text:
        others = self.likes(node)
        if node.is_layer:
            given = {key: self.statements.read(value) for key, value in node.kwargs.items()}
            return call(
                self.places.layer(node), [self.statements.read(value) for value in node.args], given
            )
        if node.op in STATE:
            return STATE[node.op](self, node, others)
        if node.op == "as_linear":
            owner = self.places.parameter(node.params["weight"]).removesuffix(".weight")
            return call(f"{owner}.as_linear", [self.statements.read(node.args[0])])
        if node.op == ".reshape":
            return self._reshape(node)
        if node.op == "[]":
            key = self.key(node)  # an index array is read before the array that it indexes is named
            return subscript(self.statements.read(node.args[0]), key)
        if node.op == "[]=":
            return write_part(self.statements, node)
        if node.op == "unpack":
            return self.statements.read(node.args[0])
        if node.op == "size":
            return self._size(node)
        scale = self._head_scale(node, others)
        args = [
            self.part([(i, o.args[p]) for i, o in others], node, number_role(node, p))
            for p in range(len(node.args))
        ]
        known = {
            "axis": self._axis(node, others) if "axis" in node.kwargs else None,
            "scale": scale,
        }
        kwargs = {
            key: known.get(key) or self.part([(i, o.kwargs[key]) for i, o in others], node, key)
            for key in node.kwargs
            if not (node.kwargs[key] is None and all(o.kwargs[key] is None for _, o in others))
        }
        return self._compose(node, others, args, kwargs)

    def key(self, node: Node) -> list[Text]:
        """What an array is indexed by; whole axes at the end go without saying."""
        spelled = self.statements.spelled
        keys = [(i, spelled_key(o) if spelled else o.attrs["key"]) for i, o in self.likes(node)]
        width = len(node.attrs["key"])
        while width > 1 and all(key[width - 1] == slice(None) for _, key in keys):
            width -= 1
        return [self.part([(i, key[p]) for i, key in keys], node, "index") for p in range(width)]

    def _head_scale(self, node: Node, others: list[tuple[int, Node]]) -> Text | None:
        """`queries.shape[-1] ** -0.5`, where an attention's scale is that and no setting gives it."""
        if node.op != "mx.fast.scaled_dot_product_attention" or node.args[0].is_parameter:
            return None
        vector = {i: o.kwargs["scale"] for i, o in others}
        sizes = {i: o.args[0].shape[-1] for i, o in others}
        usual = all(
            isinstance(d, int) and abs(vector[i] * d**0.5 - 1) < 1e-9 for i, d in sizes.items()
        )
        if not usual or self.arguments.look_up(vector, "scale", in_call=True) is not None:
            return None
        name = self.statements.name(node.args[0])
        return Text(f"{name}.shape[-1] ** -0.5", PRECEDENCE["neg"], 1, {name})

    @staticmethod
    def _axis(node: Node, others: list[tuple[int, Node]]) -> Text | None:
        """The last axis is -1."""
        stacks = node.op == "mx.stack"  # whose axis is one of the result's
        ranks = [node.output.rank if stacks else value.rank for value in node.inputs()]
        axis = node.kwargs["axis"]
        last = isinstance(axis, int) and ranks and ranks[0] > 2 and axis == ranks[0] - 1
        return Text("-1") if last and all(o.kwargs["axis"] == axis for _, o in others) else None

    def _compose(
        self, node: Node, others: list[tuple[int, Node]], args: list[Text], kwargs: dict[str, Text]
    ) -> Text:
        op = node.op
        if op in FILLS and self.statements.spelled:
            return call("mx.full", [*args, plain(FILLS[op])], kwargs)
        if op in INFIX:
            return arithmetic(op, *args)
        if op in ("neg", "~"):
            return prefix(op, args[0])
        if op == ".astype":
            return method(args[0], "astype", [Text(dtype_text(node.output.dtype))])
        if (
            op == "mx.expand_dims"
            and isinstance(node.args[1], int)
            and all(o.args[1] == node.args[1] for _, o in others)
        ):
            return self._new_axis(node, args[0])
        if op == ".transpose" and [*node.args[1:]] == [1, 0]:
            turned = method(args[0], "T", [])
            return replace(turned, code=turned.code.removesuffix("()"))
        if op.startswith("."):
            return method(args[0], op[1:], args[1:])
        if op in _METHODS and node.args and isinstance(node.args[0], Value):
            keyword = [
                Text(f"{key}={value.code}", ATOM, value.depth, value.names)
                for key, value in kwargs.items()
            ]
            return method(args[0], op.removeprefix("mx."), args[1:] + keyword)
        if "cache" in node.kwargs:
            return call("scaled_dot_product_attention", args, kwargs)
        function = self.arguments.resolve(
            {i: Code(o.op.removeprefix("fn.")) for i, o in others}, "activation", in_call=True
        )
        return call(function, args, kwargs)

    @staticmethod
    def _new_axis(node: Node, receiver: Text) -> Text:
        """`x[:, None]`, counted from the nearer end."""
        axis, rank = node.args[1] % node.output.rank, node.output.rank
        if axis <= rank // 2:
            key = [Text(":")] * axis + [Text("None")]
        else:
            key = [Text("..."), Text("None"), *[Text(":")] * (rank - 1 - axis)]
        return subscript(receiver, key)

    def _reshape(self, node: Node) -> Text:
        flat = flatten_axes(node)
        gone = squeezed_axes(node)
        receiver = self.statements.read(node.args[0])
        if id(node) not in self.sizes and gone:
            return method(receiver, "squeeze", [plain(gone[0] if len(gone) == 1 else gone)])
        if id(node) not in self.sizes and flat is not None:
            first, last = flat
            end = last if last < node.args[0].rank - 1 else -1
            arguments = (
                []
                if (first, end) == (0, -1)
                else [plain(first)]
                if end == -1
                else [plain(first), plain(end)]
            )
            return method(receiver, "flatten", arguments)
        sizes = self.sizes[id(node)]
        names = {name for name in self.dim_names() if any(name in str(size) for size in sizes)}
        result = method(receiver, "reshape", [Text(str(size)) for size in sizes])
        result.names |= names
        return result

    def part(self, items: list[tuple[int, Any]], node: Node, role: str) -> Text:
        """One argument, given as (instance, what it is there)."""
        first = items[0][1]
        if isinstance(first, Value):
            return self.statements.read(first)
        if isinstance(first, (list, tuple)) and first and isinstance(first[0], Value):
            return self._arrays(first)
        if isinstance(first, (list, tuple)):
            width = {len(item) for _, item in items}
            parts = [
                self.part([(i, item[p]) for i, item in items], node, role)
                for p in range(min(width))
            ]
            return sequence(parts, "[]" if isinstance(first, list) else "()")
        if isinstance(first, slice):
            bounds = [
                self._bound([(i, getattr(item, name)) for i, item in items], node, name)
                for name in ("start", "stop", "step")
            ]
            return slice_text(*bounds)
        if first is Ellipsis:
            return Text("...")
        vector = dict(items)
        if is_symbolic(vector):
            text = self.planned.get((id(node), first))
            return Text(self._traced(vector, node)) if text is None else text
        if isinstance(first, str) and role == "dtype" and (first in DTYPES or first == "bool"):
            return Text(dtype_text(first))
        return self._scalar(vector, role, node)

    def _arrays(self, values: Sequence[Value]) -> Text:
        """A list or tuple of arrays."""
        parts = self.statements.read_all([*values])
        if len(parts) == 1 and parts[0].code.startswith("*"):
            return replace(parts[0], code=parts[0].code[1:])
        return sequence(parts, "[]" if isinstance(values, list) else "()")

    def _scalar(self, vector: Vector, role: str, node: Node) -> Text:
        value = next(iter(vector.values()))
        if isinstance(value, str) and value.startswith("mx."):
            return Text(value)
        if is_constant(vector) and (
            isinstance(value, (bool, str)) or value is None or role in ("axis", "index", "")
        ):
            return plain(value)
        if (
            not role
        ):  # a number of a formula: it reads best as it is, but where its class has a name for it
            count = len(self.cls.instances)
            known = self.arguments.known(vector)
            vector = vector if known else {i: v for i, v in vector.items() if i < count}
        called = role in ("", "start", "stop", "step")
        name = role or OPERANDS.get(node.op, "value")
        code = self.arguments.resolve(vector, name, in_call=True, called=called)
        return Text(code, PRECEDENCE["neg"] if code.startswith("-") else ATOM)

    def _bound(self, items: list[tuple[int, Any]], node: Node, name: str) -> Text | None:
        if all(bound is None for _, bound in items):
            return None
        return self.part(items, node, name)

    def _traced(self, vector: Vector, node: Node) -> str:
        """A size that no array has: as it was when traced, and the user hears of it."""
        return self.places.traced_size(vector, node)


#: Reductions read better as methods.
_METHODS = {
    f"mx.{name}" for name in "sum mean max min prod all any var std argmax argmin squeeze".split()
}
