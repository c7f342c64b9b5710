"""Whether two calls compute the same up to numbers, activations and parts that one of them lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from porter.ir import Node, Value
from porter.ir.ops import ACTIVATIONS, ELEMENTWISE, FILLED, LAST_AXIS_LAYERS
from porter.passes.factor.blocks import Block, Item, Loop, reads
from porter.passes.factor.expand_views import RESHAPES, Chain, chain_to, expanded
from porter.passes.factor.layer_names import layer_path, variant
from porter.passes.factor.roll import list_position

#: Functions that one class may take as an argument.
_EXCHANGEABLE = ACTIVATIONS | {"mx.sigmoid", "mx.tanh"}


#: Ops whose numbers are axes: structure, not something to pass.
_BY_AXES = {".transpose", ".squeeze", "mx.expand_dims"}


class Unifier:
    """Maps the values and items of a template block to those of another.

    `values` and `items` hold the pairs found; an item of the template that the other lacks maps to None. `chains` are the
    other's reshapes that had to be written out: `write_out` puts them into its items.
    """

    def __init__(self, template: Block, block: Block, same_class: Callable[[Block, Block], bool]):
        self.template = template
        self.block = block
        self.same_class = same_class
        self.values: dict[Value, Value] = {}
        self.items: dict[Item, Item | None] = {}
        self.chains: dict[Node, Chain] = {}
        self._writers = [_writers(template), _writers(block)]
        self._any_rank = _takes_any_rank(template) and _takes_any_rank(block)

    def run(self) -> bool:
        """Whether the other block is an instance of the template."""
        a, b = self.template, self.block
        if len(a.outputs) != len(b.outputs) or len(a.inputs) < len(b.inputs):
            return False
        if a.is_sequential and len(a.items) != len(b.items):
            return False
        if not all(self._value(x, y) for x, y in zip(a.outputs, b.outputs, strict=True)):
            return False
        matched = {item for item in self.items.values() if item is not None}
        self.chains = {
            n: c for n, c in self.chains.items() if n not in matched and c[-1] in matched
        }
        written = sum(len(chain) - 1 for chain in self.chains.values())
        counted = [item for item in b.items if item in matched or not _is_cache(item)]
        if len(matched) != len(counted) + written:
            return False
        for item in a.items:
            if self.items.setdefault(item, None) is None and self._is_of_a_kept_list(item):
                return False
        bound = [self.values.get(value) if value is not None else None for value in a.inputs]
        if {value for value in bound if value is not None} != set(b.inputs):
            return False
        b.inputs = bound  # in the template's order; None is what this instance does without
        return True

    def write_out(self) -> None:
        """Puts the chains in the place of the reshapes that they stand for."""
        for node, chain in self.chains.items():
            chain[-1].outputs = node.outputs
            node.output.node = chain[-1]
            position = self.block.items.index(node)
            self.block.items[position : position + 1] = chain

    def _value(self, a: Value, b: Value) -> bool:
        if a in self.values:
            return self.values[a] is b
        if a.is_parameter or b.is_parameter:
            return self._parameter(a, b)
        item_a, item_b = self._writers[0].get(a), self._writers[1].get(b)
        if item_a is None or item_b is None:
            if (
                item_a is None
                and item_b is None
                and (a.rank == b.rank or self._any_rank)
                and a.dtype == b.dtype
                and (b not in self.values.values() or self._serves_several(b))
            ):
                self.values[a] = b
                return True
            return item_a is not None and self._skip(a, item_a, b)
        saved = (dict(self.values), dict(self.items))
        for attempt in (self._chain, self._same):
            if attempt(a, item_a, b, item_b):
                return True
            self.values, self.items = dict(saved[0]), dict(saved[1])
        return self._skip(a, item_a, b)

    def _serves_several(self, value: Value) -> bool:
        """Whether an array may be given for several inputs: the first step of a loop starts from one of zeros, say."""
        filled = value.node is not None and value.node.op in FILLED
        return filled or self.template.path == self.block.path

    def _same(self, a: Value, item_a: Item, b: Value, item_b: Item) -> bool:
        return self._item(item_a, item_b) and item_a.outputs.index(a) == item_b.outputs.index(b)

    def _chain(self, a: Value, item_a: Item, b: Value, item_b: Item) -> bool:
        """The other's reshape does what the template's reshapes and transpose do."""
        if not isinstance(item_b, Node) or item_b.op not in RESHAPES:
            return False
        chain = chain_to(item_a, self._writers[0])
        if not chain or item_b in self.items.values() or chain_to(item_b, self._writers[1]):
            return False
        found = expanded(chain, item_b)
        if not found:
            return False
        self.items.update(zip(chain, found, strict=True))
        self.values[a] = b
        for ours, theirs in zip(chain[:-1], found[:-1], strict=True):
            self.values[ours.output] = theirs.output
        self.chains[item_b] = found
        return self._value(chain[0].args[0], item_b.args[0])

    def _parameter(self, a: Value, b: Value) -> bool:
        if not (a.is_parameter and b.is_parameter) or a.rank != b.rank:
            return False
        inside = self.template.owns(a.path or ""), self.block.owns(b.path or "")
        same = self.template.relative(a.path or "") == self.block.relative(b.path or "")
        if inside == (True, True) and not same:
            return False
        if inside[0] != inside[1] or str(a.recipe).count("(") != str(b.recipe).count("("):
            return False
        self.values[a] = b
        return True

    def _is_of_a_kept_list(self, item: Item) -> bool:
        """Whether an item is in a list of which the other block has members: the lists of one class have one length."""
        lists = _lists(self.template.relative(_path(item)))
        return any(lists & _lists(self.block.relative(_path(o))) for o in self.block.items)

    def _skip(self, a: Value, item: Item, b: Value) -> bool:
        """The template's item is a part that the other block lacks: one of the item's operands takes its place."""
        if isinstance(item, Loop) or len(item.outputs) != 1 or item in self.items:
            return False
        operands = [v for v in reads(item) if not v.is_parameter]
        if isinstance(item, Node) and item.is_layer and len(operands) != 1:
            return False
        if self._is_of_a_kept_list(item):
            return False
        for operand in operands:
            if operand.rank != b.rank:
                continue
            saved = (dict(self.values), dict(self.items))
            self.items[item] = None
            if self._value(operand, b):
                self.values[a] = b
                return True
            self.values, self.items = saved
        return False

    def _item(self, a: Item, b: Item) -> bool:
        if a in self.items:
            return self.items[a] is b
        self.items[a] = b
        if isinstance(a, Node) and isinstance(b, Node):
            fits = self._node(a, b)
        elif isinstance(a, Block) and isinstance(b, Block):
            fits = (
                self.template.relative(a.path) == self.block.relative(b.path)
                and self.same_class(a, b)
                and self._inputs(a, b)
                and len(a.outputs) == len(b.outputs)
            )
        elif isinstance(a, Loop) and isinstance(b, Loop):
            fits = self._loop(a, b)
        else:
            return False
        if fits:
            self.values.update(zip(a.outputs, b.outputs, strict=True))
        return fits

    def _node(self, a: Node, b: Node) -> bool:
        if a.op != b.op and not (a.op in _EXCHANGEABLE and b.op in _EXCHANGEABLE):
            return False
        if a.op in _BY_AXES and a.args[1:] != b.args[1:]:
            return False
        if a.kwargs.get("axis") != b.kwargs.get("axis"):
            return False
        if [value.dtype for value in a.outputs] != [value.dtype for value in b.outputs]:
            return False  # a cast has its type there alone
        if a.op == ".reshape" and _order(a.output) != _order(b.output):
            return False  # a map with its channels first is no map with them last
        if (
            len(a.outputs) != len(b.outputs)
            or a.params.keys() != b.params.keys()
            or a.attrs.keys() != b.attrs.keys()
        ):
            return False
        if a.is_layer and variant(self.template, a) != variant(self.block, b):
            return False
        return (
            self._all(list(a.params.values()), list(b.params.values()))
            and self._structure(a.args, b.args)
            and self._structure(a.kwargs, b.kwargs)
            and self._structure(a.attrs, b.attrs)
        )

    def _loop(self, a: Loop, b: Loop) -> bool:
        if (a.carried, a.caches, a.masks) != (b.carried, b.caches, b.masks):
            return False
        if len(a.turns[0]) != len(b.turns[0]):
            return False
        if not all(map(self.same_class, a.blocks, b.blocks)):
            return False
        if self.template.relative(a.blocks[0].path) != self.block.relative(b.blocks[0].path):
            return False
        if len(a.blocks) != len(b.blocks) and not (
            _fills_its_list(self.template, a) and _fills_its_list(self.block, b)
        ):
            return False
        glue = zip(a.turns[0][1:], b.turns[0][1:], strict=True)
        if any(not isinstance(x, Node) or not isinstance(y, Node) or x.op != y.op for x, y in glue):
            return False
        return self._all(a.slots[0], b.slots[0])

    def _inputs(self, a: Block, b: Block) -> bool:
        """Whether two calls of one class are given the same; a parameter may be given to one alone."""
        for x, y in zip(a.inputs, b.inputs, strict=True):
            if x is None or y is None:
                if y is not None or (x is not None and not x.is_parameter):
                    return False
            elif not self._value(x, y):
                return False
        return True

    def _all(self, a: list[Value], b: list[Value]) -> bool:
        return len(a) == len(b) and all(self._value(x, y) for x, y in zip(a, b, strict=True))

    def _structure(self, a: Any, b: Any) -> bool:
        if isinstance(a, Value) and b is None:
            return (
                a in self.template.inputs and a not in self.values
            )  # a mask that the other does without
        if isinstance(a, Value) or isinstance(b, Value):
            return isinstance(a, Value) and isinstance(b, Value) and self._value(a, b)
        if isinstance(a, dict) and isinstance(b, dict):
            return a.keys() == b.keys() and all(self._structure(a[key], b[key]) for key in a)
        if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
            return len(a) == len(b) and all(
                self._structure(x, y) for x, y in zip(a, b, strict=True)
            )
        if isinstance(a, slice) and isinstance(b, slice):
            return self._structure([a.start, a.stop, a.step], [b.start, b.stop, b.step])
        numbers = (int, float)
        if (
            isinstance(a, bool)
            or isinstance(b, bool)
            or isinstance(a, str)
            or isinstance(b, str)
            or a is None
            or b is None
        ):
            return (a == b and type(a) is type(b)) or (isinstance(a, bool) and isinstance(b, bool))
        return (
            isinstance(a, numbers) == isinstance(b, numbers)
            or hasattr(a, "free_symbols")
            or hasattr(b, "free_symbols")
        )


def _takes_any_rank(block: Block) -> bool:
    """Whether a block looks at the last axis and at single elements alone: a norm of tokens is one of heads too."""
    return all(
        isinstance(item, Node)
        and (item.op in LAST_AXIS_LAYERS or (item.op in ELEMENTWISE and not item.kwargs))
        for item in block.items
    )


def _order(value: Value) -> tuple[int, ...]:
    """In which order the author's axes are stored."""
    return value.permute or tuple(range(value.rank))


