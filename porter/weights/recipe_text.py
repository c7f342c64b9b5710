"""Reads the text form of recipes. Only the listed functions and plain literals exist; nothing is ever evaluated."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable

from porter.errors import InputError, PorterError
from porter.weights import recipe_tree as tree
from porter.weights.recipe_tree import Argument, Recipe

LONGEST_TEXT = 10_000_000


def parse(text: str) -> Recipe:
    """The recipe that `text` spells; InputError when it is not one."""
    if len(text) > LONGEST_TEXT:
        raise InputError(
            f"a recipe of {len(text)} characters is too long: keep data in a tensor file."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            body = ast.parse(text.strip(), mode="eval").body
        recipe = _argument(body)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise _wrong(text, str(error)) from None
    if not isinstance(recipe, Recipe):
        raise _wrong(text, "it is not a function of tensors")
    return recipe


def _argument(node: ast.expr) -> Argument:
    """One expression of the syntax tree; ValueError for whatever a recipe has no room for."""
    match node:
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            return _call(name, [_argument(argument) for argument in arguments])
        case ast.List(elts=elements):
            return tuple(_argument(element) for element in elements)
        case ast.Constant(value=value) if value is None or type(value) in (str, bool, int, float):
            return value  # type: ignore[return-value]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)) if type(value) in (
            int,
            float,
        ):
            return -value  # type: ignore[operator, return-value]
        case ast.Call(func=ast.Name(id=name)):
            raise ValueError(f"{name!r} is not a recipe function, or has named arguments")
    raise ValueError(f"{ast.unparse(node)[:80]!r} has no place in a recipe")


def _call(name: str, arguments: list[Argument]) -> Recipe:
    """The recipe for name(*arguments), each checked to be what the function takes."""
    kinds, build = FUNCTIONS[name]
    if len(kinds) != len(arguments):
        raise ValueError(f"{name} takes {len(kinds)} arguments, not {len(arguments)}")
    for kind, argument in zip(kinds, arguments, strict=True):
        if not KINDS[kind](argument):
            raise ValueError(f"{name} takes {kind} where it has {argument!r:.80}")
    try:
        return build(*arguments)
    except PorterError as error:
        raise ValueError(str(error)) from None


def _wrong(text: str, reason: str) -> InputError:
    return InputError(
        f"the recipe {text[:120]!r} cannot be read ({reason[:200]}): correct the mapping."
    )


def _is_int(value: Argument) -> bool:
    return type(value) is int


def _is_ints(value: Argument) -> bool:
    return isinstance(value, tuple) and all(map(_is_int, value))


def _is_number(value: Argument) -> bool:
    return type(value) in (int, float)


def _is_values(value: Argument) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_values, value))
    return isinstance(value, (bool, int, float))


KINDS: dict[str, Callable[[Argument], bool]] = {
    "a recipe": lambda value: isinstance(value, Recipe),
    "a recipe or number": lambda value: isinstance(value, Recipe) or _is_number(value),
    "recipes": lambda value: isinstance(value, tuple) and all(isinstance(v, Recipe) for v in value),
    "text": lambda value: isinstance(value, str),
    "a whole number": _is_int,
    "a whole number or None": lambda value: value is None or _is_int(value),
    "whole numbers": _is_ints,
    "a whole number or a list of them": lambda value: _is_int(value) or _is_ints(value),
    "numbers": _is_values,
    "yes or no": lambda value: isinstance(value, bool),
}

_UNARY = ("a recipe",)
_BINARY = ("a recipe or number", "a recipe or number")
_REDUCTION = ("a recipe", "whole numbers", "yes or no")
FUNCTIONS: dict[str, tuple[tuple[str, ...], Callable[..., Recipe]]] = {
    "source": (("text",), tree.source),
    # As written: tree.permute would drop [0, 1], and with it the check that x has two axes.
    "permute": (("a recipe", "whole numbers"), lambda x, axes: Recipe("permute", (x, axes))),
    "reshape": (("a recipe", "whole numbers"), tree.reshape),
    "concatenate": (("recipes", "a whole number"), tree.concatenate),
    "split": (
        ("a recipe", "a whole number or a list of them", "a whole number", "a whole number"),
        tree.split,
    ),
    "slice": (
        ("a recipe", "a whole number", "a whole number or None", "a whole number or None"),
        tree.slice,
    ),
    "take": (("a recipe", "whole numbers", "a whole number"), tree.take),
    "cast": (("a recipe", "text"), tree.cast),
    "from_fp8": (_UNARY, tree.from_fp8),
    "add": (_BINARY, tree.add),
    "subtract": (_BINARY, tree.subtract),
    "multiply": (_BINARY, tree.multiply),
    "maximum": (_BINARY, tree.maximum),
    "matmul": (("a recipe", "a recipe"), tree.matmul),
    "square": (_UNARY, tree.square),
    "sum": (_REDUCTION, tree.sum),
    "mean": (_REDUCTION, tree.mean),
    "divide": (_BINARY, tree.divide),
    "negative": (_UNARY, tree.negative),
    "sqrt": (_UNARY, tree.sqrt),
    "rsqrt": (_UNARY, tree.rsqrt),
    "exp": (_UNARY, tree.exp),
    "constant": (("numbers", "whole numbers", "text"), tree.constant),
}
