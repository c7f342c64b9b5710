"""The whole file: classes from leaf to root, and with it the recipe of each parameter and what can be compared."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from porter.emit.arguments import Arguments, Config
from porter.emit.attributes import Attributes
from porter.emit.body import Body
from porter.emit.constructor import Constructor
from porter.emit.expressions import Vector, is_constant, literal
from porter.emit.names import class_name, unique
from porter.ir import Node, Program, Value
from porter.passes.factor.classes import BlockClass, factor_classes, fingerprint
from porter.passes.factor.tree import Block, Item, Loop, build_tree, layer_path, reads

LINE_LENGTH = 100


@dataclass(slots=True)
class Emission:
    """The emitted source, ModelArgs' fields, the recipes by MLX path, and the calls that can be compared one by one."""

    source: str
    config: dict[str, Any]
    recipes: dict[str, Any]
    modules: list[dict[str, Any]]
    kept: dict[str, Value] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def emit(program: Program, config: dict[str, Any], model_type: str, title: str) -> Emission:
    """Writes the program as an MLX module.

    `config` holds the source's own names and values for its sizes; the fields that the source uses become ModelArgs.
    """
    root = build_tree(program)
    writer = _ModelWriter(program, root, factor_classes(root), Config(dict(config)))
    return writer.emit(model_type, title)


