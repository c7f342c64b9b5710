"""Values, nodes and the program that holds them.

A node is one MLX call. `op` says how it is written:

==============  =====================================================================
``mx.NAME``     a function of mlx.core (``mx.fast.NAME`` too)
``nn.name``     a function of mlx.nn
``nn.Name``     a layer: `params` are its parameters, `attrs` its constructor arguments
``fn.name``     a function of porter.functions, whose source the emitted file holds
``.name``       a method of the first argument
``+`` ...       an operator
``[]``          indexing: the first argument by `attrs["key"]`
``[]=``         the first argument with the second, a number, at `attrs["key"]`
``unpack``      the first argument taken apart along its first axis
``shape``       a Python number made of sizes: `attrs["value"]`
==============  =====================================================================

Sizes are ints, or sympy expressions over the symbols of the exported program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import sympy

from porter.errors import UnsupportedError

Size: TypeAlias = int | Any  # Any: a sympy expression (sympy has no types)


@dataclass(frozen=True, slots=True)
class Frame:
    """One module call around a node: the module's path, its class, and which call of it this is."""

    path: str
    cls: str
    call: int = 0


@dataclass(frozen=True, slots=True)
class Location:
    """The author's source line that a node came from."""

    file: str
    line: int
    function: str
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.text else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """What is known of a source module: its class, constructor arguments, plain attributes, and its own tensors' names."""

    path: str
    cls: str
    arguments: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    tensors: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Variant:
    """The source's model in another size: its settings, its modules, and the shapes of its tensors by checkpoint key.

    Where its graph was traced too, `nodes` and `values` pair those of the ported program with its own.
    """

    config: dict[str, Any]
    modules: dict[str, ModuleInfo]
    shapes: dict[str, tuple[int, ...]]
    nodes: dict[Node, Node] = field(default_factory=dict)
    values: dict[Value, Value] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Value:
    """An array: an input, a parameter, or an output of a node.

    `origin` names the tensor of the source graph it holds; `permute` is the order in which that tensor's axes are
    taken to give this value (None: as they are). A parameter has a `path` (where the MLX module keeps it) and a
    `recipe` (how it is made from checkpoint tensors); `data` holds the elements of a small constant.
    """

    shape: tuple[Size, ...]
    dtype: str
    node: Node | None = None
    name: str | None = None
    origin: str | None = None
    permute: tuple[int, ...] | None = None
    path: str | None = None
    recipe: Any = None
    source_shape: tuple[int, ...] | None = None
    data: Any = None

    @property
    def is_parameter(self) -> bool:
        return self.path is not None

    @property
    def rank(self) -> int:
        return len(self.shape)

    def __repr__(self) -> str:
        label = self.path or self.origin or self.name or hex(id(self))[-4:]
        return f"%{label}:{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclass(slots=True, eq=False)
class Node:
    """One MLX call; see the module's docstring for `op`."""

    op: str
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Value] = field(default_factory=dict)
    outputs: list[Value] = field(default_factory=list)
    scope: tuple[Frame, ...] = ()
    location: Location | None = None
    layout: bool = (
        False  # a transpose that a lowering put in for MLX's channels-last layers, not the author's
    )

    def __repr__(self) -> str:
        return f"Node({self.op}, {self.location})"

    @property
    def output(self) -> Value:
        return self.outputs[0]

    @property
    def is_layer(self) -> bool:
        return self.op.startswith("nn.") and self.op[3].isupper()

    def inputs(self) -> list[Value]:
        """Every value read, parameters included, in the order of the arguments."""
        found: list[Value] = []
        for structure in (self.args, self.kwargs, self.attrs):
            if structure:
                _gather(structure, found)
        found += self.params.values()
        return found

    def replace_inputs(self, function: Callable[[Value], Value]) -> None:
        self.args = map_values(self.args, function)
        self.kwargs = map_values(self.kwargs, function)
        self.attrs = map_values(self.attrs, function)
        self.params = map_values(self.params, function)


@dataclass(frozen=True, slots=True)
class Memory:
    """Of an encoder and a decoder: the decoder's token ids, the logits, and the arrays that the encoder hands over.

    Each layer of the decoder looks at them in `crossed` attentions.
    """

    ids: Value
    logits: Value
    values: list[Value]
    crossed: int = 1


