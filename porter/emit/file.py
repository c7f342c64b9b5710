"""The whole file: classes from leaf to root, and with it the recipe of each parameter and what can be compared."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from porter.emit.arguments import Arguments, Config
from porter.emit.class_names import name_classes
from porter.emit.class_writer import ClassWriter
from porter.emit.collect import Collection
from porter.emit.decoder import imports_of, methods
from porter.emit.equal_classes import merged
from porter.emit.format import LINE_LENGTH
from porter.emit.literals import literal
from porter.emit.node_text import NodeText
from porter.emit.places import Housing, children
from porter.emit.shards import divided_sizes, shard_method
from porter.emit.size_text import size_text
from porter.emit.variants import Variants
from porter.functions import function_names, texts
from porter.ir import Node, Program, Size, Value, Variant
from porter.passes.factor.blocks import Block
from porter.passes.factor.classes import BlockClass, factor_classes, fingerprint
from porter.passes.factor.given import absent_values
from porter.passes.factor.tree import build_tree
from porter.passes.fuse.fuse_attention import ATTENTION
from porter.passes.shard.spread import Whole


@dataclass(slots=True)
class Emission:
    """The emitted source (not formatted yet), ModelArgs' fields, the recipes by MLX path, and the calls to compare one by one.

    `unexplained` counts numbers that differ in the variants and that no field gives.
    """

    source: str
    config: dict[str, Any]
    recipes: dict[str, Any]
    modules: list[dict[str, Any]]
    kept: dict[str, Value] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    #: dim -> where a size made of it is out of reach
    unknown: dict[str, str] = field(default_factory=dict)
    #: nodes, and the sizes that they need and that no array of their class has
    wanted: dict[Node, list[Size]] = field(default_factory=dict)
    unexplained: int = 0
    #: why processes can't share the layers, where a plan for it has to be given up
    whole: str | None = None


def emit(
    program: Program,
    config: dict[str, Any],
    model_type: str,
    title: str,
    variants: Sequence[Variant] = (),
    fixed: Sequence[str] = (),
) -> Emission:
    """Writes the program as an MLX module.

    `config` holds the source's own names and values for its sizes; the fields that the source uses become ModelArgs.
    `variants` are the model in other sizes: what a field is said to give must be so there too. The settings that are `fixed`
    become no fields.
    """
    if len(set(program.sights)) > 1:
        config = {**config, "layer_types": program.layer_words}
    apart: set[str] = set()
    while True:
        root = build_tree(program, apart)
        others = [variant.config for variant in variants]
        traced = any(variant.nodes for variant in variants)
        fields = Config(dict(config), frozenset(fixed), others=others, traced=traced)
        known = Variants(program.modules, list(variants))
        writer = ModelWriter(program, root, factor_classes(root), fields, known)
        emission = writer.emit(model_type, title)
        clashes = writer.clashes()
        if not clashes:
            return emission
        apart |= clashes


class ModelWriter:
    """What the classes share while they are written."""

    def __init__(
        self,
        program: Program,
        root: Block,
        classes: dict[Block, BlockClass],
        config: Config,
        variants: Variants,
    ):
        self.program = program
        self.absent = absent_values(program)
        self.root = root
        self.classes = classes
        self.config = config
        self.variants = variants
        self.instance = {block: cls.instances.index(block) for block, cls in classes.items()}
        self.order = _leaves_first(root, classes)
        self.arguments: dict[BlockClass, Arguments] = {}
        self.housing = Housing(classes)
        self.notes: list[str] = []
        self.divided: dict[BlockClass, list[str]] = {}
        self.undivided: str | None = None
        self.whole: str | None = None
        self.unknown: dict[str, str] = {}
        self.wanted: dict[Node, list[Size]] = {}
        self.module_order = {path: index for index, path in enumerate(program.modules)}
        name_classes(self.order, classes, root)

    def _shares_caches(self) -> bool:
        """Whether layers look at keys and values that others keep."""
        fetched = {
            value
            for node in self.program.nodes
            for value in node.outputs
            if node.op == "update_and_fetch"
        }
        attentions = sum(
            node.op in ATTENTION and node.args[1] in fetched for node in self.program.nodes
        )
        return self.program.memory is None and attentions > len(self.program.sights)

    def _takes_args(self) -> dict[BlockClass, bool]:
        """A class takes `args` where all its instances are alike and everything around it takes them too."""
        prints = {block: fingerprint(block, self.classes) for block in self.classes}
        parents: dict[BlockClass, set[BlockClass]] = {}
        for block in self.classes:
            if not block.is_sequential:
                for child in children(block):
                    parents.setdefault(self.classes[child], set()).add(self.classes[block])
        result: dict[BlockClass, bool] = {}
        for cls in reversed(self.order):
            alike = len({prints[block] for block in cls.instances}) == 1
            result[cls] = cls.template is self.root or (
                alike and all(result[p] for p in parents.get(cls, ()))
            )
        return result

    def emit(self, model_type: str, title: str) -> Emission:
        takes_args = self._takes_args()
        chunks = [ClassWriter(self, cls, takes_args[cls]).write() for cls in self.order]
        chunks = merged(self.order, chunks)
        fields = {
            "model_type": model_type,
            **{n: v for n, v in self.config.used.items() if n != "model_type"},
        }
        found = Collection(self.housing)
        found.walk(self.root)
        if self.program.sights:
            root = self.arguments[self.classes[self.root]]
            chunks[-1] += methods(self.program, found.cached, root, self._shares_caches())
            chunks[-1] += self._shard(found)
            if "self.args." not in chunks[-1]:
                chunks[-1] = chunks[-1].replace("        self.args = args\n", "")
            fields |= self.config.used
        # A name may be looked up for a line that is then written otherwise.
        read = set(re.findall(r"\bargs\.(\w+)", "\n".join(chunks)))
        fields = {n: value for n, value in fields.items() if n == "model_type" or n in read}
        source = self._file(title, fields, chunks)
        return Emission(
            source,
            fields,
            found.recipes,
            found.modules,
            found.kept,
            self.notes,
            self.unknown,
            self.wanted,
            self.config.unexplained,
            self.whole,
        )

    def divide(self, cls: BlockClass, sizes: NodeText, lines: list[str]) -> None:
        """Notes which attributes of a class `shard` divides."""
        assert self.program.shards is not None
        try:
            self.divided[cls] = divided_sizes(cls, sizes, lines, self.program.shards)
        except Whole as reason:
            self.undivided = str(reason)

    def _shard(self, found: Collection) -> str:
        """The method `shard`, or nothing and the reason."""
        if self.program.shards is None:
            return ""
        try:
            if self.undivided is not None:
                raise Whole(self.undivided)
            names = {path.rpartition(".")[0] for path in found.cached}
            if len(names) != 1:
                raise Whole(f"its layers are in {'several lists' if names else 'no list'}")
            return shard_method(self.program.shards, found, self.classes, self.divided, names.pop())
        except Whole as reason:
            self.whole = str(reason)
            return ""

    def clashes(self) -> set[str]:
        """Source modules whose calls would need two modules: of two classes, or with two settings."""
        calls: dict[str, list[Block]] = {}
        for block in self.classes:
            if not block.is_sequential:
                calls.setdefault(block.path, []).append(block)
        return {path for path, blocks in calls.items() if len(set(map(self._made, blocks))) > 1}

    def _made(self, block: Block) -> tuple[str, ...]:
        """How the constructor of a block's module is called."""
        cls, number = self.classes[block], self.instance[block]
        settings = self.arguments[cls].parameters.items()
        return cls.name, *(f"{name}={vector.get(number)!r}" for name, vector in settings)

    def _file(self, title: str, fields: dict[str, Any], chunks: list[str]) -> str:
        functions = texts(function_names(self.program))
        body = "\n\n\n".join([*(text.source for text in functions), *chunks])
        imports = [
            "from dataclasses import dataclass, field",
            "import mlx.core as mx" if "mx." in body else "",
            "import mlx.nn as nn",
            *imports_of(body, bool(self.program.sights)),
        ]
        if any("Callable" in chunk for chunk in chunks):
            imports.insert(0, "from collections.abc import Callable")
        imports += {line for text in functions for line in text.imports} - set(imports)
        lines = [
            f'"""{_docstring(title)}',
            "",
            *self._interface(),
            *self._limits(),
            '"""',
            "",
            *filter(None, imports),
            "",
            "",
        ]
        base = "(BaseModelArgs)" if self.program.sights else ""
        lines += ["@dataclass", f"class ModelArgs{base}:"]
        lines += [
            f"    {name}: {_field_type(value)} = {_default(value)}"
            for name, value in fields.items()
        ]
        return "\n".join(lines) + "\n\n\n" + body + "\n"

    def _limits(self) -> list[str]:
        """Where the file holds, for the docstring."""
        lines = [_docstring(f"{note[0].upper()}{note[1:]}.") for note in self.program.holds]
        return [row for line in lines for row in ("", *textwrap.wrap(line, LINE_LENGTH))]

    def _interface(self) -> list[str]:
        """What goes in and out, for the docstring."""
        rows = [
            ("Input", value.origin or value.name or "x", value)
            for value in self.program.inputs
            if value.dtype != "caches"
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

        def text(size: Size) -> str:
            if isinstance(size, int) or not size.free_symbols <= names.keys():
                return str(size)
            known = size_text(size, names)
            return str(size.subs(names)) if known is None else known.code

        sizes = [text(size) for size in value.shape]
        return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def _leaves_first(root: Block, classes: dict[Block, BlockClass]) -> list[BlockClass]:
    """The classes, each after those that any of its instances calls."""
    order: dict[BlockClass, None] = {}

    def visit(cls: BlockClass) -> None:
        if cls in order:
            return
        for block in cls.instances:
            for child in children(block):
                visit(classes[child])
        order.setdefault(cls)

    visit(classes[root])
    return list(order)


def _docstring(text: str) -> str:
    """Text from outside, safe inside a docstring."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    return clean.replace("\\", "/").replace('"', "'")


def _default(value: Any) -> str:
    """A field's default; a table needs a factory."""
    return (
        f"field(default_factory=lambda: {value!r})" if isinstance(value, dict) else _quoted(value)
    )


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