class _ModelWriter:
    def __init__(
        self, program: Program, root: Block, classes: dict[Block, BlockClass], config: Config
    ):
        self.program = program
        self.root = root
        self.classes = classes
        self.config = config
        self.instance = {block: cls.instances.index(block) for block, cls in classes.items()}
        self.order = _leaves_first(root, classes)
        self.arguments: dict[BlockClass, Arguments] = {}
        self.attributes: dict[BlockClass, Attributes] = {}
        self.notes: list[str] = []
        self.module_order = {path: index for index, path in enumerate(program.modules)}
        self._name_classes()

    def _name_classes(self) -> None:
        taken = {"Model", "ModelArgs"}
        special = {cls: _special_part(cls, self.order) for cls in self.order}
        for cls in self.order:  # children first: a parent is special by the special child it has
            parts = [
                special[self.classes[child]]
                for child in _children(cls.template)
                if special[self.classes[child]]
            ]
            twins = [
                other
                for other in self.order
                if other is not cls and other.template.cls == cls.template.cls
            ]
            if not special[cls] and twins and parts:
                special[cls] = parts[0]
        for cls in reversed(self.order):
            name = class_name(cls.name)
            if not special[cls] and name in taken:
                called = {block.path.rpartition(".")[2] for block in cls.instances}
                attribute = called.pop() if len(called) == 1 else ""
                name = class_name(_camel(attribute)) if attribute.isidentifier() else name
            if special[cls] and name in taken | {
                class_name(o.name) for o in self.order if o is not cls
            }:
                name = f"{name}With{special[cls]}"
            cls.name = "Model" if cls.template is self.root else unique(name, taken)

    # --- style

    def _takes_args(self) -> dict[BlockClass, bool]:
        """A class takes `args` where all its instances are alike and everything around it takes them too."""
        prints = {block: fingerprint(block, self.classes) for block in self.classes}
        parents: dict[BlockClass, set[BlockClass]] = {}
        for block in self.classes:
            if not block.is_sequential:
                for child in _children(block):
                    parents.setdefault(self.classes[child], set()).add(self.classes[block])
        result: dict[BlockClass, bool] = {}
        for cls in reversed(self.order):
            alike = len({prints[block] for block in cls.instances}) == 1
            result[cls] = cls.template is self.root or (
                alike and all(result[p] for p in parents.get(cls, ()))
            )
        return result

    # --- emit

    def emit(self, model_type: str, title: str) -> Emission:
        takes_args = self._takes_args()
        chunks = []
        for cls in self.order:
            chunks.append(_ClassWriter(self, cls, takes_args[cls]).write())
        fields = {
            "model_type": model_type,
            **{n: v for n, v in self.config.used.items() if n != "model_type"},
        }
        source = self._file(title, fields, chunks)
        recipes: dict[str, Any] = {}
        kept: dict[str, Value] = {}
        modules: list[dict[str, Any]] = []
        self._collect(self.root, "", recipes, kept, modules)
        return Emission(format_source(source), fields, recipes, modules, kept, self.notes)

    def _file(self, title: str, fields: dict[str, Any], chunks: list[str]) -> str:
        body = "\n\n\n".join(chunks)
        imports = [
            "from dataclasses import dataclass",
            "import mlx.core as mx" if "mx." in body else "",
            "import mlx.nn as nn",
        ]
        if "Callable" in body:
            imports.insert(0, "from collections.abc import Callable")
        lines = [
            f'"""{_docstring(title)}',
            "",
            *self._interface(),
            '"""',
            "",
            *filter(None, imports),
            "",
            "",
        ]
        lines += ["@dataclass", "class ModelArgs:"]
        lines += [
            f"    {name}: {_field_type(value)} = {_quoted(value)}" for name, value in fields.items()
        ]
        return "\n".join(lines) + "\n\n\n" + body + "\n"

    def _interface(self) -> list[str]:
        """What goes in and out, for the docstring."""
        rows = [
            ("Input", value.origin or value.name or "x", value) for value in self.program.inputs
        ]
        rows += [("Output", name, value) for name, value in self.program.outputs]
        width = max((len(name) for _, name, _ in rows), default=0)
        shapes = [self._shape_text(value) for _, _, value in rows]
        wide = max(map(len, shapes), default=0)
        lines = []
        for (kind, name, value), shape in zip(rows, shapes, strict=True):
            layout = (
                ", channels last"
                if value.permute and value.permute[-1] == 1 and value.rank > 2
                else ""
            )
            lines.append(
                f"{kind:<7} {_docstring(name):<{width}}  {shape:<{wide}}  {value.dtype}{layout}".rstrip()
            )
        return lines

    def _shape_text(self, value: Value) -> str:
        names = {symbol: name for symbol, (name, _) in self.program.dims.items()}
        sizes = [
            str(size) if isinstance(size, int) else str(size.subs(names)) for size in value.shape
        ]
        return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"

    # --- collect

    def _collect(
        self,
        block: Block,
        prefix: str,
        recipes: dict,
        kept: dict,
        modules: list,
        attributes: Attributes | None = None,
    ) -> None:
        """Walks the instances: MLX paths of parameters, and the calls to compare."""
        attributes = attributes or self.attributes[self.classes[block]]

        def at(path: str) -> str:
            return f"{prefix}.{attributes.dotted(path)}" if prefix else attributes.dotted(path)

        for position, item in enumerate(block.items):
            for child, relative in _placed(block, item, attributes):
                path = (
                    f"{prefix}.layers.{position}"
                    if block.is_sequential
                    else f"{prefix}.{relative}".lstrip(".")
                )
                self._entry(modules, path, child)
                if child.is_sequential:
                    self._collect(child, path, recipes, kept, modules, Attributes())
                else:
                    self._collect(child, path, recipes, kept, modules)
            for value in () if isinstance(item, Node) else reads(item):
                own = value.is_parameter and block.owns(value.path or "")
                if own and not self.keeps(block, value):
                    self._add(recipes, kept, at(block.relative(value.path or "")), value)
            if isinstance(item, Node):
                self._collect_node(block, item, position, prefix, at, recipes, kept, modules)

    def _collect_node(
        self,
        block: Block,
        node: Node,
        position: int,
        prefix: str,
        at: Any,
        recipes: dict,
        kept: dict,
        modules: list,
    ) -> None:
        if node.is_layer:
            path = (
                f"{prefix}.layers.{position}"
                if block.is_sequential
                else at(member_path(block, node))
            )
            for role, value in node.params.items():
                self._add(recipes, kept, f"{path}.{role}", value)
            for value in node.args:
                if isinstance(value, Value) and value.is_parameter and block.owns(value.path or ""):
                    self._add(recipes, kept, at(block.relative(value.path or "")), value)
            self._entry(modules, path, node)
            return
        for value in node.inputs():
            own = value.is_parameter and block.owns(value.path or "")
            if own and not self.keeps(block, value):
                self._add(recipes, kept, at(block.relative(value.path or "")), value)

    def find_below(self, block: Block, value: Value) -> str | None:
        """`.model.embed_tokens.weight`: where a module further down keeps a parameter that this one reads as well."""
        attributes = self.attributes.get(self.classes[block], Attributes())
        for position, item in enumerate(block.items):
            for child, relative in _placed(block, item, attributes):
                if not child.owns(value.path or ""):
                    continue
                owner = self._layer_of(child, value)
                steps = f".layers[{position}]" if block.is_sequential else _steps(relative)
                if owner is None:
                    deeper = self.find_below(child, value)
                    return None if deeper is None else f"{steps}{deeper}"
                inner = self.attributes[self.classes[child]].dotted(member_path(child, owner))
                role = next(role for role, p in owner.params.items() if p.path == value.path)
                return f"{steps}{_steps(inner)}.{role}"
        return None

    def keeps(self, block: Block, value: Value) -> bool:
        """Whether a layer of the block, or of a module below it, holds the parameter."""
        if self._layer_of(block, value) is not None:
            return True
        children = [b for item in block.items for b in _blocks_of(item)]
        return any(child.owns(value.path or "") and self.keeps(child, value) for child in children)

    def _layer_of(self, block: Block, value: Value) -> Node | None:
        return next(
            (
                n
                for n in block.items
                if isinstance(n, Node)
                and n.is_layer
                and any(p.path == value.path for p in n.params.values())
            ),
            None,
        )

    def _add(
        self, recipes: dict[str, Any], kept: dict[str, Value], path: str, value: Value
    ) -> None:
        recipes[path] = value.recipe
        if value.data is not None:
            kept[path] = value

    def _entry(self, modules: list[dict[str, Any]], path: str, item: Block | Node) -> None:
        inputs = list(item.inputs if isinstance(item, Block) else item.args)
        while inputs and inputs[-1] is None:
            inputs.pop()
        values = [*inputs, *item.outputs]
        if not all(
            isinstance(v, Value) and v.origin is not None and _is_as_read(v) for v in values
        ):
            return
        leaf = isinstance(item, Node)
        cls = (
            item.op
            if isinstance(item, Node)
            else ("nn.Sequential" if item.is_sequential else self.classes[item].name)
        )
        source = layer_path(item) if isinstance(item, Node) else item.path

        def spec(value: Value) -> dict[str, Any]:
            return {
                "value": value.origin,
                "permute": list(value.permute) if value.permute else None,
            }

        modules.append(
            {
                "path": path,
                "class": cls,
                "leaf": leaf,
                "source": source,
                "inputs": [spec(v) for v in inputs],
                "outputs": [spec(v) for v in item.outputs],
            }
        )


