"""A size made of other sizes, as a Python expression."""

from __future__ import annotations

from functools import reduce

import sympy
from sympy import Add, Expr, Mul, Pow, Symbol

from porter.emit.syntax import ATOM, Text, call, infix, plain, prefix

#: torch's own functions of sizes, by the operator that they are.
_OPERATORS = {
    "FloorDiv": "//", "CleanDiv": "//", "FloatTrueDiv": "/", "IntTrueDiv": "/", "Mod": "%", "PythonMod": "%",
    "PowByNatural": "**",
}  # fmt: skip
_REMAINDERS = {"Mod", "PythonMod"}
#: What these are given may be a fraction.
_REAL = {"ToFloat", "TruncToInt", "IntTrueDiv", "FloatTrueDiv"}


def size_text(expression: Expr, names: dict[Symbol, str], real: bool = False) -> Text | None:
    """The expression with its symbols' names; None where it has a part that Python has no operator for.

    A quotient is known to be a whole number unless `real` says that it is meant as it is.
    """
    if isinstance(expression, Symbol):
        return Text(names[expression], ATOM, 0, {names[expression]})
    if expression.is_Integer:
        return plain(int(expression))
    if expression.is_Float:
        return plain(float(expression))
    expression = _power(expression)
    kind = type(expression).__name__
    if isinstance(expression, (Add, Mul)) or expression.is_Rational:
        return _arithmetic(expression, names, real)
    arguments = expression.args
    if kind in _REMAINDERS and arguments[1].is_Integer:
        arguments = (_congruent(*arguments), arguments[1])
    parts = [size_text(part, names, real or kind in _REAL) for part in arguments]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    if isinstance(expression, Pow) or kind in _OPERATORS:
        return infix(_OPERATORS.get(kind, "**"), *known)
    if kind in ("floor", "ceiling", "FloorToInt", "CeilToInt"):
        top, bottom = _fraction(expression.args[0])
        if kind.startswith("ceil") or kind == "CeilToInt":
            top = -top
        over, under = size_text(top, names), size_text(bottom, names)
        if over is None or under is None:
            return None
        whole = infix("//", over, under)
        return prefix("neg", whole) if kind in ("ceiling", "CeilToInt") else whole
    if kind in ("Max", "Min"):
        return call(kind.lower(), known)
    if kind in ("ToFloat", "TruncToInt"):
        return call("float" if kind == "ToFloat" else "int", known)
    return None


def _power(expression: Expr) -> Expr:
    """torch's own roots and powers of sizes as one power: `L**-0.5` for 1 over the root of a float."""
    if isinstance(expression, Pow) and expression.exp.is_number:
        base = _power(expression.base)
        if isinstance(base, Pow) and base is not expression.base and base.exp.is_number:
            return Pow(base.base, base.exp * expression.exp, evaluate=False)
    kind = type(expression).__name__
    if kind not in ("FloatPow", "OpaqueUnaryFn_sqrt"):
        return expression
    base, exponent = expression.args if kind == "FloatPow" else (*expression.args, sympy.Float(0.5))
    whole = type(base).__name__ == "ToFloat" and exponent.is_number
    return Pow(base.args[0] if whole else base, exponent, evaluate=False)


def _congruent(size: Expr, modulus: Expr) -> Expr:
    """What leaves the same rest: `(4 - H % 4) % 4`, as authors pad to whole windows, is `-H % 4`."""
    total: Expr = sympy.Integer(0)
    for term in Add.make_args(size):
        number, rest = term.as_coeff_Mul()
        if rest == 1:
            total += number % modulus
        elif type(rest).__name__ in _REMAINDERS and rest.args[1] == modulus and number.is_Integer:
            total += number * rest.args[0]
        else:
            total += term
    return total


def _fraction(expression: Expr) -> tuple[Expr, Expr]:
    """Numerator and denominator, torch's own division included."""
    if type(expression).__name__ in ("IntTrueDiv", "FloatTrueDiv"):
        return expression.args[0], expression.args[1]
    top, bottom = sympy.together(expression).as_numer_denom()
    return top, bottom


def _arithmetic(expression: Expr, names: dict[Symbol, str], real: bool) -> Text | None:
    top, bottom = _fraction(expression)
    if bottom != 1 and (not real or not isinstance(expression, Add)):
        over, under = size_text(top, names, real), size_text(bottom, names, real)
        return None if over is None or under is None else infix("/" if real else "//", over, under)
    if isinstance(expression, Add):
        terms = sorted(
            expression.args, key=lambda t: (t.could_extract_minus_sign(), t.is_number, str(t))
        )
        first = size_text(terms[0], names, real)
        for term in terms[1:]:
            negative = term.could_extract_minus_sign()
            second = size_text(-term if negative else term, names, real)
            if first is None or second is None:
                return None
            first = infix("-" if negative else "+", first, second)
        return first
    if top.could_extract_minus_sign():
        rest = size_text(-top, names, real)
        return None if rest is None else prefix("neg", rest)
    factors = [size_text(factor, names, real) for factor in Mul.make_args(top)]
    known = [factor for factor in factors if factor is not None]
    return reduce(lambda a, b: infix("*", a, b), known) if len(known) == len(factors) else None
