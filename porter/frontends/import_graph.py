"""From an exported program to the IR."""

from __future__ import annotations

import linecache
import operator
import os
import re
from typing import TYPE_CHECKING, Any

import sympy
import torch
from torch.export import ExportedProgram

from porter.frontends.canonical_sizes import CanonicalSizes
from porter.frontends.carried_buffers import carried_buffers
from porter.frontends.forward_names import forward_names
from porter.frontends.functionalize import functionalized
from porter.frontends.input_dims import named_dims
from porter.frontends.shared_modules import SharedModules
from porter.frontends.source_lines import assigned_names, made_by
from porter.ir import Frame, Location, ModuleInfo, Program, Value
from porter.ir.builder import simplify
from porter.sources.foreign_files import file_name

if TYPE_CHECKING:
    from porter.sources import Source

_RESHAPES = {"aten.reshape.default", "aten.view.default", "aten.flatten.using_ints"}
_SIDE_EFFECTS = {"profiler._record_function_enter_new", "profiler._record_function_exit"}


def import_program(exported: ExportedProgram, source: Source) -> Program:
    """The exported graph as a verified-to-be program of MLX calls.

    Raises UnsupportedError that names every op without a lowering, with its count and the author's source line.
    """
    from porter.lowering import lower_graph

    exported = functionalized(exported)
    reader = GraphReader(exported, source)
    program = lower_graph(reader)
    program.forward_names = forward_names(reader)
    program.notes += [
        f"{buffer} carries state from call to call in the source: the port starts every call from the stored value"
        for buffer in carried_buffers(exported)
    ]
    return program


