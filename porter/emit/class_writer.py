"""One class: its constructor, its `__call__`, and the text of what they read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from porter.emit.arguments import Arguments
from porter.emit.attributes import Attributes, Place
from porter.emit.body import Body
from porter.emit.conditions import condition
from porter.emit.constructor import Constructor
from porter.emit.decoder import STATE_TYPES
from porter.emit.encoder_decoder import forward, names_of, parts
from porter.emit.list_caches import ListCaches
from porter.emit.literals import Vector, is_constant
from porter.emit.places import blocks_of
from porter.emit.repeated import name_repeated
from porter.emit.sizes import symbols_of
from porter.ir import Memory, Node, Value
from porter.passes.factor.blocks import Block, Item, Loop
from porter.passes.factor.classes import BlockClass
from porter.passes.factor.layer_names import member_path

if TYPE_CHECKING:
    from porter.emit.file import ModelWriter


#: The types of arguments that are no arrays.
_TYPES = STATE_TYPES | {"size": "int"}


class ClassWriter:
    """Writes one class; it is also what the body asks for the text of layers, children and parameters."""

    def __init__(self, model: ModelWriter, cls: BlockClass, takes_args: bool):
        self.model = model
        self.cls = cls
        self.template = cls.template
        self.arguments = Arguments.of(
            cls, model.config, takes_args, model.variants, cls.template is model.root
        )
        self.members = self._members()
        self.attributes = Attributes.of(cls, list(dict.fromkeys(path for path, _ in self._paths())))
        self.arguments.reserved = {str(place[0]) for place in self.attributes.places.values()}
        model.arguments[cls] = self.arguments
        model.housing.attributes[cls] = self.attributes

    def _paths(self) -> list[tuple[str, Item | Value]]:
        """Relative source paths of everything the template keeps."""
        found: list[tuple[str, Item | Value]] = []
        for item in self.template.items:
            if isinstance(item, Block):
                found.append((self.template.relative(item.path), item))
                found += self._given(item.inputs)
            elif isinstance(item, Loop):
                found += self._given(item.inputs)
                found += [(self.template.relative(block.path), item) for block in item.blocks]
            elif item.is_layer:
                found.append((member_path(self.template, item), item))
                found += self._given(item.args)
            else:
                for value in item.inputs():
                    if (
                        value.is_parameter
                        and self.template.owns(value.path or "")
                        and not self.model.housing.keeps(self.template, value)
                    ):
                        found.append((self.template.relative(value.path or ""), value))
        return found + self._given(self.template.outputs)

    def _given(self, inputs: list[Any]) -> list[tuple[str, Item | Value]]:
        """Parameters of this class that it hands to a child."""
        own = [
            v
            for v in inputs
            if v is not None and v.is_parameter and self.template.owns(v.path or "")
        ]
        return [
            (self.template.relative(v.path), v)
            for v in own
            if not self.model.housing.keeps(self.template, v)
        ]

    def _members(self) -> list[tuple[str, list[tuple[int, Any]]]]:
        members: dict[str, list[tuple[int, Any]]] = {}
        seen: set[int] = set()
        written: set[str] = set()  # by a loop that runs over several
        for path, thing in self._paths():
            if path in written or id(thing) in seen:
                continue
            if path in members:  # a layer without parameters that is called several times
                known = {i for i, _ in members[path]}
                more = enumerate(self.cls.of(thing) if isinstance(thing, Node) else ())
                members[path] += [(i, o) for i, o in more if o is not None and i not in known]
                continue
            seen.add(id(thing))
            if isinstance(thing, Loop):
                written |= {self.template.relative(block.path) for block in thing.blocks}
            if isinstance(thing, Value):
                items: list[tuple[int, Any]] = [
                    (i, mapping.get(thing, thing if i == 0 else None))
                    for i, mapping in enumerate(self.cls.values)
                ]
            else:
                items = list(enumerate(self.cls.of(thing)))
            members[path] = [(i, found) for i, found in items if found is not None]
        return list(members.items())

    def write(self) -> str:
        constructor = Constructor(
            self.cls, self.arguments, self.attributes, self._child_info, self.model.variants,
            self.model.program.layer_words,
        )  # fmt: skip
        root = self.template is self.model.root
        names = [value.origin or "x" for value in self.template.inputs] if root else None
        self.conditions: dict[Item, str] = {}
        member_lines = constructor.lines(self.members, self._source_order)
        memory = self.model.program.memory if root else None
        methods = [] if memory is None else self._encode_and_decode(memory)
        self.body = body = Body(self.cls, self.arguments, self, names)
        call_lines = body.write() if memory is None else methods.pop()
        if self.model.program.shards is not None:
            self.model.divide(cls=self.cls, sizes=body.statements.nodes, lines=call_lines)
        attribute_lines = [
            f"self.{name} = {text}" for name, text in self.arguments.attributes.items()
        ]
        if root:
            self.arguments.uses_args = True
        own = ["self.args = args", "self.model_type = args.model_type"]
        init = [
            "super().__init__()",
            *(own if root and self.model.program.sights else ()),
            *name_repeated([*attribute_lines, *member_lines]),
            *(["self.sharding_group = None"] if self._adds_up() else ()),
        ]
        parameters = ", ".join(["self", *self.arguments.signature()])
        absent = body.given.absent
        optional = [
            bool(self.cls.lacking(value))
            or (bool(absent) and (value in absent or value.dtype in STATE_TYPES))
            for value in self.template.inputs
        ]
        annotations = [
            _TYPES[value.dtype]
            if value.dtype in STATE_TYPES
            else _TYPES.get(value.dtype, "mx.array")
            + " | None" * optional[place]
            + " = None" * all(optional[place:])
            for place, value in enumerate(self.template.inputs)
        ]
        named = [
            f"{name}: {annotation}"
            for name, annotation, value in zip(
                body.statements.names_of_inputs, annotations, self.template.inputs, strict=True
            )
            if memory is None or value.dtype != "caches"
        ]
        inputs = ", ".join(["self", *named])
        returns = self._return_type()
        lines = [f"class {self.cls.name}(nn.Module):"]
        lines += [f"    def __init__({parameters}):", *(f"        {line}" for line in init), ""]
        lines += [f"    {line}" if line else "" for line in methods]
        lines += [
            f"    def __call__({inputs}) -> {returns}:",
            *(f"        {line}" for line in call_lines),
        ]
        return "\n".join(lines)

    def _adds_up(self) -> bool:
        """Whether processes that share the module each have a summand of its result."""
        return any(isinstance(item, Node) and item.op == "all_sum" for item in self.template.items)

    def _encode_and_decode(self, memory: Memory) -> list[Any]:
        """The lines of the two methods, and last the statements of a `__call__` that does both."""
        encode, decode = parts(self.template, memory)
        lines: list[Any] = []
        for name, part in (("encode", encode), ("decode", decode)):
            names = names_of(part, memory)
            cls = replace(self.cls, template=part)
            self.body = body = Body(cls, self.arguments, self, names)
            statements = body.write()
            inputs = [
                f"{name}: {_TYPES.get(value.dtype) or 'mx.array'}"
                for name, value in zip(names, part.inputs, strict=True)
            ]
            returns = ["mx.array"] * len(part.outputs)
            result = returns[0] if len(returns) == 1 else f"tuple[{', '.join(returns)}]"
            lines += [f"def {name}({', '.join(['self', *inputs])}) -> {result}:"]
            lines += [*(f"    {line}" for line in statements), ""]
        return [*lines, forward(self.model.program, encode, decode, memory)]

    def _return_type(self) -> str:
        kind = self.output_kind(self.cls)
        if isinstance(kind, list):
            return "dict[str, mx.array]"
        count = len(self.template.outputs)
        return "mx.array" if count == 1 else f"tuple[{', '.join(['mx.array'] * count)}]"

    def _source_order(self, path: str) -> int:
        full = f"{self.template.path}.{path}" if self.template.path else path
        order = self.model.module_order
        return order.get(full, order.get(full.rpartition(".")[0], len(order)))

    def _child_info(self, block: Block) -> tuple[BlockClass, Arguments, int]:
        cls = self.model.classes[block]
        return cls, self.model.arguments[cls], self.model.instance[block]

    # --- what the body asks for

    def lists(self) -> ListCaches:
        """The lists of layers further down that are handed caches here."""
        return ListCaches(self.template, self.attributes, self.model.housing)

    def no_caches(self, caches: Value) -> str:
        """What stands for the caches of a forward that has none and hands one to each layer."""
        count = self._cache_count(caches)
        if self.model.program.memory is not None:
            return f"[(None, None)] * {count}"
        none = {
            repr((None,) * len(kind)) if isinstance(kind, tuple) else "None"
            for kind in self.model.program.sights
        }
        if len(none) == 1:
            return f"[{none.pop()}] * {count}"
        words = zip(self.model.program.layer_words, self.model.program.sights, strict=True)
        several = {word: kind for word, kind in words if isinstance(kind, tuple)}
        each = "".join(f'{(None,) * len(k)} if kind == "{w}" else ' for w, k in several.items())
        return f"[{each}None for kind in {self.layer_kinds()}]"

    def _cache_count(self, caches: Value) -> str:
        """The number of caches of a forward that hands one to each layer."""
        if self.lists().turns:
            total = self.lists().count()
            return f"({total})" if "+" in total else total
        inputs = [(b, v) for i in self.template.items for b in blocks_of(i) for v in b.inputs if v]
        cached = {
            self.attributes.places[self.template.relative(block.path)]
            for block, value in inputs
            if value.node is not None and value.node.op == "cache[]"
        }
        turn = caches.node  # through one of several lists
        stop = len(self.model.program.sights) if turn is None else turn.attrs["stop"]
        count = stop - (0 if turn is None else turn.attrs["start"])
        lists = {place[:-1] for place in self.attributes.places.values() if len(place) == 2}
        for name in lists:
            if cached == {p for p in self.attributes.places.values() if p[:-1] == name}:
                times, rest = divmod(count, len(cached))
                if not rest:
                    return f"{times} * len(self.{name[0]})" if times > 1 else f"len(self.{name[0]})"
        return str(count)

    def layer_kinds(self, loop: Loop | None = None) -> str:
        """`self.layer_types`, which says of each layer how far it looks back."""
        vector = {0: self.model.program.layer_words}
        text = self.arguments.resolve(vector, "layer_types", in_call=True)
        if loop is None:
            return text
        slot = next(iter(loop.caches), None)
        first = loop.slots[0][slot].node if slot is not None else None
        start = first.attrs["index"] if first is not None else 0
        return f"{text}[{start}:]" if start else text

    def local_name(self, value: Value) -> str | None:
        """What the author's forward calls an array that it is given, or that a module below gives it."""
        return self._forward_names().get(value.origin or "", value.name)

    def is_named(self, value: Value) -> bool:
        """Whether the author's forward has a name for an array that crosses into it, or from a module below."""
        return value.origin in self._forward_names()

    def _forward_names(self) -> dict[str, str]:
        call = (self.template.path, self.template.call)
        return self.model.program.forward_names.get(call, {})

    def child(self, block: Block) -> str:
        place = self.attributes.places[self.template.relative(block.path)]
        tail = self._tail(place[:-1])
        if tail is not None and int(place[-1]) >= tail[0]:
            place = (*place[:-1], int(place[-1]) - tail[1])
        return "self" + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in place)

    def _tail(self, name: Place) -> tuple[int, int] | None:
        """Where a list's one loop ends, and its length: what comes after is counted from the end."""
        loops = [
            found
            for loop in self.template.items
            if isinstance(loop, Loop)
            for found in [
                [self.attributes.places[self.template.relative(b.path)] for b in loop.blocks]
            ]
            if found[0][:-1] == name
        ]
        siblings = [p for p in self.attributes.places.values() if p[:-1] == name and len(p) > 1]
        if len(loops) != 1:
            return None
        end = int(loops[0][-1][-1]) + 1
        return (end, len(siblings)) if len(siblings) - end <= _SHORT_TAIL else None

    def layer(self, node: Node) -> str:
        return self.attributes.text(member_path(self.template, node))

    def parameter(self, value: Value) -> str:
        owner = self.model.housing.layer_of(self.template, value)
        if owner is not None:
            role = next(role for role, p in owner.params.items() if p.path == value.path)
            return f"{self.layer(owner)}.{role}"
        below = self.model.housing.find_below(self.template, value)
        if below is not None:
            return f"self{below}"
        return self.attributes.text(self.template.relative(value.path or ""))

    def optional_parameter(self, value: Value) -> str:
        """A parameter, or None in an instance that lacks it."""
        place = self.attributes.places[self.template.relative(value.path or "")]
        return f'self.get("{place[0]}")'

    def iterable(self, loop: Loop) -> tuple[str, str]:
        """`self.blocks` and `block`; a slice where the loop leaves some out."""
        place = self.attributes.places[self.template.relative(loop.blocks[0].path)]
        return self.list_part(place[:-1], int(place[-1]), len(loop.blocks))

    def list_part(self, whole: Place, start: int, count: int) -> tuple[str, str]:
        """So many members of a list from one of them on, and what one of them is called."""
        text = "self" + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in whole)
        depth = len(whole)  # a member that is a list itself has places further in
        siblings = {
            p[depth]
            for p in self.attributes.places.values()
            if len(p) > depth and p[:depth] == whole
        }
        total = len(siblings) or self._rows(whole)
        end = start + count - (total if self._tail(whole) is not None else 0)
        if start or total != count:
            text += f"[{start or ''}:{end if start + count < total else ''}]"
        word = next(str(part) for part in reversed(whole) if isinstance(part, str))
        if word in _WHOLES:
            return text, "layer"
        is_plural = word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3
        return text, word[:-1] if is_plural else word

    def _rows(self, place: Place) -> int:
        """How many rows an array of the class's own has."""
        paths = {path for path, own in self.attributes.places.items() if own == place}
        arrays = [thing for path, thing in self._paths() if path in paths]
        return next((int(v.shape[0]) for v in arrays if isinstance(v, Value) and v.rank), 0)

    def condition(self, item: Item, flag: Vector) -> str:
        """How the forward asks whether this instance has an optional part."""
        return condition(self, item, flag)

    def output_kind(self, cls: BlockClass) -> list[str] | None:
        """The keys of the returned dict, for the root of a model that returns one."""
        if cls.template is self.model.root and self.model.program.output_kind == "dict":
            return [name for name, _ in self.model.program.outputs]
        return None

    def want(self, vector: Vector, node: Node) -> None:
        """Says that a node needs a size that nothing in reach has."""
        for i, other in enumerate(self.cls.of(node)):
            sizes = self.model.wanted.setdefault(other, []) if i in vector and other else []
            if i in vector and vector[i] not in sizes:
                sizes.append(vector[i])

    def traced_size(self, vector: Vector, node: Node) -> str:
        """A symbolic size that nothing in reach has, as it was when traced; an argument where the instances differ."""
        count = len(self.cls.instances)
        vector = {i: size for i, size in vector.items() if i < count}
        traced = {i: self.model.program.number(size) for i, size in vector.items()}
        self.want(vector, node)
        for symbol in symbols_of(vector):
            if symbol in self.model.program.dims:
                dim = self.model.program.dims[symbol][0]
                self.model.unknown.setdefault(dim, str(node.location))
        sizes = ", ".join(map(str, dict.fromkeys(traced.values())))
        note = f"a size stayed {sizes} as traced ({node.location})"
        if note not in self.model.notes:
            self.model.notes.append(note)
        if is_constant(traced):
            return sizes
        return self.arguments.resolve(traced, "size", in_call=True)


#: What a list is called after the whole that it makes up.
_WHOLES = {"model", "net", "main", "body"}
#: More items than these after a list's loop are counted from its start as well.
_SHORT_TAIL = 2
