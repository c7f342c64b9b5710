"""torch.export: from a module to an exported program, and from that to the IR."""

from __future__ import annotations

import inspect
import linecache
import logging
import operator
import os
import re
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.export import Dim, ExportedProgram

from porter.errors import Gap, InputError, UnsupportedError
from porter.frontends.source_lines import assigned_names
from porter.ir import Frame, Location, ModuleInfo, Program, Value
from porter.ir.builder import simplify

if TYPE_CHECKING:
    from porter.sources import Source

#: CPU seconds that an export with dynamic dims may take before fixed ones are tried (symbolic image sizes can cost minutes).
EXPORT_SECONDS = 30

_IGNORED = {
    "aten._assert_tensor_metadata.default",
    "aten._assert_scalar.default",
    "aten._assert_async.msg",
    "aten.sym_constrain_range_for_size.default",
    "aten.sym_constrain_range.default",
}
_SIDE_EFFECTS = {"profiler._record_function_enter_new", "profiler._record_function_exit"}


class _Timeout(Exception):
    pass


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises _Timeout in the main thread after `seconds` of CPU time; elsewhere there is no limit."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGPROF"):
        yield
        return

    def expire(*_: Any) -> None:
        raise _Timeout

    previous = signal.signal(signal.SIGPROF, expire)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


@contextmanager
def _fake_parameters(module: torch.nn.Module) -> Iterator[Any]:
    """Parameters on the meta device become fake CPU ones, so that they mix with real inputs; undone at the end.

    Yields the fake mode, or None where every parameter is real.
    """
    meta = [
        (name, p)
        for name, p in [*module.named_parameters(), *module.named_buffers()]
        if p.device.type == "meta"
    ]
    if not meta:
        yield None
        return
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    replaced: list[tuple[dict[str, Any], str, Any]] = []
    shared: dict[int, torch.Tensor] = {}
    for owner in module.modules():
        for table in (owner._parameters, owner._buffers):
            for name, tensor in table.items():
                if tensor is None or tensor.device.type != "meta":
                    continue
                if id(tensor) not in shared:
                    with mode:
                        fake: torch.Tensor = torch.empty(
                            tensor.shape, dtype=tensor.dtype, device="cpu"
                        )
                    if isinstance(tensor, torch.nn.Parameter):
                        fake = torch.nn.Parameter(fake, requires_grad=tensor.requires_grad)
                    shared[id(tensor)] = fake
                replaced.append((table, name, tensor))
    try:
        for table, name, tensor in replaced:
            table[name] = shared[id(tensor)]  # type: ignore[assignment]
        yield mode
    finally:
        for table, name, tensor in replaced:
            table[name] = tensor


def export_program(source: Source) -> tuple[ExportedProgram, list[str]]:
    """Exports the source's module, with dynamic dims where the model allows them.

    Returns the program and what the user should hear (dims that stayed fixed and why). Raises UnsupportedError with
    torch's reason where the module can't be exported.
    """
    if source.program is not None:
        return source.program, []
    module = source.module
    if module is None:
        raise InputError(
            f"{source.spec} holds weights only; name a factory and --checkpoint, or --mapping."
        )
    names = _argument_names(module, source.args, source.kwargs)
    attempts: list[tuple[str, set[str]]] = []
    named = named_dims(source)
    wanted = {dim for axes in named.values() for dim in axes.values()}
    spatial = wanted - {"batch", "length"}
    attempts.append(("", wanted))
    if spatial and wanted - spatial:
        attempts.append((f"{', '.join(sorted(spatial))} stayed fixed", wanted - spatial))
    if len(wanted - spatial) > 1:
        attempts += [
            (f"only {dim} is dynamic", {dim}) for dim in ("batch", "length") if dim in wanted
        ]
    if wanted:
        attempts.append(("every dim stayed fixed", set()))
    notes: list[str] = []
    reason: Exception | None = None
    module.eval()
    for note, dims in attempts:
        dynamic = _dynamic_shapes(names, source, named, dims)
        try:
            with (
                _quiet(),
                _time_limit(EXPORT_SECONDS),
                _fake_parameters(module) as mode,
                torch.no_grad(),
            ):
                args, kwargs = _fakified(mode, source.args, source.kwargs)
                program = torch.export.export(
                    module, args, kwargs, dynamic_shapes=dynamic, strict=False
                )
        except _Timeout:
            reason = TimeoutError(f"symbolic sizes took over {EXPORT_SECONDS} s")
            continue
        except Exception as error:  # noqa: BLE001 -- torch raises anything, the author's own exceptions included
            reason = error
            continue
        if note:
            notes.append(f"{note}: {_first_line(reason)}")
        return program, notes
    raise UnsupportedError(
        f"torch.export refuses {source.spec}: {_first_line(reason)} (at {_author_line(reason)}). Data-dependent control flow, "
        "Python side effects and wrong example shapes are the usual causes; run the module on the example inputs first, "
        "then rewrite that line with torch.where or torch.cond."
    ) from reason


