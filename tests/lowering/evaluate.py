"""Lowers a tiny module and runs the IR nodes in MLX as they stand: no passes, no emitter.

Every node's result is checked against the shape and dtype that its lowering declared.
"""

from __future__ import annotations

import inspect
import operator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import sympy
import torch
from torch.export import Dim

from porter.frontends.import_graph import import_program
from porter.functions import function as function_of
from porter.ir import Node, Program, Value, map_values, verify
from porter.weights.recipes import evaluate as evaluate_recipe
from porter.weights.tensors import TensorSpec, dtype_name

OPERATORS = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod, "**": operator.pow, "@": operator.matmul, "==": operator.eq, "!=": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "&": operator.and_,
    "|": operator.or_, "^": operator.xor, "<<": operator.lshift, ">>": operator.rshift,
    "neg": operator.neg, "~": operator.invert,
}  # fmt: skip


@dataclass
class StateTensors:
    """A state dict as the recipes read it."""

    state: dict[str, torch.Tensor]

    def read(self, key: str) -> mx.array:
        return to_mlx(self.state[key])

    def spec(self, key: str) -> TensorSpec:
        array = self.read(key)
        return TensorSpec(dtype_name(array.dtype), tuple(array.shape))


@dataclass
class Lowered:
    program: Program
    tensors: StateTensors


def lower(
    module: torch.nn.Module, args: tuple, dynamic: Any = None, kwargs: dict | None = None
) -> Lowered:
    """Exports and lowers; `dynamic` is a set of axes for each argument (None: fixed sizes)."""
    shapes: Any = None
    if dynamic is not None:
        shapes = tuple(dict.fromkeys(axes, Dim.AUTO) if axes else None for axes in dynamic)
        if "args" in inspect.signature(module.forward).parameters:
            shapes = (shapes,)
    with torch.no_grad():
        exported = torch.export.export(
            module.eval(), args, kwargs or {}, dynamic_shapes=shapes, strict=False
        )
    source: Any = SimpleNamespace(
        module=module,
        name="test",
        spec="test",
        args=args,
        kwargs=kwargs or {},
        constructors={},
        keys={},
        dynamic={},
        program=exported,
        config=None,
    )
    program = import_program(exported, source)
    verify(program)
    state = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
        **exported.constants,
    }
    return Lowered(
        program,
        StateTensors({k: v.detach() for k, v in state.items() if isinstance(v, torch.Tensor)}),
    )


def run(lowered: Lowered, inputs: list[torch.Tensor]) -> list[mx.array]:
    """The outputs, in order; symbols are bound by the inputs' shapes."""
    program = lowered.program
    values: dict[Value, mx.array] = {}
    symbols: dict[sympy.Symbol, int] = {}
    for value, tensor in zip(program.inputs, inputs, strict=True):
        values[value] = to_mlx(tensor)
        pairs = zip(value.shape, tensor.shape, strict=True)
        symbols |= {size: actual for size, actual in pairs if isinstance(size, sympy.Symbol)}
    machine = _Machine(values, symbols, lowered.tensors)
    for node in program.nodes:
        machine.step(node)
    return [machine.value(value) for value in program.output_values()]


@dataclass
class _Machine:
    values: dict[Value, mx.array]
    symbols: dict[sympy.Symbol, int]
    tensors: StateTensors

    def value(self, value: Value) -> mx.array:
        if value not in self.values:
            assert value.is_parameter, f"{value!r} is read but nothing wrote it"
            array = evaluate_recipe(value.recipe, self.tensors)
            assert tuple(array.shape) == value.shape, (
                f"recipe {value.recipe} gives {array.shape}, not {value.shape}"
            )
            self.values[value] = array
        return self.values[value]

    def size(self, item: Any) -> Any:
        if isinstance(item, sympy.Basic):
            number = item.subs(self.symbols)
            return int(number) if number.is_integer else float(number)
        return item

    def resolve(self, item: Any) -> Any:
        if item == "mx.cpu":
            return mx.cpu
        item = map_values(item, self.value)

        def sizes(part: Any) -> Any:
            if isinstance(part, (list, tuple)):
                return type(part)(map(sizes, part))
            if isinstance(part, slice):
                return slice(*map(sizes, (part.start, part.stop, part.step)))
            return self.size(part)

        return sizes(item)

    def step(self, node: Node) -> None:
        args = [self.resolve(item) for item in node.args]
        kwargs = {key: self.resolve(item) for key, item in node.kwargs.items()}
        if "dtype" in kwargs:
            kwargs["dtype"] = dtype(kwargs["dtype"])
        result = self.call(node, args, kwargs)
        results = list(result) if isinstance(result, (list, tuple)) else [result]
        assert len(results) == len(node.outputs), (
            f"{node.op} gives {len(results)} arrays, not {len(node.outputs)}"
        )
        for value, array in zip(node.outputs, results, strict=True):
            for size, actual in zip(value.shape, array.shape, strict=False):
                if isinstance(size, sympy.Symbol) and str(size).startswith("u"):
                    self.symbols.setdefault(size, actual)  # a size that depends on the data
            declared = tuple(self.size(size) for size in value.shape)
            assert tuple(array.shape) == declared, (
                f"{node.op} gives {tuple(array.shape)}, not {declared} {value.shape}"
            )
            assert array.dtype == dtype(value.dtype), (
                f"{node.op} gives {array.dtype}, declared {value.dtype}"
            )
            self.values[value] = array

    def call(self, node: Node, args: list, kwargs: dict) -> Any:
        op = node.op
        if op in OPERATORS:
            return OPERATORS[op](*args, **kwargs)
        if op == "[]":
            return args[0][self.resolve(node.attrs["key"])]
        if op == "[]=":
            whole = mx.array(args[0])
            whole[self.resolve(node.attrs["key"])] = args[1]
            return whole
        if op == "unpack":
            return [args[0][i] for i in range(args[0].shape[0])]
        if op == ".astype":
            return args[0].astype(dtype(node.output.dtype))
        if op.startswith("."):
            return getattr(args[0], op[1:])(*args[1:], **kwargs)
        if node.is_layer:
            return self.layer(node)(*args)
        if op.startswith("fn."):
            return function_of(op.removeprefix("fn."))(*args, **kwargs)
        function: Any = {"mx": mx, "nn": nn}[op[:2]]
        for name in op[3:].split("."):
            function = getattr(function, name)
        return function(*args, **kwargs)

    def layer(self, node: Node) -> nn.Module:
        attrs = {
            key: getattr(nn, value[3:]) if str(value).startswith("nn.") else value
            for key, value in self.resolve(node.attrs).items()
        }
        layer = getattr(nn, node.op[3:])(**attrs)
        layer.eval()
        layer.load_weights(
            [(key, self.value(value)) for key, value in node.params.items()], strict=True
        )
        return layer


def dtype(name: Any) -> Any:
    if not isinstance(name, str):
        return name
    return mx.bool_ if name == "bool" else getattr(mx, name)


def to_mlx(tensor: torch.Tensor) -> mx.array:
    if tensor.dtype == torch.bfloat16:
        return mx.array(tensor.float().numpy()).astype(mx.bfloat16)
    if tensor.dtype == torch.float64:
        tensor = tensor.float()
    return mx.array(tensor.detach().resolve_conj().resolve_neg().contiguous().numpy())


def to_numpy(array: mx.array) -> np.ndarray:
    return np.array(array.astype(mx.float32) if array.dtype == mx.bfloat16 else array)
