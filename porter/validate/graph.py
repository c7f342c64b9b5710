"""Running an exported graph, whole or in part, at a precision of choice. Torch only."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from porter.errors import InputError

Observer = Callable[[Node, tuple[Any, ...], dict[str, Any]], None]

WIDE = {torch.float32: torch.float64, torch.complex64: torch.complex128}


class UncomparableError(Exception):
    """An entry whose values the graph can't give; the message is the reason."""


class _Widen(TorchFunctionMode):
    """Explicit float32 becomes float64: `x.float()`, `dtype=torch.float32`. Fills keep their value."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.float:
            return args[0].double()
        if getattr(func, "__name__", "") not in ("view", "view.dtype"):
            args, kwargs = pytree.tree_map(_wide, (args, kwargs))
        return func(*args, **kwargs)


def _wide(value: Any) -> Any:
    return WIDE.get(value, value) if isinstance(value, torch.dtype) else value


@contextmanager
def float64() -> Iterator[None]:
    """What runs inside computes in float64 where the author wrote float32 or nothing."""
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Widen():
            yield
    finally:
        torch.set_default_dtype(previous)


def cast(value: Any, dtype: torch.dtype) -> Any:
    """Floating tensors to `dtype`, complex ones along with float64; the rest as it is."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            return value.to(dtype)
        if value.is_complex() and dtype == torch.float64:
            return value.to(torch.complex128)
    return value


def op_name(node: Node) -> str:
    """`linear` of aten.linear.default, without an in-place underscore."""
    parts = str(node.target).split(".")
    name = parts[-2] if len(parts) > 1 else parts[-1]
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def is_scalar(node: Node) -> bool:
    """Whether the node is a size or another number; such values always come from the whole run."""
    value = node.meta.get("val")
    return value is not None and not isinstance(value, (torch.Tensor, tuple, list, dict))


@dataclass(slots=True)
class Graph:
    """An exported program with its weights: `state` maps placeholder names to tensors."""

    program: ExportedProgram
    state: dict[str, Any]
    names: dict[str, str]
    user_inputs: list[str]
    nodes: dict[str, Node]

    @staticmethod
    def bind(program: ExportedProgram, module: torch.nn.Module) -> Graph:
        """Feeds the program the materialized module's weights; its own may be on meta."""
        own: dict[str, Any] = dict(module.named_parameters(remove_duplicate=False))
        own |= dict(module.named_buffers(remove_duplicate=False))
        own = {**program.constants, **program.state_dict, **own}
        state: dict[str, Any] = {}
        names: dict[str, str] = {}
        inputs: list[str] = []
        for spec in program.graph_signature.input_specs:
            if spec.kind == InputKind.USER_INPUT:
                inputs.append(spec.arg.name)
            elif spec.kind != InputKind.TOKEN:
                target = str(spec.target)
                value = own.get(target)
                if value is None or getattr(value, "is_meta", False):
                    raise InputError(
                        f"The source has no data for {target}, so it can't be run as the "
                        "reference. Give the weights with --checkpoint."
                    )
                state[spec.arg.name] = value.detach() if hasattr(value, "detach") else value
                names[spec.arg.name] = target
        return Graph(program, state, names, inputs, {n.name: n for n in program.graph.nodes})

    def feed(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """User inputs by placeholder name."""
        flat = pytree.tree_leaves((args, dict(kwargs)))
        return dict(zip(self.user_inputs, flat, strict=False))

    def used_tensors(self) -> list[str]:
        """Names of parameters and buffers that the computation reads."""
        return [self.names[p] for p in self.names if self.nodes[p].users]

    def run(
        self,
        inputs: Mapping[str, Any],
        dtype: torch.dtype,
        wanted: Mapping[str, int] | None = None,
        seen: Callable[[str, Any], None] | None = None,
        observe: Observer | None = None,
    ) -> list[torch.Tensor]:
        """The whole graph. `seen` gets each value in `wanted` and each number as it is made."""
        env: dict[Node, Any] = {}
        uses = {node: len(node.users) for node in self.program.graph.nodes}
        with torch.no_grad():
            for node in self.program.graph.nodes:
                if node.op == "output":
                    return pytree.tree_leaves(pytree.tree_map(env.get, list(node.args)))
                if node.op == "placeholder":
                    value = self.state[node.name] if node.name in self.state else inputs[node.name]
                    value = cast(value, dtype)
                elif node.op == "call_function" and "assert" in str(node.target):
                    continue
                else:
                    value = self._call(node, env, observe)
                env[node] = value
                if seen is not None and (node.name in (wanted or ()) or is_scalar(node)):
                    seen(node.name, value)
                for used in node.all_input_nodes:
                    uses[used] -= 1
                    if uses[used] == 0:
                        env.pop(used, None)
        return []

    def _call(self, node: Node, env: Mapping[Node, Any], observe: Observer | None = None) -> Any:
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.program.graph_module)
        if _is_alike(node):
            return env[node.args[0]]  # type: ignore[index]
        args = torch.fx.node.map_arg(node.args, env.__getitem__)
        kwargs = torch.fx.node.map_arg(node.kwargs, env.__getitem__)
        if observe is not None:
            observe(node, args, kwargs)
        if _in_place(node) and args and isinstance(args[0], torch.Tensor):
            args = (args[0].clone(), *args[1:])
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def cut(self, inputs: Iterable[str], outputs: Iterable[str]) -> list[Node]:
        """The nodes between given values, in order: a backward slice that stops at `inputs`."""
        given = set(inputs)
        stack = []
        for name in [*given, *outputs]:
            if name not in self.nodes:
                raise UncomparableError(f"the graph has no value {name}")
        stack = [self.nodes[name] for name in outputs if name not in given]
        found: set[Node] = set()
        while stack:
            node = stack.pop()
            if node in found or node.name in given:
                continue
            if node.name in self.user_inputs and not is_scalar(node):
                raise UncomparableError(
                    f"it also depends on {node.name}, which is not among its inputs"
                )
            found.add(node)
            if not is_scalar(node):
                stack += _read(node)
        return [n for n in self.program.graph.nodes if n in found]

    def run_cut(
        self,
        nodes: list[Node],
        given: Mapping[str, Any],
        scalars: Mapping[str, Any],
        outputs: list[str],
        dtype: torch.dtype,
        observe: Observer | None = None,
    ) -> list[torch.Tensor]:
        """Runs a `cut` on given values at `dtype`."""
        env: dict[Node, Any] = {self.nodes[k]: cast(v, dtype) for k, v in given.items()}
        with torch.no_grad():
            for node in nodes:
                if node.name in self.state:
                    env[node] = cast(self.state[node.name], dtype)
                elif is_scalar(node):
                    env[node] = scalars[node.name]
                else:
                    env[node] = self._call(node, env, observe)
        return [env[self.nodes[name]] for name in outputs]


def _is_alike(node: Node) -> bool:
    """Whether it is x.type_as(y) of two floats: all floats of a run have one dtype, so y does not bear on it."""
    if op_name(node) != "type_as":
        return False
    return all(a.meta["val"].is_floating_point() for a in node.all_input_nodes)


def _read(node: Node) -> list[Node]:
    """The nodes whose values a node's own depends on."""
    return node.all_input_nodes[:1] if _is_alike(node) else node.all_input_nodes


def _in_place(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.arguments:
        return False
    info = schema.arguments[0].alias_info
    return info is not None and bool(info.is_write)