#: What the axes of an input of each rank are called where nobody says: a guess that the export may overrule.
_AXES = {
    1: {0: "batch"},
    2: {0: "batch", 1: "length"},
    3: {0: "batch", 1: "length", 2: "width"},
    4: {0: "batch", 2: "height", 3: "width"},
    5: {0: "batch", 2: "frames", 3: "height", 4: "width"},
}


def named_dims(source: Source) -> dict[str, dict[int, str]]:
    """The axes of the inputs that may change, by name: as the source says, else by each input's rank.

    Two inputs share a name only where they share the size.
    """
    if source.dynamic or source.module is None:
        return source.dynamic
    names = _argument_names(source.module, source.args, source.kwargs)
    inputs = {**dict(zip(names, source.args, strict=False)), **source.kwargs}
    sizes: dict[str, int] = {}
    result: dict[str, dict[int, str]] = {}
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor):
            for axis, dim in _AXES.get(value.ndim, {}).items():
                if sizes.setdefault(dim, value.shape[axis]) == value.shape[axis] > 1:
                    result.setdefault(name, {})[axis] = dim
    return result


def _fakified(mode: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    if mode is None:
        return args, kwargs
    return torch.utils._pytree.tree_map_only(
        torch.Tensor, lambda t: mode.from_tensor(t, static_shapes=True), (args, kwargs)
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps torch.export's log (each refused dim, at length) off the user's screen."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _first_line(error: Exception | None) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def _author_line(error: Exception | None) -> str:
    """The innermost source line outside torch."""
    if error is None:
        return "an unknown line"
    frames = traceback.extract_tb(error.__traceback__)
    outside = [
        f
        for f in frames
        if f"{os.sep}torch{os.sep}" not in f.filename
        and f"{os.sep}porter{os.sep}" not in f.filename
    ]
    frame = (outside or frames)[-1]
    return f"{frame.filename}:{frame.lineno}: {frame.line}"


def _argument_names(module: torch.nn.Module, args: tuple, kwargs: dict) -> list[str]:
    parameters = inspect.signature(module.forward).parameters
    variadic = next((n for n, p in parameters.items() if p.kind is p.VAR_POSITIONAL), None)
    names = [n for n, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.KEYWORD_ONLY)]
    if variadic:
        names = names[: list(parameters).index(variadic)]
        names += [f"{variadic}_{i}" for i in range(len(args) - len(names))]
    return names[: len(args)] + list(kwargs)


def _dynamic_shapes(
    names: list[str], source: Source, named: dict[str, dict[int, str]], dims: set[str]
) -> Any:
    def shape(name: str, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return torch.utils._pytree.tree_map(lambda _: None, value)
        axes = named.get(name, {})
        return {
            axis: Dim.AUTO for axis, dim in axes.items() if dim in dims and value.shape[axis] > 1
        }

    if not dims:
        return None
    positional = tuple(shape(name, value) for name, value in zip(names, source.args, strict=False))
    keyword = {name: shape(name, value) for name, value in source.kwargs.items()}
    parameters = inspect.signature(source.module.forward).parameters  # type: ignore[union-attr]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters.values()) and not keyword:
        fixed = [
            n
            for n, p in parameters.items()
            if p.kind is not p.VAR_POSITIONAL and p.kind is not p.VAR_KEYWORD
        ]
        count = min(len(fixed), len(positional))
        return (*positional[:count], tuple(positional[count:]))
    if len(names) < len(source.args) or (positional and keyword):
        return {**dict(zip(names, positional, strict=False)), **keyword}
    return keyword if keyword else positional


# --- import


def import_program(exported: ExportedProgram, source: Source) -> Program:
    """The exported graph as a verified-to-be program of MLX calls.

    Raises UnsupportedError that names every op without a lowering, with its count and the author's source line.
    """
    from porter.lowering import lower_graph

    exported = _functionalized(exported)
    importer = _Importer(exported, source)
    return lower_graph(importer)


#: Regions that change nothing in inference, and where their graph stands among the arguments.
_REGIONS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}


def _inline_regions(exported: ExportedProgram) -> None:
    """Puts the graphs of no-grad and switched-off autocast regions in their place."""
    graph = exported.graph
    for node in list(graph.nodes):
        place = _REGIONS.get(str(node.target)) if node.op == "call_function" else None
        if place is None or (place == 4 and node.args[2]):
            continue  # autocast that is on stays, and is named as a gap
        region = getattr(exported.graph_module, str(node.args[place].target))
        inputs = [n for n in region.graph.nodes if n.op == "placeholder"]
        with graph.inserting_before(node):
            table = dict(zip(inputs, node.args[place + 1 :], strict=True))
            result = graph.graph_copy(region.graph, table)
        for user in list(node.users):
            user.replace_all_uses_with(
                result[user.args[1]] if isinstance(result, (tuple, list)) else result
            )
            graph.erase_node(user)
        graph.erase_node(node)


def _functionalized(exported: ExportedProgram) -> ExportedProgram:
    """In-place writes into views are made functional by torch; other in-place ops are read as their functional twins."""
    _inline_regions(exported)
    views: set[torch.fx.Node] = set()
    for node in exported.graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        schema = node.target._schema
        mutated = [
            argument
            for argument, info in zip(node.args, schema.arguments, strict=False)
            if info.alias_info is not None
            and info.alias_info.is_write
            and isinstance(argument, torch.fx.Node)
        ]
        for argument in mutated:
            shared = argument in views or any(
                user in views and _later(user, node) for user in argument.users
            )
            if (
                shared
                or argument.op == "placeholder"
                or node.target.__name__.startswith(("copy_", "index_put_", "fill_"))
            ):
                return exported.run_decompositions({})
        if any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns):
            views.add(node)
    return exported


