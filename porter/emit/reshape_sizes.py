"""The sizes of a reshape: names, axes of arrays, one -1, and numbers only where a part of an axis has no name at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from porter.emit.literals import Vector, is_constant
from porter.emit.names import words
from porter.emit.sizes import Key, author_sizes, is_symbolic, splits
from porter.emit.syntax import PRECEDENCE, Text, infix
from porter.ir import Node, Value
from porter.ir.builder import simplify
from porter.ir.ops import ELEMENTWISE
from porter.passes.factor.layer_names import layer_path
from porter.passes.layout.permutations import reshape_blocks

if TYPE_CHECKING:
    from porter.emit.node_text import NodeText

#: What sources call the number of heads, and that of key and value heads.
HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "nhead", "heads", "groups")
KEY_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads", "n_kv_head", "kv_heads")
#: What an author counts who names a size so: no heads, and no window.
_COUNTED = {
    "frame",
    "frames",
    "time",
    "temporal",
    "token",
    "tokens",
    "patches",
    "seq",
    "length",
    "batch",
}
#: Layers that keep every axis but the last.
_TOKENWISE = ("nn.Linear", "nn.LayerNorm", "nn.RMSNorm")
WINDOWS = ("window_size", "patch_size", "num_heads")


class ReshapeSizes:
    """Plans the sizes of one reshape. `order` are the arrays that may be measured, the preferred first."""

    def __init__(self, writer: NodeText, node: Node, order: list[Value]):
        self.cls = writer.cls
        self.arguments = writer.arguments
        self.dims = writer.dims
        self.measured = writer.measured
        self.places = writer.places
        self.given = writer.given
        self.node = node
        self.order = order
        self.likes = writer.likes(node)
        self.count = len(node.args) - 1
        self.vectors: list[Vector] = [
            {i: o.args[1 + p] for i, o in self.likes} for p in range(self.count)
        ]
        self.inputs = [v for v in self.cls.template.inputs if not v.is_parameter]
        self.blocks = reshape_blocks(node.args[0].shape, node.output.shape) or []
        self.whole = self._whole()
        self.used: list[Key] = []  # axes that a size of this shape is taken from
        written = author_sizes(node.location, self.count)
        permute = node.output.permute  # how the axes that the author wrote stand here
        self.hints: list[str | None] = (
            [written[axis] for axis in permute]
            if permute and len(permute) == self.count
            else written
        )

    def texts(self) -> list[str]:
        """Source text for each size."""
        texts: list[str | None] = []
        for position in range(self.count):
            texts.append(self._named(position, texts))
        free = [p for p, text in enumerate(texts) if text is None]
        symbolic = [p for p in free if is_symbolic(self.vectors[p])]
        unknown = next(iter([*symbolic, *reversed(free)]), None)
        if unknown is not None:
            texts[unknown] = "-1"
        for position in free:
            if texts[position] is None:
                texts[position] = self._found(position, texts)
            if texts[position] is None and not symbolic and unknown in self.whole:
                # -1 goes to a part that nothing names, and the whole axis is read off the array
                texts[position], texts[unknown] = "-1", None
                texts[unknown] = self._found(unknown, texts)
                unknown = position
            if texts[position] is None:
                texts[position] = self._number(position)
        return [str(text) for text in texts]

    def _found(self, position: int, texts: list[str | None]) -> str | None:
        """A size by a name or by the axes of arrays."""
        return (
            self._divided(position, texts)
            or self._window(position)
            or self._divided_by_name(position)
            or self._of_input(position)
            or self._merged(position)
            or self._dim_text(self.vectors[position], self.order)
            or self._root(position)
        )

    def _of_input(self, position: int) -> str | None:
        vector = self.vectors[position]
        found = None if is_symbolic(vector) else self.dims.find(vector, self.inputs, self.used)
        if found is None:
            return None
        self.used.append(found)
        return self._name(found)

    def _whole(self) -> dict[int, list[int]]:
        """Axes of the result that are whole axes of the array, or several of them merged, in every instance."""
        result: dict[int, list[int]] | None = None
        for _, other in self.likes:
            blocks = reshape_blocks(other.args[0].shape, other.output.shape) or []
            found = {}
            for left, right in blocks:
                targets = [p for p in right if other.output.shape[p] != 1]
                if left and len(targets) == 1:
                    found[targets[0]] = left
            result = (
                found if result is None else {p: a for p, a in found.items() if result.get(p) == a}
            )
        return result or {}

    # --- names

    def _named(self, position: int, before: list[str | None]) -> str | None:
        """A size by the author's name for it, or off an input; None where it is open."""
        vector = self.vectors[position]
        if (given := self.given(self.node, vector)) is not None:
            return given.code
        last = position == self.count - 1 and not is_symbolic(vector)
        if last and None not in before and not _is_small(vector):
            return None  # the size of a head, say: -1 does
        text = None
        wrote = self.hints[position]
        told = wrote is not None and not self.arguments.is_other(wrote, vector)
        if wrote is not None and told and not is_symbolic(vector):
            text = self.arguments.look_up(vector, wrote, in_call=True, called=True)
        text = text or self._heads(position)
        if text is None and _is_small(vector):
            text = str(vector[min(vector)])
        if text is None and not last:
            arrays = self.order if is_symbolic(vector) else self.inputs
            found = self.dims.find(vector, arrays, self.used)
            side = self._root(position) if found is not None and _is_width(found) else None
            if side is not None and not is_symbolic(vector):
                return side  # a square map whose side is as long as the features are wide by chance
            if found is not None:
                self.used.append(found)
                text = self._name(found)
        return text

    def _heads(self, position: int) -> str | None:
        """The number of heads, where an axis is split and its last two parts are heads and their size."""
        if not self._may_be_heads(position):
            return None
        # of keys and values there may be fewer heads, though here there are as many
        hints = KEY_HEADS + HEADS if self._is_of_keys() else HEADS + KEY_HEADS
        return self.arguments.look_up(self.vectors[position], *hints, in_call=True, exact=True)

    def _may_be_heads(self, position: int) -> bool:
        last = self.count - 1
        split = any(
            len(left) == 1 and right[-2:] == [last - 1, last] for left, right in self.blocks
        )
        plain = not is_symbolic(self.vectors[position]) and not self._counts(position)
        return split and position == last - 1 and plain

    def _is_of_keys(self) -> bool:
        """Whether the reshaped array is made by a layer for keys or values."""
        made = self.node.args[0].node
        name = layer_path(made).rpartition(".")[2] if made is not None and made.is_layer else ""
        return name.startswith(("k", "v"))

    def _window(self, position: int) -> str | None:
        vector = self.vectors[position]
        if is_symbolic(vector) or self._counts(position):
            return None
        return self.arguments.look_up(vector, *WINDOWS, in_call=True, exact=True)

    def _counts(self, position: int) -> bool:
        """Whether the author's name for a size says that frames, tokens or the like are counted."""
        return bool(words(self.hints[position] or "") & _COUNTED)

    # --- arrays

    def _name(self, axis: Key) -> str:
        return self.dims.name(*axis, set(self.measured.taken()))

    def _dim_text(
        self, vector: Vector, order: list[Value], tight: bool = False, used: bool = False
    ) -> str | None:
        """A size as an expression over named dims; None where no array has it. `tight`: to be divided further."""
        found = self.dims.find(vector, order, self.used) if used else None
        if found is not None:
            self.used.append(found)
            return self._name(found)
        text = self.measured.text(vector, order)
        return None if text is None else text.at(PRECEDENCE["*"]) if tight else text.code

    def _merged(self, position: int) -> str | None:
        """`H * W`: axes of the reshaped array that are merged here."""
        axes = self.whole.get(position)
        array = self.node.args[0]
        if axes is None or array.is_parameter:
            return None
        parts = [
            axis
            for axis in axes
            if any(size != 1 for size in self.dims.vector(array, axis).values())
        ]
        product: Text | None = None
        for axis in parts:
            part = Text(self._name(self._origin(array, axis)))
            product = part if product is None else infix("*", product, part)
        return None if product is None else product.code

    def _origin(self, array: Value, axis: int) -> Key:
        """An array, in reach and early, of which this is the same axis: layers and functions of elements keep it."""
        best = (array, axis)
        node = array.node
        for part in node.outputs if node is not None and node.op == "unpack" else ():
            if (part, axis) in self.dims.names:  # `q, k, v = qkv` have one shape
                return part, axis
        while node is not None and (array, axis) not in self.dims.names:
            inner = node.args[0] if node.args else None
            along = node.op in _TOKENWISE and axis < array.rank - 1
            if not isinstance(inner, Value) or not (along or node.op in ELEMENTWISE):
                break
            if inner.is_parameter or inner.rank != array.rank or inner not in self.order:
                break
            if self.dims.vector(inner, axis) != self.dims.vector(array, axis):
                break
            array, node = inner, inner.node
            if array in self.inputs or (array, axis) in self.dims.names:
                best = (array, axis)
        return best

    def _divided(self, position: int, texts: list[str | None]) -> str | None:
        """`H // window` for the first part of an axis that is split in two."""
        split = splits(self.node)
        if any(splits(other) != split for other in self.cls.of(self.node) if other is not None):
            return None
        if position not in split:
            return None
        axis, rest = split[position]
        sizes = {i: other.args[0].shape[axis] for i, other in self.likes}
        whole = self._dim_text(sizes, self.inputs, tight=True, used=True)
        if whole is None:
            return None
        part = texts[rest]
        if (part is None or part == "-1") and is_symbolic(self.vectors[rest]):
            return None
        if part is None or part == "-1":
            part = self._window(rest)
            if part is None and (side := self._root(position)) is not None:
                return side
            part = texts[rest] = part or self._number(rest)
        return f"{whole} // {part}"

    def _divided_by_name(self, position: int) -> str | None:
        """`H // self.window_size`: an input's size over a number that the class has a name for."""
        vector = self.vectors[position]
        keys = [(value, axis) for value in self.inputs for axis in range(value.rank)]
        for value, axis in sorted(keys, key=lambda key: key in self.used):
            have = self.dims.vector(value, axis)
            if not have or any(
                not isinstance(have.get(i), int) or have[i] % size for i, size in vector.items()
            ):
                continue
            rest = {i: have[i] // size for i, size in vector.items()}
            part = self.arguments.look_up(rest, "window_size", in_call=True, exact=True)
            if part is not None:
                self.used.append((value, axis))
                return f"{self._name((value, axis))} // {part}"
        return None

    def _root(self, position: int) -> str | None:
        """`int(L**0.5)`: a side of a square that was flattened."""
        array = self.node.args[0]
        if array.is_parameter or "head" in str(self.hints[position]):
            return None
        for left, right in self.blocks:
            sides = [p for p in right if self.node.output.shape[p] != 1]
            long = [a for a in left if array.shape[a] != 1]
            if position in sides and len(sides) == 2 and len(long) == 1:
                square = all(
                    o.output.shape[sides[0]] == o.output.shape[sides[1]]
                    and simplify(o.args[0].shape[long[0]] - o.output.shape[sides[0]] ** 2) == 0
                    for _, o in self.likes
                )
                if not square or not self.dims.vector(array, long[0]):
                    return None
                return self.dims.root(self._origin(array, long[0]), set(self.measured.taken()))
        return None

    # --- numbers

    def _number(self, position: int) -> str:
        """What no name and no array gives: a constructor argument, or a size as traced."""
        vector = self.vectors[position]
        if is_symbolic(vector):
            for size in filter(is_symbolic, self.vectors):
                if self.dims.find(size, self.order) is None:
                    self.places.want(size, self.node)
            return str(self.places.traced_size(vector, self.node))
        hint, called = self.hints[position], self.hints[position] is not None
        if hint is None and self._attends() and self._may_be_heads(position):
            hint = (KEY_HEADS if self._is_of_keys() else HEADS)[0]
        return self.arguments.resolve(
            vector, hint or "size", in_call=True, is_size=True, called=called
        )

    def _attends(self) -> bool:
        nodes = [item for item in self.cls.template.items if isinstance(item, Node)]
        return any(node.op == "mx.fast.scaled_dot_product_attention" for node in nodes)


def _is_small(vector: Vector) -> bool:
    value = vector[min(vector)]
    return is_constant(vector) and isinstance(value, int) and abs(value) <= 3


def _is_width(axis: Key) -> bool:
    """Whether an axis holds features: the last of several."""
    value, place = axis
    return value.rank > 2 and place == value.rank - 1