def _is_as_read(value: Value) -> bool:
    """Whether an array is, up to its permute, what the graph calls by the name of its origin."""
    return not value.is_parameter or (value.recipe.function == "source")


def _special_part(cls: BlockClass, order: list[BlockClass]) -> str:
    """What a class keeps that the other classes of its source class don't: RelativeAttentionBias."""
    twins = [
        other for other in order if other is not cls and other.template.cls == cls.template.cls
    ]
    own = _kept_names(cls.template)
    extra = (
        sorted(own - set().union(*(_kept_names(other.template) for other in twins)))
        if twins
        else []
    )
    if not extra or not extra[0].isidentifier():
        return ""
    return _camel(extra[0])


def _camel(name: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in name.split("_"))


def _kept_names(block: Block) -> set[str]:
    """The first parts of the paths of what a block keeps."""
    paths = [block.relative(item.path) for item in block.items if isinstance(item, Block)]
    for item in block.items:
        if isinstance(item, Node):
            paths += [
                block.relative(v.path or "")
                for v in item.inputs()
                if v.is_parameter and block.owns(v.path or "")
            ]
    return {path.partition(".")[0] for path in paths}


def _leaves_first(root: Block, classes: dict[Block, BlockClass]) -> list[BlockClass]:
    """The classes, each after those that any of its instances calls."""
    order: dict[BlockClass, None] = {}

    def visit(cls: BlockClass) -> None:
        if cls in order:
            return
        for block in cls.instances:
            for child in _children(block):
                visit(classes[child])
        order.setdefault(cls)

    visit(classes[root])
    return list(order)


def member_path(block: Block, node: Node) -> str:
    """The relative source path of a layer; a pool called as a function is named after what it does."""
    path = layer_path(node)
    if path and path != block.path and block.owns(path):
        return block.relative(path)
    return {"nn.MaxPool": "maxpool", "nn.AvgPool": "avgpool"}.get(
        node.op[:10], node.op.removeprefix("nn.").lower()
    )


def _placed(block: Block, item: Item, attributes: Attributes) -> list[tuple[Block, str]]:
    """The blocks that an item calls, with their attribute paths."""
    if isinstance(item, Block):
        return [(item, "" if block.is_sequential else attributes.dotted(block.relative(item.path)))]
    if isinstance(item, Loop):
        place = attributes.places[block.relative(item.blocks[0].path)]
        return [
            (child, ".".join(map(str, (*place[:-1], int(place[-1]) + k))))
            for k, child in enumerate(item.blocks)
        ]
    return []