def _later(user: torch.fx.Node, node: torch.fx.Node) -> bool:
    """Whether `user`'s value may still be read after `node` has run."""
    return any(reader > node for reader in user.users)


class _Importer:
    """Reads an exported graph: what each placeholder is, and for each op its arguments, frames and source line."""

    def __init__(self, exported: ExportedProgram, source: Source):
        self.exported = exported
        self.source = source
        self.graph = exported.graph
        name = type(source.module).__name__ if source.module is not None else source.name
        cls = _class_name(source.module) if source.module is not None else source.name
        self.program = Program(name=name, cls=cls, modules=self._modules())
        self.environment: dict[torch.fx.Node, Any] = {}
        self.symbols: dict[Any, Any] = {}
        self.named = named_dims(source)
        self._read_placeholders()

    def _modules(self) -> dict[str, ModuleInfo]:
        if self.source.module is None:
            return {}
        constructors = self.source.constructors
        return {
            path: ModuleInfo(
                path, _class_name(module), constructors.get(path, {}), _plain_attributes(module)
            )
            for path, module in self.source.module.named_modules(remove_duplicate=False)
        }

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
                value.shape = tuple(int(size) for size in tensor.shape)
                value.path = path
                value.source_shape = value.shape
                value.data = self._constant(path, path in persistent)
                value.recipe = source_recipe(self.source.keys.get(path, path))
                self.program.parameters[path] = value
                continue
            self._name_dims(node.name, tensor)
            value.shape = tuple(self.size(size) for size in tensor.shape)
            self.program.inputs.append(value)

    def _name_dims(self, name: str, tensor: torch.Tensor) -> None:
        """Input axes of one dim name share one symbol."""
        names = self.named.get(name, {})
        known = {dim: symbol for symbol, (dim, _) in self.program.dims.items()}
        for axis, size in enumerate(tensor.shape):
            expression = simplify(size.node.expr) if isinstance(size, torch.SymInt) else size
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
        return simplify(size.subs(self.symbols) if hasattr(size, "subs") else size)

    def argument(self, item: Any) -> Any:
        """An fx argument with values, sizes and dtype names in the place of nodes, symbols and dtypes."""
        if isinstance(item, torch.fx.Node):
            if item in self.environment:
                return self.environment[item]
            return self.size(item.meta["val"])
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
        return isinstance(
            node.meta.get("val"), (torch.SymInt, torch.SymFloat, torch.SymBool, int, float, bool)
        )

    def is_ignored(self, node: torch.fx.Node) -> bool:
        return node.op != "call_function" or _target(node) in _IGNORED | _SIDE_EFFECTS

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
            call = key.rpartition("@")[2] if "@" in key else "0"
            known = self.program.modules.get(path)
            name = cls if isinstance(cls, str) else _type_name(cls)
            frames.append(Frame(path, known.cls if known else name, int(call)))
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
        output = next(node for node in self.graph.nodes if node.op == "output")
        flat = list(output.args[0])
        spec = self.exported.call_spec.out_spec
        names = _output_names(spec, len(flat))
        mutations = len(flat) - len(names)
        pairs = list(zip(names, flat[mutations:], strict=True))
        return [
            (name, self.argument(item)) for name, item in pairs if isinstance(item, torch.fx.Node)
        ]


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
        elif name.isdigit():
            name = f"output_{name}"
        names.append(name)
    return names


def raise_gaps(importer: _Importer, missing: dict[str, list[torch.fx.Node]]) -> None:
    """Raises UnsupportedError for ops without a lowering."""
    gaps = tuple(
        Gap(
            name,
            len(nodes),
            str(
                importer.location(nodes[0])
                or "/".join(f.path for f in importer.frames(nodes[0]))
                or "the root"
            ),
        )
        for name, nodes in sorted(missing.items(), key=lambda item: (-len(item[1]), item[0]))
    )
    raise UnsupportedError(
        f"{importer.source.spec} needs {len(gaps)} op(s) that porter has no lowering for; add one with @porter.lowering, "
        "or run `porter ops` to see what there is:",
        gaps,
    )


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


def _type_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


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