class GraphReader:
    """Reads an exported graph: what each placeholder is, and for each op its arguments, frames and source line."""

    def __init__(self, exported: ExportedProgram, source: Source):
        self.exported = exported
        self.source = source
        self.graph = exported.graph
        name = type(source.module).__name__ if source.module is not None else source.name
        cls = _class_name(source.module) if source.module is not None else source.name
        self.program = Program(name=name, cls=cls, modules=module_table(source))
        self.environment: dict[torch.fx.Node, Any] = {}
        self.symbols: dict[Any, Any] = {}
        # torch writes its placeholders in lower case
        self.named = {name.lower(): axes for name, axes in named_dims(source).items()}
        self.shared = SharedModules(source.module)
        self.canonical = CanonicalSizes(self.program.dims)
        self._read_placeholders()

    def _read_placeholders(self) -> None:
        from porter.weights.recipes import source as source_recipe

        signature = self.exported.graph_signature
        stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        constants = signature.inputs_to_lifted_tensor_constants
        persistent = set(signature.inputs_to_parameters.values()) | {
            name
            for name in signature.inputs_to_buffers.values()
            if name not in signature.non_persistent_buffers
        }
        for node in self.graph.nodes:
            if node.op == "get_attr":
                continue
            if node.op != "placeholder":
                break
            tensor = node.meta.get("val")
            if not isinstance(tensor, torch.Tensor):
                self.environment[node] = tensor
                continue
            value = Value((), _dtype(tensor.dtype), name=node.name, origin=node.name)
            self.environment[node] = value
            if node.name in stored or node.name in constants:
                path = stored.get(node.name) or constants[node.name]
                if node.name in constants:
                    value.name = self._written_as(node) or node.name
                value.shape = tuple(int(size) for size in tensor.shape)
                value.path = self.shared.path(path)
                value.source_shape = value.shape
                value.data = self._constant(path, path in persistent)
                value.recipe = source_recipe(self.source.keys.get(path, path))
                self.program.parameters[value.path] = value
                continue
            self._name_dims(node.name, tensor)
            value.shape = tuple(self.size(size) for size in tensor.shape)
            self.program.inputs.append(value)
        self._learn_ones()

    def _written_as(self, node: torch.fx.Node) -> str | None:
        """What the author's statement that makes a constant calls it."""
        location = next((self.location(user) for user in node.users), None)
        return made_by(location.file, location.line) if location else None

    def _learn_ones(self) -> None:
        """Axes that a reshape drops have size 1, whatever expression torch keeps for them.

        torch.export bounds the sizes by it: a pool over 2560 cells gives one cell for any image that is not larger.
        """
        for node in self.graph.nodes:
            if node.op != "call_function" or _target(node) not in _RESHAPES:
                continue
            before, after = node.args[0].meta["val"].shape, node.meta["val"].shape
            ones = [
                size.node.expr
                for size in before
                if isinstance(size, torch.SymInt) and size.node.hint == 1
            ]
            if not ones:
                continue
            dropped = sympy.prod(map(_expression, before)) / sympy.prod(map(_expression, after))
            if simplify(dropped - sympy.prod(ones)) == 0:
                for one in ones:
                    self.canonical.learn(one.subs(self.symbols), 1)

    def _name_dims(self, name: str, tensor: torch.Tensor) -> None:
        """Input axes of one dim name share one symbol."""
        names = self.named.get(name, {})
        known = {dim: symbol for symbol, (dim, _) in self.program.dims.items()}
        for axis, size in enumerate(tensor.shape):
            expression = simplify(size.node.expr) if isinstance(size, torch.SymInt) else size
            if isinstance(expression, int) and names.get(axis) == "length" and expression > 1:
                self.program.unrolled = expression
            if isinstance(expression, int) or expression in self.symbols:
                continue
            dim = names.get(axis, f"dim{len(self.program.dims)}")
            if not expression.is_Symbol:
                continue
            if dim in known:
                self.symbols[expression] = known[dim]
                continue
            self.symbols[expression] = expression
            self.program.dims[expression] = (dim, int(size.node.hint))
            known[dim] = expression
            bounds = self.exported.range_constraints.get(expression)
            if bounds is not None and bounds.upper.is_Integer:
                self.canonical.most[expression] = int(bounds.upper)
                if dim == "length":
                    self.program.longest = int(bounds.upper)

    def _constant(self, path: str, persistent: bool) -> Any:
        """The elements of a tensor that no checkpoint holds; also small integer buffers (positions, token types)."""
        tensor = self.exported.constants.get(path)
        if tensor is None:
            tensor = self.exported.state_dict.get(path)
        if tensor is None or not isinstance(tensor, torch.Tensor) or tensor.device.type == "meta":
            return None
        if persistent and (
            tensor.is_floating_point() or tensor.numel() > 65536 or tensor.ndim == 0
        ):
            return None
        if torch._subclasses.fake_tensor.is_fake(tensor):
            return None
        tensor = tensor.to_dense() if tensor.layout is not torch.strided else tensor
        return (
            tensor.detach()
            .to(torch.float32 if tensor.dtype == torch.bfloat16 else tensor.dtype)
            .numpy()
        )

    def size(self, size: Any) -> Any:
        """A symbolic size with one symbol per named dim; an int where it is one."""
        if isinstance(size, (torch.SymInt, torch.SymFloat)):
            size = size.node.expr
        if isinstance(size, int):
            return size
        size = simplify(size.subs(self.symbols) if hasattr(size, "subs") else size)
        return self.canonical(size) if isinstance(size, sympy.Expr) else size

    def argument(self, item: Any) -> Any:
        """An fx argument with values, sizes and dtype names in the place of nodes, symbols and dtypes."""
        if isinstance(item, torch.fx.Node):
            if item in self.environment:
                return self.environment[item]
            value = item.meta["val"]
            return (
                [*map(self.size, value)] if isinstance(value, (list, tuple)) else self.size(value)
            )
        if isinstance(item, (list, tuple)):
            return [self.argument(entry) for entry in item]
        if isinstance(item, dict):
            return {key: self.argument(entry) for key, entry in item.items()}
        if isinstance(item, torch.dtype):
            return _dtype(item)
        if isinstance(item, (torch.SymInt, torch.SymFloat)):
            return self.size(item)
        if isinstance(item, (torch.device, torch.layout, torch.memory_format)):
            return None
        return item

    def outputs(self, node: torch.fx.Node) -> list[tuple[tuple, str]]:
        """Shape and dtype of each output."""
        val = node.meta.get("val")
        tensors = val if isinstance(val, (list, tuple)) else [val]
        return [
            (tuple(self.size(size) for size in t.shape), _dtype(t.dtype))
            if isinstance(t, torch.Tensor)
            else ((), "int32")
            for t in tensors
        ]

    def is_symbolic(self, node: torch.fx.Node) -> bool:
        value = node.meta.get("val")
        values = value if isinstance(value, (list, tuple)) and value else (value,)  # a whole shape
        kinds = (torch.SymInt, torch.SymFloat, torch.SymBool, int, float, bool)
        return all(isinstance(item, kinds) for item in values)

    def is_ignored(self, node: torch.fx.Node) -> bool:
        return node.op != "call_function" or _target(node) in _SIDE_EFFECTS

    def target(self, node: torch.fx.Node) -> str:
        return _target(node)

    def mutated(self, node: torch.fx.Node) -> torch.fx.Node | None:
        """The argument that an in-place op writes to."""
        if not isinstance(node.target, torch._ops.OpOverload) or not node.target._schema.is_mutable:
            return None
        for argument, info in zip(node.args, node.target._schema.arguments, strict=False):
            if (
                info.alias_info is not None
                and info.alias_info.is_write
                and isinstance(argument, torch.fx.Node)
            ):
                return argument
        return None

    def frames(self, node: torch.fx.Node) -> tuple[Frame, ...]:
        stack = node.meta.get("nn_module_stack") or {}
        frames = []
        for key, (path, cls) in stack.items():
            path = path.partition("@")[0]
            if not path or path.startswith("_empty_nn_module_stack"):
                continue
            call = self.shared.call(path, int(key.rpartition("@")[2]) if "@" in key else 0)
            path = self.shared.path(path)
            known = self.program.modules.get(path)
            name = cls if isinstance(cls, str) else _type_name(cls)
            frames.append(Frame(path, known.cls if known else name, call))
        return tuple(frames)

    def location(self, node: torch.fx.Node) -> Location | None:
        """The innermost line of the author's: outside torch.nn."""
        found = re.findall(
            r'File "([^"]+)", line (\d+), in (\S+)', node.meta.get("stack_trace") or ""
        )
        outside = [frame for frame in found if "/torch/" not in frame[0].replace(os.sep, "/")]
        if not (outside or found):
            return None
        file, line, function = (outside or found)[-1]
        return Location(file, int(line), function, linecache.getline(file, int(line)).strip())

    def hint(self, node: torch.fx.Node) -> tuple[str, ...]:
        """The variables that the author's statement assigns."""
        location = self.location(node)
        return assigned_names(location.file, location.line) if location else ()

    def result(self) -> list[tuple[str, Any]]:
        """What the forward returns, but for None: arrays, sizes, and constants of the author's."""
        output = next(node for node in self.graph.nodes if node.op == "output")
        flat = list(output.args[0])
        spec = self.exported.call_spec.out_spec
        names = _output_names(spec, len(flat))
        mutations = len(flat) - len(names)
        pairs = list(zip(names, flat[mutations:], strict=True))
        return [(name, self.argument(item)) for name, item in pairs if item is not None]


