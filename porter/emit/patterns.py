"""Forms of expression that a size, a scale or a condition may have, and what may stand in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from porter.emit.names import words


@dataclass(frozen=True, slots=True)
class Pattern:
    """A form of expression: `function` of as many symbols as `template` has places, each passing its test in `accepts`.

    A constant fits many forms by chance, so only patterns with `constant` are tried on one, with names that pass it.
    """

    template: str
    function: Callable[..., Any]
    accepts: tuple[Callable[[str, Any], bool], ...]
    constant: Callable[..., bool] | None = None


def _is_size(name: str, value: Any) -> bool:
    del name
    return type(value) is int and value > 3


def _is_integer(name: str, value: Any) -> bool:
    del name
    return type(value) is int


def _is_count(name: str, value: Any) -> bool:
    del name
    return type(value) is int and value > 0


def _is_ratio(name: str, value: Any) -> bool:
    return isinstance(value, float) and value > 0 and "ratio" in name


def _is_kernel(name: str, value: Any) -> bool:
    return type(value) is int and "kernel" in name


def _is_window(name: str, value: Any) -> bool:
    """What goes over an image or a text and is padded by half of itself."""
    odd = type(value) is int and value % 2 == 1
    return odd and bool(words(name) & {"kernel", "pool", "pooling", "window"})


def _is_head_size(name: str, value: Any) -> bool:
    return (
        type(value) is int
        and value > 1
        and bool(words(name) & {"dim", "kv", "heads", "hidden", "channels", "model"})
        and not counts_heads(name)
    )


def counts_heads(name: str) -> bool:
    return {"num", "heads"} <= words(name) and "dim" not in words(name)


def _is_size_of_head(name: str, value: Any) -> bool:
    """head_dim, d_kv, v_head_dim: a number that a number of heads is multiplied with."""
    known = words(name) - {"num"} == words(name) and (
        "kv" in words(name) or {"heads", "dim"} <= words(name)
    )
    return type(value) is int and value > 1 and known


def is_place(name: str) -> bool:
    """Whether a number says which of several a module is: no width is made of it."""
    return bool(words(name) & {"index", "idx", "position", "place"})


def _is_heads(name: str, value: Any) -> bool:
    return type(value) is int and value > 1 and "heads" in words(name)


def _is_key_heads(name: str, value: Any) -> bool:
    return _is_heads(name, value) and bool(words(name) & {"kv", "key"})


def _is_patch(name: str, value: Any) -> bool:
    return type(value) is int and bool(words(name) & {"patch", "kernel", "window"})


def _is_picture(name: str, value: Any) -> bool:
    return _is_size(name, value) and bool(words(name) & {"img", "image", "resolution"})


#: What the names of a model's width are made of; a context's, a head's or a projection's width is another.
_OF_THE_MODEL = {
    "dim", "hidden", "model", "d", "num", "size", "base", "width", "channels", "in", "out", "inner", "encoder", "decoder",
    "text", "vision", "audio", "image", "token", "tokens", "block", "transformer",
}  # fmt: skip
#: What a name has that speaks of a number of features, and not of tokens.
_WIDTHS = {"dim", "hidden", "model", "width", "channels", "state", "inner", "units"}


def _is_width(name: str, *_: str) -> bool:
    """Whether a config's field speaks of the model's width, of which other sizes are multiples."""
    return bool(words(name) & {"dim", "hidden", "model"}) and words(name) <= _OF_THE_MODEL


def _of_heads_or_patches(whole: str, part: str, *_: str) -> bool:
    """Whether one of the names speaks of a width and the other of heads, or of an image and its patches."""
    is_width = bool(words(whole) & _WIDTHS) and "heads" not in words(whole)
    return "patch" in words(part) or ("heads" in words(part) and is_width)


def _of_image_and_patch(*names: str) -> bool:
    return "patch" in words(names[1])


def _quotient(a: int, b: int) -> int | None:
    return a // b if a % b == 0 else None


def _squared_quotient(a: int, b: int) -> int | None:
    return (a // b) ** 2 if b > 1 else None


def _exact_square(a: int, b: int) -> int | None:
    return (a // b) ** 2 if b > 1 and a % b == 0 else None


#: Forms of a size, the likelier first.
COMPOSITES: tuple[Pattern, ...] = (
    Pattern("int({} * {})", lambda a, ratio: int(a * ratio), (_is_size, _is_ratio), _is_width),
    Pattern("{} * {}", lambda a, b: a * b, (_is_size_of_head, _is_heads), lambda *_: True),
    Pattern(
        "{} // {} * {}",
        lambda a, b, c: None if a % b else a // b * c,
        (_is_size, _is_heads, _is_key_heads),
        _of_heads_or_patches,
    ),
    *(Pattern(f"{k} * {{}}", lambda a, k=k: k * a, (_is_size,), _is_width) for k in (2, 3, 4)),
    *(Pattern(f"{{}} // {k}", lambda a, k=k: _quotient(a, k), (_is_size,)) for k in (2, 4)),
    Pattern("{} ** 2", lambda a: a * a, (_is_size,)),
    Pattern("{} // 2", lambda a: a // 2, (_is_window,)),
    Pattern("{} // {}", _quotient, (_is_size, _is_count), _of_heads_or_patches),
    Pattern("({} // {}) ** 2", _squared_quotient, (_is_picture, _is_patch), _of_image_and_patch),
    Pattern(
        "({} // {}) ** 2 + 1",
        lambda a, b: (a // b) ** 2 + 1 if b else None,
        (_is_picture, _is_patch),
        _of_image_and_patch,
    ),
    Pattern("({} // {}) ** 2", _exact_square, (_is_size, _is_count)),
    *(Pattern(f"{k} * {{}}", lambda a, k=k: k * a, (_is_size,)) for k in (5, 6, 8)),
    *(
        Pattern(f"{{}} {'+-'[k < 0]} {abs(k)}", lambda a, k=k: a + k, (_is_size,))
        for k in (1, 2, -1)
    ),
    Pattern("{} * {}", lambda a, b: a * b, (_is_count, _is_count)),
    Pattern("{} ** 2 * {}", lambda a, b: a * a * b, (_is_patch, _is_count)),
    Pattern("{} + {}", lambda a, b: a + b, (_is_count, _is_count)),
    Pattern("{} - {}", lambda a, b: a - b, (_is_count, _is_count)),
    Pattern("{} + {} * {}", lambda a, b, c: a + b * c, (_is_count, _is_count, _is_count)),
)
#: Forms of a size over one element of a tuple.
MULTIPLES: tuple[Pattern, ...] = (
    *(Pattern(f"{k} * {{}}", lambda a, k=k: k * a, (_is_size,)) for k in (2, 3, 4, 6, 8)),
    *(Pattern(f"{{}} // {k}", lambda a, k=k: _quotient(a, k), (_is_size,)) for k in (2, 4)),
    Pattern("{} + {}", lambda a, b: a + b, (_is_size, _is_size)),
)
#: Forms of a size over an element of a tuple and another number.
QUOTIENTS: tuple[Pattern, ...] = (Pattern("{} // {}", _quotient, (_is_size, _is_count)),)
PADDINGS: tuple[Pattern, ...] = (Pattern("{} // 2", lambda k: k // 2, (_is_kernel,)),)
#: Attention scales: a head's size to the power of -1/2.
SCALES: tuple[Pattern, ...] = (
    Pattern("{} ** -0.5", lambda a: a**-0.5 if a > 1 else None, (_is_head_size,), lambda *_: True),
    Pattern(
        "({} // {}) ** -0.5",
        lambda a, b: (a // b) ** -0.5 if a % b == 0 and a > b else None,
        (_is_integer, _is_heads),
        lambda *_: True,
    ),
)
#: Conditions on an optional part.
CONDITIONS: tuple[Pattern, ...] = (
    Pattern("{} > 0", lambda a: a > 0, (_is_integer,)),
    Pattern("{} != 1", lambda a: a != 1, (_is_integer,)),
    Pattern("{} != {}", lambda a, b: a != b, (_is_integer, _is_integer)),
    Pattern("{} == {}", lambda a, b: a == b, (_is_integer, _is_integer)),
    Pattern(
        "{} == {} and {} == 1",
        lambda a, b, c: a == b and c == 1,
        (_is_integer, _is_integer, _is_integer),
    ),
)
#: Conditions that hold by chance more often: where nothing simpler does.
FAR_CONDITIONS: tuple[Pattern, ...] = tuple(
    Pattern(f"{{}} != {k} * {{}}", lambda a, b, k=k: a != k * b, (_is_integer, _is_integer))
    for k in (2, 4)
)

#: Tests that ask for a telling name.
_BY_NAME = (_is_ratio, _is_kernel, _is_head_size, _is_size_of_head, _is_heads)


def is_told(pattern: Pattern, names: tuple[str, ...], columns: list[list[Any]]) -> bool:
    """Whether numbers that never change stand in a form by their names, and not because they happen to fit."""
    if len(names) < 2 or pattern in (*CONDITIONS, *FAR_CONDITIONS):
        return True
    if pattern.constant is not None and pattern.constant(*names):
        return True
    return all(
        test in _BY_NAME or len(set(column)) > 1 or ("+" not in pattern.template and column[0] > 3)
        for test, column in zip(pattern.accepts, columns, strict=True)
    )