def _is_cache(item: Item) -> bool:
    """Whether it is an item of a list of caches: a loop that runs over them compares the first alone."""
    return isinstance(item, Node) and item.op == "cache[]"


def _writers(block: Block) -> dict[Value, Item]:
    return {value: item for item in block.items for value in item.outputs}


def _fills_its_list(block: Block, loop: Loop) -> bool:
    """Whether the loop's list holds nothing but what the loop runs over."""
    place = list_position(block.relative(loop.blocks[0].path))
    if place is None:
        return True
    others = [path for item in block.items if item is not loop for path in _places(block, item)]
    return all((found := list_position(path)) is None or found[0] != place[0] for path in others)


def _places(block: Block, item: Item) -> list[str]:
    """Where the block keeps an item: the relative paths of modules."""
    if isinstance(item, Node):
        return [block.relative((v.path or "").rpartition(".")[0]) for v in item.params.values()]
    return [
        block.relative(inner.path) for inner in (item.blocks if isinstance(item, Loop) else [item])
    ]


def _lists(path: str) -> set[tuple[str, ...]]:
    """The lists that a place is in: what stands before each number in its path, nothing where the block is one."""
    parts = path.split(".")
    return {(*parts[:k],) for k, part in enumerate(parts) if part.isdigit()}


def _path(item: Item) -> str:
    """Where the source keeps a block, the first block of a loop, or a layer."""
    if isinstance(item, Node):
        return layer_path(item) if item.is_layer else ""
    return item.blocks[0].path if isinstance(item, Loop) else item.path