@dataclass(slots=True)
class Shards:
    """What several processes divide of a decoder's layers.

    `layers`: how each layer's weights are divided, in how many segments of a fused weight, and whether its module adds up;
    `axes`: of an array that a process has a part of, which axis that is.
    """

    layers: dict[Node, tuple[str, int, bool]] = field(default_factory=dict)
    axes: dict[Value, int] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Program:
    """A whole model: nodes in execution order, parameters by path, and what is known of the source's modules."""

    name: str
    cls: str
    inputs: list[Value] = field(default_factory=list)
    outputs: list[tuple[str, Value]] = field(default_factory=list)
    output_kind: str = "array"  # or "tuple", "dict"
    nodes: list[Node] = field(default_factory=list)
    parameters: dict[str, Value] = field(default_factory=dict)
    modules: dict[str, ModuleInfo] = field(default_factory=dict)
    dims: dict[sympy.Symbol, tuple[str, int]] = field(
        default_factory=dict
    )  # symbol -> (name, size when traced)
    unrolled: int | None = None  # the number of tokens, where loops over them fixed it
    longest: int | None = None  # the most tokens that the graph holds for, where it is bounded
    #: of each module call (path, number): what the author's forward calls the arrays that cross there, by their `origin`
    forward_names: dict[tuple[str, int], dict[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    #: where the graph holds, as sentences: at other sizes the source does something else
    holds: list[str] = field(default_factory=list)
    #: fusions that nearly applied: (what, why not) -> how often, and where first
    misses: dict[tuple[str, str], tuple[int, Location | None]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)  # of the source, as it was given
    sights: list[Any] = field(
        default_factory=list
    )  # of a decoder's caches: how far each attention looks back, and what else each layer carries
    layer_words: tuple[str, ...] = ()  # of each cache, what its kind of layer is called
    counting: int = 0  # the caches, behind those of the layers, of what counts positions on
    memory: Memory | None = None  # of an encoder and a decoder
    shards: Shards | None = None  # of a decoder that several processes can run together

    def users(self) -> dict[Value, list[Node]]:
        """Each value's readers, once per reader."""
        table: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs()):
                table.setdefault(value, []).append(node)
        return table

    def output_values(self) -> list[Value]:
        return [value for _, value in self.outputs]

    def replace(self, mapping: dict[Value, Value]) -> None:
        """Reads `mapping[value]` wherever `value` was read (chains are followed)."""
        if not mapping:
            return

        def final(value: Value) -> Value:
            while value in mapping:
                value = mapping[value]
            return value

        for node in self.nodes:
            node.replace_inputs(final)
        self.outputs = [(name, final(value)) for name, value in self.outputs]
        if self.memory is not None:
            logits, *values = map(final, (self.memory.logits, *self.memory.values))
            self.memory = Memory(self.memory.ids, logits, values, self.memory.crossed)

    def number(self, size: Size) -> int | float:
        """The size, or the quotient of sizes, when traced."""
        if isinstance(size, int):
            return size
        traced = size.subs({symbol: value for symbol, (_, value) in self.dims.items()})
        if getattr(traced, "free_symbols", ()):
            raise UnsupportedError(
                f"A size, {size}, depends on the data: porter writes sizes that follow from those of the inputs."
            )
        return int(traced) if traced == int(traced) else float(traced)


def values_in(structure: Any) -> list[Value]:
    """The values inside nested lists, tuples, dicts and slices."""
    found: list[Value] = []
    _gather(structure, found)
    return found


def _gather(structure: Any, found: list[Value]) -> None:
    # Most passes ask every node for its inputs, and most of what is in one is a Value, a number or a short list.
    if isinstance(structure, Value):
        found.append(structure)
    elif isinstance(structure, (list, tuple, dict)):
        for item in structure.values() if isinstance(structure, dict) else structure:
            if type(item) is Value:
                found.append(item)
            elif type(item) not in _PLAIN:
                _gather(item, found)
    elif isinstance(structure, slice):
        _gather((structure.start, structure.stop, structure.step), found)


_PLAIN = frozenset({int, float, str, bool, type(None)})


def map_values(structure: Any, function: Callable[[Value], Any]) -> Any:
    """The same structure with every value replaced by `function(value)`."""
    if isinstance(structure, Value):
        return function(structure)
    if isinstance(structure, list):
        return [map_values(item, function) for item in structure]
    if isinstance(structure, tuple):
        return tuple(map_values(item, function) for item in structure)
    if isinstance(structure, dict):
        return {key: map_values(item, function) for key, item in structure.items()}
    if isinstance(structure, slice):
        return slice(*map_values([structure.start, structure.stop, structure.step], function))
    return structure
