"""Two programs of one structure, node by node."""

from __future__ import annotations

from typing import Any

from sympy import Expr, Mul

from porter.ir.program import Node, Program, Value


class _Unlike(Exception):
    pass


def align(program: Program, other: Program) -> tuple[dict[Node, Node], dict[Value, Value]] | None:
    """Each node and value of `program` with its like in `other`; None where the two do not compute in the same steps.

    The like may differ in its numbers and in the sizes of its arrays, not in ops, modules, ranks or the symbols of sizes.
    `other` may have been traced with the traced sizes of `program` as numbers, which takes a fraction of the time: its sizes
    are then made the expressions that they are in `program`, or such with another factor. Where one is another number
    there, a setting has to do with it, and there is no like.
    """
    nodes = [node for node in program.nodes if node.op != "size"]  # which were put in since
    unlike = bool(other.dims) and program.dims.keys() != other.dims.keys()
    if len(nodes) != len(other.nodes) or unlike:
        return None
    pairs = _Pairs({} if other.dims else {s: traced for s, (_, traced) in program.dims.items()})
    try:
        for a, b in zip(nodes, other.nodes, strict=True):
            pairs.node(a, b)
        pairs.like(program.inputs, other.inputs)
        pairs.like(program.output_values(), other.output_values())
    except _Unlike:
        return None
    return dict(zip(nodes, other.nodes, strict=True)), pairs.values


class _Pairs:
    """The values paired so far; `traced`: the symbols that the other program has as numbers."""

    def __init__(self, traced: dict[Any, int]):
        self.traced = traced
        self.values: dict[Value, Value] = {}

    def node(self, a: Node, b: Node) -> None:
        if a.op != b.op or a.scope != b.scope:
            raise _Unlike
        attrs = {key: value for key, value in a.attrs.items() if key != "sizes"}
        b.args = self.like(a.args, b.args)
        b.kwargs = self.like(a.kwargs, b.kwargs)
        b.attrs = self.like(attrs, b.attrs)
        self.like(a.params, b.params)
        self.like(a.outputs, b.outputs)

    def like(self, a: Any, b: Any) -> Any:
        """`b` with its sizes as the expressions that they are in `a`. Raises _Unlike."""
        if isinstance(a, Value):
            return self._value(a, b)
        if isinstance(a, Expr) and not isinstance(b, Expr):
            if not self.traced or type(b) not in (int, float):
                raise _Unlike
            return a if a.subs(self.traced) == b else self._multiple(a, b)
        if isinstance(a, (list, tuple)):
            if type(a) is not type(b) or len(a) != len(b):
                raise _Unlike
            return type(a)([self.like(x, y) for x, y in zip(a, b, strict=True)])
        if isinstance(a, dict):
            if not isinstance(b, dict) or a.keys() != b.keys():
                raise _Unlike
            return {key: self.like(x, b[key]) for key, x in a.items()}
        if isinstance(a, slice):
            if not isinstance(b, slice):
                raise _Unlike
            return slice(*self.like([a.start, a.stop, a.step], [b.start, b.stop, b.step]))
        if (a is None) != (b is None):
            raise _Unlike
        return b

    def _multiple(self, a: Expr, b: float) -> Expr:
        """`12` as `6 * batch` for `2 * batch`: heads beside the samples, of which the other size has more."""
        number, symbols = a.as_coeff_Mul()
        factors = Mul.make_args(symbols)
        unit = symbols.subs(self.traced)
        if not (number.is_Integer and number > 1 and all(f.is_Symbol for f in factors)):
            raise _Unlike
        if type(b) is not int or not unit.is_Integer or b % int(unit):
            raise _Unlike
        return (b // int(unit)) * symbols

    def _value(self, a: Value, b: Any) -> Value:
        if a in self.values:
            if self.values[a] is not b:
                raise _Unlike
            return self.values[a]
        if not isinstance(b, Value) or a.rank != b.rank or a.dtype != b.dtype:
            raise _Unlike
        b.shape = self.like(a.shape, b.shape)
        self.values[a] = b
        return b
