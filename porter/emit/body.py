"""The forward of a class: statements over named locals, everything used once inlined while it stays readable."""

from __future__ import annotations

from typing import Any

from porter.emit.arguments import Arguments
from porter.emit.decoder import OVER_PROCESSES
from porter.emit.expressions import Vector, literal
from porter.emit.names import identifier, variable
from porter.emit.node_text import NodeText
from porter.emit.syntax import ATOM, Text, sequence
from porter.ir import Node, Value
from porter.passes.factor.classes import BlockClass
from porter.passes.factor.tree import Block, Item, Loop, reads

#: What a loop over layers calls the cache of a layer, as mlx-lm does.
_CACHE_WORD = "c"
#: An expression longer or deeper than this gets a name.
_LONG, _DEEP = 74, 4


class Body:
    """Writes `__call__` of one class. `lines` are its statements, without the indent of the method."""

    def __init__(
        self,
        cls: BlockClass,
        arguments: Arguments,
        places: Any,
        root: bool,
        inputs: list[str] | None = None,
    ):
        self.cls = cls
        self.template = cls.template
        self.arguments = arguments
        self.places = places  # .child(item), .layer(node), .parameter(value)
        self.root = root
        self.lines: list[str] = []
        self.indent = 0
        self.names: dict[Value, str] = {}
        self.pending: dict[Value, Text] = {}
        self.flags: dict[str, str] = {}
        self.left = self._count_reads()
        self.functions = {
            item.op.removeprefix("fn.")
            for item in self.template.items
            if isinstance(item, Node) and item.op.startswith("fn.")
        }
        self.taken_by_inputs: list[str] = []
        self._name_inputs(inputs)
        self.nodes = NodeText(cls, arguments, places, self)
        self.deferred: dict[Item, list[Item]] = self._dependents()
        self.unpacked = {
            i.args[0] for i in self.template.items if isinstance(i, Node) and i.op == "unpack"
        }
        self.fetched = {  # written where it is known that they are needed
            value
            for i in self.template.items
            if isinstance(i, Node) and i.op == "update_and_fetch" and i.attrs.get("once")
            for value in i.args[:2]
        }
        self.branch = {
            value for items in self.deferred.values() for item in items for value in item.outputs
        }

    # --- preparation

    def _count_reads(self) -> dict[Value, int]:
        left: dict[Value, int] = {}
        for item in self.template.items:
            for value in (
                list(item.inputs())
                if isinstance(item, Node)
                else [v for v in item.inputs if v is not None]
            ):
                if not value.is_parameter:
                    left[value] = left.get(value, 0) + 1
        for value in self.template.outputs:
            left[value] = left.get(value, 0) + 1
        return left

    def _name_inputs(self, given: list[str] | None) -> None:
        spare = ("x", "y", "z", "u", "v", "w")
        for position, value in enumerate(self.template.inputs):
            if given is not None:
                name = identifier(given[position])
            elif len(self.template.inputs) == 1 or (
                position == 0 and value.dtype.startswith("float")
            ):
                name = "x"
            elif value.dtype == "mask" and self._masks() > 1:
                name = identifier(value.name or "mask")
            elif value.dtype == "bool" or (value.name and "mask" in value.name):
                hint = "memory_mask" if value.name == "memory_mask" else "mask"
                name = variable(hint, self.functions.union(self.taken_by_inputs), spare)
            else:
                name = variable(
                    value.name or (value.path or "").rpartition(".")[2] or None,
                    self.functions.union(self.taken_by_inputs),
                    spare,
                )
            self.taken_by_inputs.append(name)
            self.names[value] = name

    def _masks(self) -> int:
        return sum(value.dtype == "mask" for value in self.template.inputs)

    def _dependents(self) -> dict[Item, list[Item]]:
        """Items that only an optional item needs, lacking where it is: they are written inside its branch."""
        readers: dict[Value, list[Item]] = {}
        for item in self.template.items:
            for value in reads(item):
                readers.setdefault(value, []).append(item)
        result: dict[Item, list[Item]] = {}
        inside: set[Item] = set()
        backwards = list(reversed(self.template.items))
        for place, head in enumerate(backwards):
            given = _is_given(head)
            if (
                head in inside
                or isinstance(head, Loop)
                or not (given or self.cls.is_optional(head))
            ):
                continue
            branch: list[Item] = [head]
            absent = self._absence(head)
            own = self._fallback(head, branch) if given else None
            for item in backwards[place + 1 :]:
                if self._absence(item) != absent or own in item.outputs:
                    continue
                if isinstance(item, Loop) and not given:
                    continue
                users = [user for value in item.outputs for user in readers.get(value, [])]
                needed_outside = any(value in self.template.outputs for value in item.outputs)
                if users and not needed_outside and set(users) <= set(branch):
                    branch.append(item)
            if self._fallback(head, branch) is not None:
                result[head] = branch[:0:-1]
                inside |= set(branch[1:])
        return result

    def _absence(self, item: Item) -> frozenset[int]:
        return frozenset(i for i, found in enumerate(self.cls.of(item)) if found is None)

    def _fallback(self, head: Item, branch: list[Item]) -> Value | None:
        """What takes the place of an optional item's output where it and the rest of its branch are lacking."""
        if len(head.outputs) != 1:
            return None
        if _is_given(head):
            return head.args[2]  # type: ignore[union-attr, no-any-return]
        absent = next(iter(self._absence(head)), None)
        if absent is None:
            return None
        mapping = self.cls.values[absent]
        target = mapping.get(head.outputs[0])
        written = {value for item in branch for value in item.outputs}
        operands = [v for item in branch for v in reads(item) if v not in written]
        return next((v for v in operands if target is not None and mapping.get(v) is target), None)

    # --- statements

    def write(self) -> list[str]:
        """The statements of the forward."""
        inside = {item for items in self.deferred.values() for item in items}
        for item in self.template.items:
            if item not in inside:
                self._item(item)
        self._return()
        inputs = zip(self.template.inputs, self.names_of_inputs(), strict=True)
        given = {item.attrs["given"] for item in self.template.items if _is_given(item)}  # type: ignore[union-attr]
        shapes = [
            line
            for value, name in inputs
            if value.origin not in given
            for line in self.nodes.shape_lines(value, name)
        ]
        return shapes + self._caches() + join_branches(self.lines)

    def _caches(self) -> list[str]:
        """Where a forward starts without a cache, each layer gets None, or a None for each part of its cache."""
        items = [
            i
            for i in self.template.items
            if isinstance(i, Node) and i.op == "cache[]" and i.args[0].dtype == "caches"
        ]
        if not items:
            return []
        name = self.names[items[0].args[0]]
        return [f"{name} = {name} or {self.places.no_caches()}"]

    def names_of_inputs(self) -> list[str]:
        return self.taken_by_inputs

    def say(self, line: str) -> None:
        self.lines.append("    " * self.indent + line)

    def _item(self, item: Item) -> None:
        if self.cls.is_optional(item) or _is_given(item):
            self._optional(item)
        elif isinstance(item, Loop):
            self._loop(item)
        elif isinstance(item, Node) and item.op == "cache[]":
            pass  # written where it is read
        elif isinstance(item, Node) and item.op == "update_and_fetch":
            self._update(item)
        elif isinstance(item, Node) and item.op == "cache.advance":
            self._advance(item)
        elif isinstance(item, Node) and item.op in OVER_PROCESSES:
            self._over_processes(item)
        else:
            self._plain(item)

    def _update(self, node: Node) -> None:
        """Keys and values go through the cache, where there is one, and keep their names."""
        if node.attrs.get("once"):
            self._fetch_once(node)
            return
        *operands, cache = node.args
        for value, text in list(self.pending.items()):
            if f"{self.read(cache).code}.offset" in text.code:  # which changes now
                self.assign(value, self.pending.pop(value))
        names: list[str] = []
        for value, name in zip(operands, ("k", "v"), strict=True):
            text = self.read(value)
            if self.left.get(value, 0):  # what the cache doesn't hold yet is read again
                kept = text.code if text.code in self.names.values() else self.assign(value, text)
                names.append(variable(name, self._busy() | set(names), (name, "h", "r", "z")))
                self.say(f"{names[-1]} = {kept}")
                continue
            own = text.code in self.names.values() and not self.left.get(value, 0)
            if not own or text.code in names or text.code in self.taken_by_inputs:
                fresh = variable(
                    value.name or name, self._busy() | set(names), (name, "h", "r", "z")
                )
                text = Text(self.assign(value, text, fresh))
            names.append(text.code)
        state = self.read(cache).code
        for name, value in zip(names, node.outputs, strict=True):
            self._flush(name, value)
            self.names[value] = name
        pair = ", ".join(names)
        self.say(f"if {state} is not None:")
        self.say(f"    {pair} = {state}.update_and_fetch({pair})")

    def _fetch_once(self, node: Node) -> None:
        """Keys and values of what stays the same are made for the first token alone."""
        *operands, cache = node.args
        state = self.read(cache).code
        texts = [self.read(value) for value in operands]
        names: list[str] = []
        for value, text in zip(operands, texts, strict=True):
            busy = self._busy() | set(names) | {n for t in texts if t is not text for n in t.names}
            names.append(variable(value.name or ("k", "v")[len(names)], busy, ("h", "r", "z")))
        pair = ", ".join(names)
        for name, value in zip(names, node.outputs, strict=True):
            self._flush(name, value)
            self.names[value] = name
        self.say(f"if {state} is None or {state}.keys is None:")
        self.indent += 1
        for name, text in zip(names, texts, strict=True):
            if name != text.code:
                self.say(f"{name} = {text.code}")
        self.say(f"if {state} is not None:")
        self.say(f"    {pair} = {state}.update_and_fetch({pair})")
        self.indent -= 1
        self.say("else:")
        self.say(f"    {pair} = {state}.keys, {state}.values")

    def _advance(self, node: Node) -> None:
        """The cache of a state counts the tokens, for texts that are padded."""
        value, cache = node.args
        name = self.name(value)
        state = self.read(cache).code
        self.left[value] -= 1
        self.names[node.output] = name
        self.say(f"if {state} is not None:")
        self.say(f"    {state}.advance({name}.shape[1])")

    def _over_processes(self, node: Node) -> None:
        """What a module adds up over the processes that share it, where there are any."""
        value = node.args[0]
        name = self.name(value)
        self.left[value] -= 1
        self._flush(name, value)
        self.names[node.output] = name
        self.say("if self.sharding_group is not None:")
        self.say(f"    {name} = {OVER_PROCESSES[node.op].format(name)}")
        self._measure(node.output, name)

    def _plain(self, item: Node | Block) -> None:
        text = self.item_text(item)
        if isinstance(item, Node) and item.attrs.get("early"):
            self.assign(item.output, text)
        elif len(item.outputs) == 1:
            self._keep(item.outputs[0], text)
        else:
            self._assign_many(item, text)

    def _keep(self, value: Value, text: Text) -> None:
        """Holds the expression back for the one place that reads it, or gives it a name."""
        last = value in self.template.outputs and len(self.template.outputs) == 1
        readable = (len(text.code) <= _LONG and text.depth <= _DEEP) or value in self.fetched
        free = not self.nodes.is_measured(value) and (
            value in self.branch or not self._is_named(value)
        )
        if self.left.get(value, 0) == 1 and (readable or last or value in self.unpacked) and free:
            self.pending[value] = text
        else:
            self.assign(value, text)

    def _is_named(self, value: Value) -> bool:
        """A value that a loop or an optional part reads needs a name."""
        for item in self.template.items:
            if isinstance(item, Loop) and value in item.inputs:
                return True
            if self.cls.is_optional(item) and value in reads(item):
                return True
        return False

    def _assign_many(self, item: Node | Block, text: Text) -> None:
        names: list[str] = []
        for value in item.outputs:
            if not self.left.get(value, 0):
                names.append("_")
                continue
            name = self._free_name(value, set(names))
            names.append(name)
        self.say(f"{', '.join(names)} = {text.code}")
        for value, name in zip(item.outputs, names, strict=True):
            self.names[value] = name
            self._measure(value, name)

    def assign(self, value: Value, text: Text, name: str | None = None) -> str:
        """`name = text`; expressions held back that read a local of that name are written first."""
        name = name or self._free_name(value, set())
        self._flush(name, value)
        if text.code != name:
            self.say(f"{name} = {text.code}")
        self.names[value] = name
        self._measure(value, name)
        return name

    def _measure(self, value: Value, name: str) -> None:
        for line in self.nodes.shape_lines(value, name):
            self.say(line)

    def _busy(self) -> set[str]:
        """Names that are still read: by what comes later, or by an expression held back."""
        busy = {name for value, name in self.names.items() if self.left.get(value, 0) > 0}
        for text in self.pending.values():
            busy |= text.names
        return busy | self.nodes.dim_names() | self.functions

    def _free_name(self, value: Value, more: set[str]) -> str:
        spare: tuple[str, ...] = ("x", "y", "h", "r", "z", "u", "w", "s", "t")
        hint = value.name if value.name not in ("_", None) else None
        if value.dtype == "bool" and hint is None:
            spare = ("mask", "keep", *spare)
        return variable(hint, self._busy() | more, spare)

    def _flush(self, name: str, target: Value) -> None:
        """Writes the expressions held back that read `name`, which is about to change."""
        for value, text in list(self.pending.items()):
            if name in text.names and value is not target:
                del self.pending[value]
                fresh = variable(
                    value.name, self._busy() | {name}, ("h", "y", "r", "z", "u", "w", "s", "t")
                )
                self.assign(value, text, fresh)

    # --- expressions

    def read(self, value: Value) -> Text:
        """The expression for a value at one place that reads it."""
        if value.is_parameter and value not in self.names:
            return Text(self.places.parameter(value))
        if value.node is not None and value.node.op == "cache[]" and value not in self.names:
            return Text(f"{self.read(value.node.args[0]).code}[{value.node.attrs['index']}]")
        self.left[value] = self.left.get(value, 1) - 1
        if value in self.pending:
            return self.pending.pop(value)
        return Text(self.names[value], ATOM, 0, {self.names[value]})

    def name(self, value: Value) -> str:
        """The value under a name, given now if it had none."""
        if value in self.pending:
            return self.assign(value, self.pending.pop(value))
        if value not in self.names:  # an item of the list of caches
            self.names[value] = self.read(value).code
        return self.names[value]

    def item_text(self, item: Node | Block) -> Text:
        if isinstance(item, Node):
            return self.nodes.text(item)
        return self.call_text(self.places.child(item), self._arguments(item))

    def _arguments(self, block: Block) -> list[Text]:
        """What a call is given; a parameter that some instances lack may be None."""
        texts = []
        for value in block.inputs:
            if value is None:
                texts.append(Text("None"))
            elif value.is_parameter and value not in self.names and self.cls.lacking(value):
                texts.append(Text(self.places.optional_parameter(value)))
            else:
                texts.append(self.read(value))
        while texts and texts[-1].code == "None":
            texts.pop()
        return texts

    @staticmethod
    def call_text(function: str, args: list[Text]) -> Text:
        names = set().union(*(arg.names for arg in args)) if args else set()
        depth = 1 + max((arg.depth for arg in args), default=0)
        return Text(f"{function}({', '.join(arg.code for arg in args)})", ATOM, depth, names)

    # --- optional

    def _optional(self, item: Item) -> None:
        inner = self.deferred.get(item, [])
        fallback = self._fallback(item, [item, *inner])
        if fallback is None or isinstance(item, Loop):
            if not isinstance(item, Loop):
                self._plain(item)
            return
        value = item.outputs[0]
        base = self.name(fallback) if not fallback.is_parameter else self.places.parameter(fallback)
        name = item.attrs.get("given") if isinstance(item, Node) else None
        condition = f"{name} is not None" if name else self.places.condition(item, self._flag(item))
        readers_inside = sum(list(reads(i)).count(fallback) for i in (item, *inner))
        still_read = self.left.get(fallback, 0) > readers_inside or fallback.is_parameter
        if not still_read:
            self._flush(base, value)
        mark = len(self.lines)
        self.indent += 1
        for given, own in zip(self.template.inputs, self.names_of_inputs(), strict=True):
            if name and given.origin == name:
                self._measure(given, own)
        for dependent in inner:
            if isinstance(dependent, Loop):
                self._loop(dependent)
            else:
                self._plain(dependent)
        text = self.item_text(item)  # type: ignore[arg-type]
        self.indent -= 1
        if still_read and len(self.lines) == mark:
            code = f"{text.code} if {condition} else {base}"
            self.assign(value, Text(code, 1, text.depth + 1, text.names | {base}))
            return
        name = self._free_name(value, {base}) if still_read else base
        inside, outside = "    " * (self.indent + 1), "    " * self.indent
        self.lines.insert(mark, f"{outside}if {condition}:")
        self.lines.append(f"{inside}{name} = {text.code}")
        if still_read:
            self.lines += [f"{outside}else:", f"{inside}{name} = {base}"]
        self.names[value] = name
        self._measure(value, name)

    def _flag(self, item: Item) -> Vector:
        return {i: found is not None for i, found in enumerate(self.cls.of(item))}

    # --- loops

    def _loop(self, loop: Loop) -> None:
        turn = loop.turns[0]
        carried = [slot for slot, place in enumerate(loop.carried) if place is not None]
        renamed: dict[int, str] = {}  # slots whose first value is read again after the loop
        for slot, value in enumerate(loop.slots[0]):
            if value.is_parameter or slot in loop.caches:
                continue
            if slot in loop.masks:
                for other in dict.fromkeys(slots[slot] for slots in loop.slots):
                    self.name(other)
                continue
            self.left[value] -= 1
            if slot not in carried:
                self.name(value)
                continue
            if value in self.pending:
                self.assign(value, self.pending.pop(value))
            elif self.left.get(value, 0) > 0:
                old = self.names[value]
                fresh = self._free_name(turn[-1].outputs[0], {old})
                self.say(f"{fresh} = {old}")
                renamed[slot] = fresh
        slot_names = [
            renamed.get(slot)
            or (self.places.parameter(v) if v.is_parameter else self.names.get(v, ""))
            for slot, v in enumerate(loop.slots[0])
        ]
        for slot in carried:
            self._flush(slot_names[slot], loop.slots[0][slot])
        iterable, word = self.places.iterable(loop)
        word = variable(word, self._busy() | set(slot_names), ("block", "layer", "module"))
        self.say(f"for {self._loop_words(loop, iterable, word)}:")
        self.indent += 1
        place_names = {
            place: slot_names[slot] for slot, place in enumerate(loop.carried) if place is not None
        }
        saved = dict(self.names)
        self.names.update({loop.slots[0][slot]: name for slot, name in renamed.items()})
        self.names.update({loop.slots[0][slot]: _CACHE_WORD for slot in loop.caches})
        for slot in loop.masks:
            self.names[loop.slots[0][slot]] = self._mask_of_turn(loop, slot)
        self._turn(loop, turn, word, place_names)
        self.names = saved
        self.indent -= 1
        produced = [value for item in loop.turns[-1] for value in item.outputs]
        for place, name in place_names.items():
            self.names[produced[place]] = name
            self._measure(produced[place], name)

    def _loop_words(self, loop: Loop, iterable: str, word: str) -> str:
        """`layer in self.layers`, with the cache and the kind of each layer beside it where there are."""
        words, lists = [word], [iterable]
        if loop.masks:
            words.append("kind")
            lists.append(self.places.layer_kinds(loop))
        for slot in loop.caches:
            source = loop.slots[0][slot].node
            assert source is not None
            start, name = source.attrs["index"], self.names[source.args[0]]
            words.append(_CACHE_WORD)
            lists.append(f"{name}[{start}:]" if start else name)
        if len(words) == 1:
            return f"{word} in {iterable}"
        return f"{', '.join(words)} in zip({', '.join(lists)})"

    def _mask_of_turn(self, loop: Loop, slot: int) -> str:
        column = {
            slots[slot].node.attrs["word"]: self.names[slots[slot]]  # type: ignore[union-attr]
            for slots in loop.slots
        }
        *some, default = sorted(column, key=lambda word: column[word] == "mask")
        return "".join(f'{column[w]} if kind == "{w}" else ' for w in some) + column[default]

    def _turn(self, loop: Loop, turn: list[Item], word: str, place_names: dict[int, str]) -> None:
        """The loop's body: the call and what follows it, with the carried arrays assigned at the end."""
        saved = (dict(self.names), dict(self.left))
        produced = [value for item in turn for value in item.outputs]
        for value in produced:
            self.left[value] = sum(list(reads(item)).count(value) for item in turn) + (
                produced.index(value) in place_names
            )
        block = turn[0]
        assert isinstance(block, Block)
        args = [
            Text(self.names[v], ATOM, 0, {self.names[v]})
            if v in self.names
            else Text(self.places.parameter(v))
            for v in block.inputs
            if v is not None
        ]
        text = self.call_text(word, args)
        if len(turn) == 1:
            names = [place_names.get(place, "_") for place in range(len(produced))]
            while len(names) > 1 and names[-1] == "_" and len(block.outputs) == 1:
                names.pop()
            self.say(f"{', '.join(names)} = {text.code}")
        else:
            self.pending[block.outputs[0]] = text
            for node in turn[1:]:
                assert isinstance(node, Node)
                for value in node.inputs():
                    self.left[value] = self.left.get(value, 0) + (value not in produced)
                result = self.nodes.text(node)
                place = produced.index(node.output)
                if place in place_names:
                    self.say(f"{place_names[place]} = {result.code}")
                else:
                    self._keep(node.output, result)
        self.names, self.left = saved

    # --- return

    def _return(self) -> None:
        texts = [self.read(value) for value in self.template.outputs]
        kind = self.places.output_kind(self.cls)
        if isinstance(kind, list):
            pairs = ", ".join(
                f"{literal(name)}: {text.code}" for name, text in zip(kind, texts, strict=True)
            )
            self.say(f"return {{{pairs}}}")
        elif len(texts) == 1:
            self.say(f"return {texts[0].code}")
        else:
            self.say(f"return {sequence(texts, '()').code[1:-1]}")


def _is_given(item: Item) -> bool:
    """Whether an item is done only where an input is given, which its `given` names."""
    return isinstance(item, Node) and "given" in item.attrs


def join_branches(lines: list[str]) -> list[str]:
    """Branches on one condition that follow each other become one."""
    result: list[str] = []
    open_branch = ""
    for line in lines:
        if line.startswith("if "):
            if line != open_branch:
                result.append(line)
            open_branch = line
            continue
        if not line.startswith(" "):
            open_branch = ""
        result.append(line)
    return result