def _blocks_of(item: Item) -> list[Block]:
    return item.blocks if isinstance(item, Loop) else [item] if isinstance(item, Block) else []


def _steps(path: str) -> str:
    """`.blocks[3]` of "blocks.3"."""
    return "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in path.split("."))


def _children(block: Block) -> list[Block]:
    """The blocks with a class below, through Sequentials."""
    result: list[Block] = []
    for item in block.items:
        for child in (
            item.blocks if isinstance(item, Loop) else [item] if isinstance(item, Block) else []
        ):
            result += _children(child) if child.is_sequential else [child]
    return result


class _ClassWriter:
    """Writes one class; it is also what the body asks for the text of layers, children and parameters."""

    def __init__(self, model: _ModelWriter, cls: BlockClass, takes_args: bool):
        self.model = model
        self.cls = cls
        self.template = cls.template
        self.arguments = Arguments.of(cls, model.config, takes_args, model.program.modules)
        self.members = self._members()
        self.attributes = Attributes.of(cls, list(dict.fromkeys(path for path, _ in self._paths())))
        self.arguments.reserved = {str(place[0]) for place in self.attributes.places.values()}
        model.arguments[cls] = self.arguments
        model.attributes[cls] = self.attributes

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
                        and not self.model.keeps(self.template, value)
                    ):
                        found.append((self.template.relative(value.path or ""), value))
        return found

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
            if not self.model.keeps(self.template, v)
        ]

    def _members(self) -> list[tuple[str, list[tuple[int, Any]]]]:
        members: dict[str, list[tuple[int, Any]]] = {}
        seen: set[int] = set()
        for path, thing in self._paths():
            if path in members or id(thing) in seen:
                continue
            seen.add(id(thing))
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
        constructor = Constructor(self.cls, self.arguments, self.attributes, self._child_info)
        root = self.template is self.model.root
        names = [value.origin or "x" for value in self.template.inputs] if root else None
        self.conditions: dict[Item, str] = {}
        member_lines = constructor.lines(self.members, self._source_order)
        self.body = body = Body(self.cls, self.arguments, self, root, names)
        call_lines = body.write()
        attribute_lines = [
            f"self.{name} = {text}" for name, text in self.arguments.attributes.items()
        ]
        if root:
            self.arguments.uses_args = True
        init = ["super().__init__()", *name_repeated([*attribute_lines, *member_lines])]
        parameters = ", ".join(["self", *self.arguments.signature()])
        optional = [bool(self.cls.lacking(value)) for value in self.template.inputs]
        annotations = [
            "mx.array | None = None" if may_lack else "mx.array" for may_lack in optional
        ]
        named = zip(body.names_of_inputs(), annotations, strict=True)
        inputs = ", ".join(["self", *(f"{name}: {annotation}" for name, annotation in named)])
        returns = self._return_type()
        lines = [f"class {self.cls.name}(nn.Module):"]
        lines += [f"    def __init__({parameters}):", *(f"        {line}" for line in init), ""]
        lines += [
            f"    def __call__({inputs}) -> {returns}:",
            *(f"        {line}" for line in call_lines),
        ]
        return "\n".join(lines)

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

    def child(self, block: Block) -> str:
        return self.attributes.text(self.template.relative(block.path))

    def layer(self, node: Node) -> str:
        return self.attributes.text(member_path(self.template, node))

    def parameter(self, value: Value) -> str:
        owner = self.model._layer_of(self.template, value)
        if owner is not None:
            role = next(role for role, p in owner.params.items() if p.path == value.path)
            return f"{self.layer(owner)}.{role}"
        below = self.model.find_below(self.template, value)
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
        whole = "self" + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in place[:-1])
        start, count = int(place[-1]), len(loop.blocks)
        siblings = [p for p in self.attributes.places.values() if p[:-1] == place[:-1]]
        text = (
            whole
            if start == 0 and len(siblings) == count
            else f"{whole}[{start or ''}:{start + count if start + count < len(siblings) else ''}]"
        )
        word = str(place[0])
        singular = word[:-1] if word.endswith("s") and len(word) > 2 else word
        return text, singular

    def condition(self, item: Item, flag: Vector) -> str:
        """How the forward asks whether this instance has an optional part."""
        if isinstance(item, Block) or (isinstance(item, Node) and item.is_layer):
            path = (
                member_path(self.template, item)
                if isinstance(item, Node)
                else self.template.relative(item.path)
            )
            place = self.attributes.places[path]
            if len(place) == 1:
                return f'"{place[0]}" in self'
        absent = frozenset(i for i, found in flag.items() if not found)
        for value, name in zip(self.template.inputs, self.body.names_of_inputs(), strict=True):
            needed = [v for part in [item, *self.body.deferred.get(item, [])] for v in reads(part)]
            if value in needed and self.cls.lacking(value) == absent:
                return f"{name} is not None"
        for path, items in self.members:
            present = {i for i, _ in items}
            place = self.attributes.places[path]
            if len(place) == 1 and absent == set(range(len(self.cls.instances))) - present:
                return f'"{place[0]}" in self'
        names = {
            "+": ("has_skip", "has_residual", "use_residual", "use_res_connect"),
            "mx.roll": ("shift",),
        }
        op = item.op if isinstance(item, Node) else ""
        if isinstance(item, Node):
            own = [v for v in item.inputs() if v.is_parameter and self.template.owns(v.path or "")]
            if (
                own
                and len(self.attributes.places.get(self.template.relative(own[0].path or ""), ()))
                == 1
            ):
                return f'"{self.attributes.places[self.template.relative(own[0].path or "")][0]}" in self'
        return self.arguments.flag(
            flag,
            *names.get(op, (f"use_{op.rpartition('.')[2]}" if op else "enabled",)),
            in_call=True,
        )

    def output_kind(self, cls: BlockClass) -> list[str] | None:
        """The keys of the returned dict, for the root of a model that returns one."""
        if cls.template is self.model.root and self.model.program.output_kind == "dict":
            return [name for name, _ in self.model.program.outputs]
        return None

    def traced_size(self, vector: Vector, node: Node) -> str:
        """A symbolic size that nothing in reach has, as it was when traced; an argument where the instances differ."""
        traced = {i: self.model.program.hint(size) for i, size in vector.items()}
        sizes = ", ".join(map(str, dict.fromkeys(traced.values())))
        note = f"a size stayed {sizes} as traced ({node.location})"
        if note not in self.model.notes:
            self.model.notes.append(note)
        if is_constant(traced):
            return sizes
        return self.arguments.resolve(traced, "size", in_call=True)


