"""One node of a template as an expression; numbers that differ among the instances become arguments."""

from __future__ import annotations

from typing import Any

from sympy import Expr

from porter.emit.arguments import Arguments
from porter.emit.decoder import STATE
from porter.emit.expressions import Code, Vector, is_constant
from porter.emit.measured import Measured
from porter.emit.sizes import (
    Dims,
    Key,
    author_sizes,
    flatten_axes,
    is_symbolic,
    splits,
    squeezed_axes,
)
from porter.emit.syntax import (
    ATOM,
    DTYPES,
    PRECEDENCE,
    Text,
    call,
    dtype_text,
    infix,
    method,
    plain,
    prefix,
    sequence,
    slice_text,
    subscript,
)
from porter.ir import Node, Value
from porter.ir.ops import INFIX
from porter.passes.factor.classes import BlockClass
from porter.passes.factor.tree import layer_path
from porter.passes.layout.permutations import reshape_blocks

#: What sources call the number of heads, and that of key and value heads.
HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "nhead", "heads", "groups")
KEY_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads", "n_kv_head", "kv_heads")


class NodeText:
    """Writes nodes; keeps the class's named dims."""

    def __init__(self, cls: BlockClass, arguments: Arguments, places: Any, body: Any):
        self.cls = cls
        self.arguments = arguments
        self.places = places
        self.body = body
        self.dims = Dims(cls, label=self._label)
        self.measured = Measured(self.dims, lambda: set(self.body_names()))
        self.sizes: dict[int, list[Any]] = {}
        self.planned: dict[tuple[int, Any], Text | None] = {}
        self._plan()

    def _label(self, value: Value) -> str:
        return (
            self.body.names[value]
            if value in self.body.names
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
        if node.op == ".reshape":
            if not (self._everywhere(node, flatten_axes) or self._everywhere(node, squeezed_axes)):
                self.sizes[id(node)] = self._reshape_sizes(node, order)
        else:
            for part in (node.args, node.kwargs, node.attrs):
                self._plan_symbols(part, node, order)

    def _everywhere(self, node: Node, form: Any) -> bool:
        """Whether a reshape has the same form (a flatten, a squeeze) in every instance."""
        first = form(node)
        return bool(first) and all(
            form(other) == first for other in self.cls.of(node) if other is not None
        )

    def _plan_symbols(self, part: Any, node: Node, order: list[Value]) -> None:
        """Reserves the dims that symbolic sizes outside reshapes need."""
        real = node.op in INFIX and node.output.dtype.startswith(("float", "bfloat"))
        for _, size in _sizes_in(part):
            if isinstance(size, Expr):
                vector = self._vector_of(node, size)
                self.planned[id(node), size] = self.measured.text(vector, order, real)

    def _vector_of(self, node: Node, size: Expr) -> Vector:
        """The size in each instance, where instances hold equal places of equal nodes."""
        paths = [
            (group, path)
            for group in ("args", "kwargs", "attrs")
            for path, s in _sizes_in(getattr(node, group))
            if s is size
        ]
        group, path = paths[0]
        return {
            i: _at(getattr(other, group), path)
            for i, other in enumerate(self.cls.of(node))
            if other is not None
        }

    def _reshape_sizes(self, node: Node, order: list[Value]) -> list[Any]:
        others = self.cls.of(node)
        count = len(node.args) - 1
        vectors: list[Vector] = [
            {i: o.args[1 + p] for i, o in enumerate(others) if o is not None} for p in range(count)
        ]
        wrote = author_sizes(node.location, count)
        split = splits(node) if self._everywhere(node, splits) else {}
        inputs = [v for v in self.cls.template.inputs if not v.is_parameter]
        texts: list[str | None] = []
        used: list[Key] = []  # axes that a size of this shape is taken from
        for position, vector in enumerate(vectors):
            text = None
            last = position == count - 1 and not is_symbolic(vector)
            if last and None not in texts and not _is_small(vector):
                texts.append(None)  # the size of a head, say: -1 does
                continue
            if wrote[position] is not None and not is_symbolic(vector):
                text = self.arguments.look_up(vector, str(wrote[position]), in_call=True)
            if text is None:
                text = self._heads(node, position, vectors)
            if text is None and _is_small(vector):
                text = str(vector[min(vector)])
            if text is None and last:
                texts.append(None)
                continue
            if text is None:
                found = self.dims.find(vector, order if is_symbolic(vector) else inputs, used)
                text = self.dims.name(*found, set(self.body_names())) if found else None
                used += [found] if found else []
            texts.append(text)
        free = [p for p, text in enumerate(texts) if text is None]
        unknown = next((p for p in free if is_symbolic(vectors[p])), free[-1] if free else None)
        for position in free:
            if texts[position] is not None:
                continue
            if position == unknown:
                texts[position] = "-1"
                continue
            texts[position] = (
                self._divided(node, split, position, vectors, texts, used)
                or self._named_size(vectors[position])
                or self._divided_by_name(vectors[position], inputs, used)
                or self._dim_text(vectors[position], order)
                or (
                    self.arguments.resolve(vectors[position], "size", in_call=True)
                    if not is_symbolic(vectors[position])
                    else None
                )
                or self._traced(vectors[position], node)
            )
        return texts

    def _heads(self, node: Node, position: int, vectors: list[Vector]) -> str | None:
        """The number of heads, where an axis is split and its last two parts are heads and their size."""
        blocks = reshape_blocks(node.args[0].shape, node.output.shape) or []
        last = len(vectors) - 1
        if not any(len(left) == 1 and right[-2:] == [last - 1, last] for left, right in blocks):
            return None
        if position != last - 1 or is_symbolic(vectors[position]):
            return None
        made = node.args[0].node
        name = layer_path(made).rpartition(".")[2] if made is not None and made.is_layer else ""
        # of keys and values there may be fewer heads, though here there are as many
        hints = KEY_HEADS + HEADS if name.startswith(("k", "v")) else HEADS + KEY_HEADS
        return self.arguments.look_up(vectors[position], *hints, in_call=True, exact=True)

    def _named_size(self, vector: Vector) -> str | None:
        if is_symbolic(vector):
            return None
        return self.arguments.look_up(
            vector, "window_size", "patch_size", "num_heads", in_call=True, exact=True
        )

    def _divided_by_name(self, vector: Vector, values: list[Value], used: list[Key]) -> str | None:
        """`H // self.window_size`: an input's size over a number that the class has a name for."""
        keys = [(value, axis) for value in values for axis in range(value.rank)]
        for value, axis in sorted(keys, key=lambda key: key in used):
            if self.dims.vector(value, axis):
                have = self.dims.vector(value, axis)
                if any(
                    not isinstance(have.get(i), int) or have[i] % size for i, size in vector.items()
                ):
                    continue
                rest = {i: have[i] // size for i, size in vector.items()}
                part = self.arguments.look_up(rest, "window_size", in_call=True, exact=True)
                if part is not None:
                    used.append((value, axis))
                    return f"{self.dims.name(value, axis, set(self.body_names()))} // {part}"
        return None

    def _divided(
        self,
        node: Node,
        split: dict[int, tuple[int, int]],
        position: int,
        vectors: list[Vector],
        texts: list[str | None],
        used: list[Key],
    ) -> str | None:
        """`H // window` for the first part of an axis that is split in two."""
        if position not in split:
            return None
        axis, rest = split[position]
        source = node.args[0]
        measured = {i: m[source].shape[axis] for i, m in enumerate(self.cls.values) if source in m}
        whole = self._dim_text(
            measured,
            [v for v in self.cls.template.inputs if not v.is_parameter],
            tight=True,
            used=used,
        )
        if whole is None:
            return None
        part = texts[rest]
        if (part is None or part == "-1") and is_symbolic(vectors[rest]):
            return None
        if part is None or part == "-1":
            part = texts[rest] = self.arguments.resolve(vectors[rest], "window_size", in_call=True)
        return f"{whole} // {part}"

    def _dim_text(
        self,
        vector: Vector,
        order: list[Value],
        tight: bool = False,
        used: list[Key] | None = None,
    ) -> str | None:
        """A size as an expression over named dims; None where no array has it. `tight`: to be divided further."""
        found = self.dims.find(vector, order, used) if used is not None else None
        if found is not None and used is not None:
            used.append(found)
            return self.dims.name(*found, set(self.body_names()))
        text = self.measured.text(vector, order)
        return None if text is None else text.at(PRECEDENCE["*"]) if tight else text.code

    def body_names(self) -> list[str]:
        return list(self.body.taken_by_inputs) if hasattr(self.body, "taken_by_inputs") else []

    def dim_names(self) -> set[str]:
        return set(self.dims.names.values())

    def is_measured(self, value: Value) -> bool:
        return bool(self.dims.axes(value))

    def shape_line(self, value: Value, name: str) -> str:
        """`B, L, _ = x.shape`."""
        axes = self.dims.axes(value)
        if not axes:
            return ""
        if len(axes) == 1:
            axis, dim = next(iter(axes.items()))
            return f"{dim} = {name}.shape[{axis}]"
        return f"{', '.join(axes.get(axis, '_') for axis in range(value.rank))} = {name}.shape"

    def shape_lines(self, values: list[Value], names: list[str]) -> list[str]:
        lines = [self.shape_line(value, name) for value, name in zip(values, names, strict=True)]
        return [line for line in lines if line]

    # --- expressions

    def text(self, node: Node) -> Text:
        others = [(i, other) for i, other in enumerate(self.cls.of(node)) if other is not None] or [
            (0, node)
        ]
        if node.is_layer:
            given = {key: self.body.read(value) for key, value in node.kwargs.items()}
            return call(
                self.places.layer(node), [self.body.read(value) for value in node.args], given
            )
        if node.op in STATE:
            return STATE[node.op](self, node, others)
        if node.op == "as_linear":
            owner = self.places.parameter(node.params["weight"]).removesuffix(".weight")
            return call(f"{owner}.as_linear", [self.body.read(node.args[0])])
        if node.op == ".reshape":
            return self._reshape(node)
        if node.op == "[]":
            width = len(node.attrs["key"])
            while width > 1 and all(o.attrs["key"][width - 1] == slice(None) for _, o in others):
                width -= 1
            key = [
                self.part([(i, o.attrs["key"][p]) for i, o in others], node, "index")
                for p in range(width)
            ]
            # an index array is read before the array that it indexes is named
            receiver = self.body.read(node.args[0])
            return subscript(receiver, key)
        if node.op == "unpack":
            return self.body.read(node.args[0])
        scale = self._head_scale(node, others)
        args = [
            self.part([(i, o.args[p]) for i, o in others], node, _role(node, p))
            for p in range(len(node.args))
        ]
        kwargs = {
            key: self._axis(node, others)
            or self.part([(i, o.kwargs[key]) for i, o in others], node, key)
            if key == "axis"
            else self.part([(i, o.kwargs[key]) for i, o in others], node, key)
            for key in node.kwargs
            if not (node.kwargs[key] is None and all(o.kwargs[key] is None for _, o in others))
        }
        if scale is not None:
            kwargs["scale"] = scale
        return self._compose(node, others, args, kwargs)

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
        name = self.body.name(node.args[0])
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
        if op in INFIX:
            return infix(op, *args)
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
        receiver = self.body.read(node.args[0])
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
            return self.body.read(first)
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
        return self._scalar(vector, role)

    def _scalar(self, vector: Vector, role: str) -> Text:
        value = next(iter(vector.values()))
        if isinstance(value, str) and value.startswith("mx."):
            return Text(value)
        if is_constant(vector) and (
            isinstance(value, (bool, str)) or value is None or role in ("axis", "index", "")
        ):
            return plain(value)
        code = self.arguments.resolve(vector, role or "value", in_call=True)
        return Text(code, PRECEDENCE["neg"] if code.startswith("-") else ATOM)

    def _bound(self, items: list[tuple[int, Any]], node: Node, name: str) -> Text | None:
        if all(bound is None for _, bound in items):
            return None
        return self.part(items, node, name)

    def _traced(self, vector: Vector, node: Node) -> str:
        """A size that no array has: as it was when traced, and the user hears of it."""
        return self.places.traced_size(vector, node)


def _is_small(vector: Vector) -> bool:
    value = vector[min(vector)]
    return is_constant(vector) and isinstance(value, int) and abs(value) <= 3


#: Reductions read better as methods.
_METHODS = {
    f"mx.{name}" for name in "sum mean max min prod all any var std argmax argmin squeeze".split()
}


def _role(node: Node, position: int) -> str:
    """What a number in an argument's place is, to name it."""
    if node.op in (".transpose", "mx.expand_dims", ".squeeze"):
        return "axis"
    if node.op in ("mx.broadcast_to", "mx.pad", "mx.roll", "mx.split", "mx.tile"):
        return "size"
    if node.op == "mx.arange":
        return "length"
    if node.op == "fn.chunked_mask":
        return "attention_chunk_size"
    return "scale" if node.op in ("*", "/") and isinstance(node.args[position], float) else ""


def _sizes_in(part: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    if isinstance(part, dict):
        return [found for key, item in part.items() for found in _sizes_in(item, (*path, key))]
    if isinstance(part, (list, tuple)):
        return [found for p, item in enumerate(part) for found in _sizes_in(item, (*path, p))]
    if isinstance(part, slice):
        return [
            found
            for key in ("start", "stop", "step")
            for found in _sizes_in(getattr(part, key), (*path, key))
        ]
    return [(path, part)] if isinstance(part, Expr) else []


def _at(part: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        part = getattr(part, key) if isinstance(part, slice) else part[key]
    return part