def module_table(source: Source) -> dict[str, ModuleInfo]:
    """What is known of each module of the source, by path."""
    if source.module is None:
        return {}
    return {
        path: ModuleInfo(
            path,
            _class_name(module),
            source.constructors.get(path, {}),
            _plain_attributes(module),
            frozenset(
                name
                for table in (module._parameters, module._buffers)
                for name in table
                if table[name] is not None
            ),
        )
        for path, module in source.module.named_modules(remove_duplicate=False)
    }


def _output_names(spec: Any, count: int) -> list[str]:
    """Names of the flattened outputs: dict keys and dataclass fields where there are any."""
    dummy = torch.utils._pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    paths = torch.utils._pytree.tree_flatten_with_path(dummy)[0]
    names = []
    for path, _ in paths[:count]:
        words = [
            str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", "")))) for key in path
        ]
        name = "_".join(word for word in words if word)
        if not name:
            name = "output"
        elif name.replace("_", "").isdigit():  # of lists in a tuple, too
            name = f"output_{name}"
        names.append(name)
    return names


def _target(node: torch.fx.Node) -> str:
    if node.target is operator.getitem:
        return "getitem"
    return str(node.target).replace("torch.ops.", "")


def _class_name(module: torch.nn.Module) -> str:
    if (
        isinstance(module, torch.nn.Sequential)
        and type(module).forward is torch.nn.Sequential.forward
    ):
        return _type_name(torch.nn.Sequential)  # a subclass that only names its members
    return _type_name(type(module))


def _expression(size: Any) -> Any:
    return size.node.expr if isinstance(size, torch.SymInt) else size


def _type_name(cls: type) -> str:
    return f"{file_name(cls.__module__)}.{cls.__qualname__}"


def _plain_attributes(module: torch.nn.Module) -> dict[str, Any]:
    """Numbers, strings and tuples of them that the author set on the module."""

    def plain(value: Any) -> bool:
        if isinstance(value, (bool, int, float, str)):
            return True
        return (
            isinstance(value, (tuple, list))
            and len(value) <= 8
            and all(isinstance(item, (int, float)) for item in value)
        )

    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(module).items()
        if not name.startswith("_") and name != "training" and plain(value)
    }


def _dtype(dtype: torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    return {"float64": "float32", "complex128": "complex64"}.get(name, name)
