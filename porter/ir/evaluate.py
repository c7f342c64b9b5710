"""Runs a few nodes of a program in MLX, to ask what a part of it computes."""

from __future__ import annotations

import operator
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import sympy

from porter.ir.program import Node, Value, map_values

_OPERATORS: dict[str, Any] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod, "**": operator.pow, "@": operator.matmul, "==": operator.eq, "!=": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "&": operator.and_,
    "|": operator.or_, "^": operator.xor, "<<": operator.lshift, ">>": operator.rshift,
    "neg": operator.neg, "~": operator.invert,
}  # fmt: skip


class Unknown(Exception):
    """A value that depends on an input or a weight whose elements are not at hand."""


class Evaluator:
    """Evaluates values with `known` arrays in place of some of them and `sizes` in place of the symbols.

    Parameters need `data`, or a place in `known`. Raises Unknown for what depends on anything else; of layers with parameters
    only embeddings are run.
    """

    def __init__(self, known: dict[Value, mx.array], sizes: dict[sympy.Symbol, int]):
        self.known = dict(known)
        self.sizes = sizes

    def __call__(self, value: Value) -> mx.array:
        stack = [value]
        while stack:
            top = stack[-1]
            if top in self.known:
                stack.pop()
                continue
            if top.is_parameter:
                if top.data is None:
                    raise Unknown(top.path)
                self.known[top] = mx.array(np.asarray(top.data)).astype(_dtype(top.dtype))
                continue
            if top.node is None:
                raise Unknown(top.origin)
            missing = [v for v in top.node.inputs() if v not in self.known]
            if missing:
                stack += missing
                continue
            self._run(top.node)
        return self.known[value]

    def size(self, item: Any) -> Any:
        """A size as a number."""
        if isinstance(item, sympy.Basic):
            number = item.subs(self.sizes)
            if number.free_symbols:
                raise Unknown(str(number))  # it depends on the data
            return int(number) if number.is_integer else float(number)
        return item

    def _resolve(self, item: Any) -> Any:
        def sizes(part: Any) -> Any:
            if isinstance(part, (list, tuple)):
                return type(part)(map(sizes, part))
            if isinstance(part, slice):
                return slice(*map(sizes, (part.start, part.stop, part.step)))
            return self.size(part)

        return sizes(map_values(item, self.known.__getitem__))

    def _run(self, node: Node) -> None:
        args = [self._resolve(item) for item in node.args]
        kwargs = {key: self._resolve(item) for key, item in node.kwargs.items()}
        if "dtype" in kwargs:
            kwargs["dtype"] = _dtype(kwargs["dtype"])
        result = self._call(node, args, kwargs)
        results = list(result) if isinstance(result, (list, tuple)) else [result]
        self.known.update(zip(node.outputs, results, strict=True))

    def _call(self, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
        op = node.op
        if op in _OPERATORS:
            return _OPERATORS[op](*args, **kwargs)
        if op == "[]":
            return args[0][self._resolve(node.attrs["key"])]
        if op == "[]=":
            whole = mx.array(args[0])
            whole[self._resolve(node.attrs["key"])] = args[1]
            return whole
        if op == "unpack":
            return [args[0][i] for i in range(args[0].shape[0])]
        if op == ".astype":
            return args[0].astype(_dtype(node.output.dtype))
        if op.startswith("."):
            return getattr(args[0], op[1:])(*args[1:], **kwargs)
        if op == "nn.Embedding":
            return self.known[node.params["weight"]][args[0]]
        if op.startswith("fn."):
            from porter import functions

            return functions.function(op.removeprefix("fn."))(*args, **kwargs)
        if node.is_layer or node.params or not op.startswith(("mx.", "nn.")):
            raise Unknown(op)
        function: Any = {"mx": mx, "nn": nn}[op[:2]]
        for name in op[3:].split("."):
            function = getattr(function, name)
        return function(*args, **kwargs)


def _dtype(name: Any) -> Any:
    if not isinstance(name, str):
        return name
    return mx.bool_ if name == "bool" else getattr(mx, name)
