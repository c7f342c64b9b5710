"""`--input NAME=SPEC`: example inputs that the user describes, and where they go in a forward call."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from porter.errors import UsageError
from porter.sources.input_files import FILE_SUFFIXES, read_array
from porter.sources.names import did_you_mean

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.bool,
        torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32,
    )
}  # fmt: skip
MAX_ELEMENTS = 1 << 30
_SPEC = re.compile(r"([a-z]+[0-9]*)\[([^\[\]]*)\]")
_DIM = re.compile(r"(?:([A-Za-z_][A-Za-z0-9_]*)=)?([0-9]{1,12})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ExampleInput:
    """One example input: its forward argument's name, a value, and the axes that may vary in size."""

    name: str
    value: torch.Tensor
    dims: dict[int, str] = field(default_factory=dict)


def parse_inputs(texts: Sequence[str], seed: int = 0) -> tuple[ExampleInput, ...]:
    """Parses every NAME=SPEC; random values come from a generator seeded with `seed`.

    Raises UsageError for a wrong spec, InputError for a file that cannot be read.
    """
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, ExampleInput] = {}
    sizes: dict[str, int] = {}
    for text in texts:
        example = _parse_input(text, generator)
        if example.name in found:
            raise UsageError(f"--input names {example.name!r} twice; give each input once")
        for axis, dim in example.dims.items():
            size = example.value.shape[axis]
            if sizes.setdefault(dim, size) != size:
                raise UsageError(
                    f"--input {text!r}: dim {dim!r} is {size} here and {sizes[dim]} elsewhere; "
                    "give one name one size"
                )
        found[example.name] = example
    return tuple(found.values())


def random_tensor(
    dtype: torch.dtype, shape: Sequence[int], generator: torch.Generator
) -> torch.Tensor:
    """Standard normal values for floating dtypes, small non-negative integers for the others."""
    if dtype.is_floating_point:
        return torch.randn(tuple(shape), generator=generator).to(dtype)
    if dtype.is_complex:
        return torch.randn(tuple(shape), generator=generator, dtype=dtype)
    high = 2 if dtype is torch.bool else 8
    return torch.randint(0, high, tuple(shape), generator=generator).to(dtype)


def place_inputs(
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    examples: Sequence[ExampleInput],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """`args` and `kwargs` of a call of `module` with `examples` put in by name.

    Raises UsageError when `forward` has no argument of that name.
    """
    parameters = inspect.signature(module.forward).parameters
    positional = [
        p.name
        for p in parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    named = positional + [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY]
    anything = not named and any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    by_name = dict(zip(positional, args, strict=False))
    rest, keyword = args[len(positional) :], dict(kwargs)
    for example in examples:
        if example.name not in named and not anything:
            raise UsageError(
                f"--input {example.name}=...: {type(module).__name__}.forward has no such argument"
                f"{did_you_mean(example.name, named)}; it takes {', '.join(named) or 'none'}"
            )
        if example.name in positional and example.name not in keyword:
            by_name[example.name] = example.value
        else:
            keyword[example.name] = example.value
    count = next((i for i, name in enumerate(positional) if name not in by_name), len(positional))
    keyword |= {name: by_name[name] for name in positional[count:] if name in by_name}
    return tuple(by_name[name] for name in positional[:count]) + rest, keyword


def _parse_input(text: str, generator: torch.Generator) -> ExampleInput:
    name, equals, spec = text.partition("=")
    if not equals or not name.isidentifier() or not spec:
        raise UsageError(
            f"--input {text!r} is not NAME=SPEC; write x=float32[batch=2,3,224,224], or x=FILE.npy"
        )
    if spec.lower().endswith(FILE_SUFFIXES):
        return ExampleInput(name, read_array(Path(spec).expanduser(), name))
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise UsageError(
            f"--input {text!r}: {spec!r} is neither DTYPE[SIZES] nor a file; "
            f"write {name}=float32[batch=2,3,224,224], or name a {', '.join(FILE_SUFFIXES)} file"
        )
    dtype = DTYPES.get(match[1])
    if dtype is None:
        raise UsageError(
            f"--input {text!r}: no dtype {match[1]!r}{did_you_mean(match[1], DTYPES)}; one of {', '.join(DTYPES)}"
        )
    shape, dims = _parse_shape(text, match[2])
    return ExampleInput(name, random_tensor(dtype, shape, generator), dims)


def _parse_shape(text: str, sizes: str) -> tuple[list[int], dict[int, str]]:
    shape: list[int] = []
    dims: dict[int, str] = {}
    for axis, item in enumerate(sizes.split(",") if sizes.strip() else []):
        match = _DIM.fullmatch(item.strip())
        if match is None or int(match[2]) < 1:
            raise UsageError(
                f"--input {text!r}: {item.strip()!r} is not a size; write 224, or batch=2 for a size that may vary"
            )
        shape.append(int(match[2]))
        if match[1]:
            dims[axis] = match[1]
    if len(set(dims.values())) < len(dims):
        raise UsageError(f"--input {text!r} gives two axes one name; name each axis once")
    if math.prod(shape) > MAX_ELEMENTS:
        raise UsageError(
            f"--input {text!r} has over {MAX_ELEMENTS} elements; give a smaller example"
        )
    return shape, dims