def format_source(source: str) -> str:
    """The source as ruff formats it, imports sorted."""
    command = [sys.executable, "-m", "ruff"]
    options = ["--line-length", str(LINE_LENGTH), "--stdin-filename", "model.py", "-"]
    formatted = subprocess.run(
        [*command, "format", "--isolated", *options],
        input=source,
        capture_output=True,
        text=True,
        check=False,
    )
    if formatted.returncode:
        raise RuntimeError(
            f"porter emitted source that does not parse:\n{formatted.stderr}\n{source}"
        )
    fixed = subprocess.run(
        [*command, "check", "--isolated", "--select", "I,F401,F841", "--fix", "--quiet", *options],
        input=formatted.stdout, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return fixed.stdout


_COMPOSITE = re.compile(r"int\([\w.]+ \* [\w.]+\)|\d \* [\w.]+|[\w.]+ // [\w.]+")


def name_repeated(lines: list[str]) -> list[str]:
    """An expression over the arguments that a constructor needs at least three times (twice, if long) gets a name."""
    counts = Counter(found for line in lines for found in _COMPOSITE.findall(line))
    result = list(lines)
    for text, count in counts.items():
        if count < 2 or (count < 3 and len(text) < 24) or "for " in text:
            continue
        name = (
            "hidden_dim"
            if "ratio" in text
            else "out_dim"
            if " * " in text
            else "head_dim"
            if "heads" in text
            else "size"
        )
        if any(re.search(rf"\b{name}\b", line) for line in result):
            continue
        result = [re.sub(rf"(?<![\w.]){re.escape(text)}(?![\w.])", name, line) for line in result]
        result = [re.sub(rf"(?<!\w)\({name}\)", name, line) for line in result]
        result.insert(0, f"{name} = {text}")
    return result


def _docstring(text: str) -> str:
    """Text from outside, safe inside a docstring."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    return clean.replace("\\", "/").replace('"', "'")


def _quoted(value: Any) -> str:
    text = literal(value)
    return (
        text
        if not isinstance(value, str)
        else '"' + text[1:-1].replace('"', '\\"') + '"'
        if '"' not in text
        else text
    )


def _field_type(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        kinds = {type(item).__name__ for item in value}
        return f"tuple[{kinds.pop() if len(kinds) == 1 else 'float'}, ...]"
    return type(value).__name__
