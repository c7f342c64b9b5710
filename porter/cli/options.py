"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

DTYPES = ("float32", "float16", "bfloat16")

# mode -> (bits it allows, group sizes it allows); the first of each is the default. From mx.quantize.
QUANTIZATIONS = {
    "affine": ((4, 2, 3, 5, 6, 8), (64, 32, 128)),
    "mxfp4": ((4,), (32,)),
    "mxfp8": ((8,), (32,)),
    "nvfp4": ((4,), (16,)),
}


def writable(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A file to write: its folder must be there before anything long runs."""
    if value is not None and value != "-" and not Path(value).resolve().parent.is_dir():
        raise click.BadParameter(f"the folder of {value} does not exist.", ctx, parameter)
    return value


def _json_target(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    ctx.meta["porter.json"] = writable(ctx, parameter, value)
    return value


def _debug(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    ctx.meta["porter.debug"] = value


def debug_option(command: F) -> F:
    """--debug: errors end in a traceback."""
    return click.option(
        "--debug",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_debug,
        help="Show the traceback of an error.",
    )(command)


def json_option(command: F) -> F:
    """--json FILE: the result as one object."""
    return click.option(
        "--json",
        "json_target",
        metavar="FILE",
        is_eager=True,
        callback=_json_target,
        help="Write the result as one JSON object to FILE; - is stdout.",
    )(command)


def source_options(command: F) -> F:
    """What says how SOURCE is read: the fields of porter.sources.SourceOptions."""
    for option in reversed(
        [
            click.option(
                "--input",
                "inputs",
                metavar="NAME=SPEC",
                multiple=True,
                help="Example input, repeatable: NAME=float32[2,3,224,224], NAME=int32[batch=2,length=16], "
                "or a .npy, .npz or .safetensors file.",
            ),
            click.option("--checkpoint", metavar="FILE", help="Weights for a factory."),
            click.option(
                "--mapping",
                metavar="FILE",
                help="Recipes to use, such as an earlier port's mapping.toml.",
            ),
            click.option(
                "--dtype", type=click.Choice(DTYPES), help="Of the port's floating-point weights."
            ),
            click.option(
                "--trust-pickle",
                is_flag=True,
                help="Read pickles that could run code when they are loaded.",
            ),
            click.option(
                "--trust-remote-code",
                is_flag=True,
                help="Run the Python files in a Hugging Face folder.",
            ),
            click.option(
                "--plugin",
                "plugins",
                metavar="FILE",
                multiple=True,
                help="Python file with lowerings for ops of your own, repeatable.",
            ),
            click.option(
                "--seed",
                type=int,
                default=0,
                show_default=True,
                help="For random weights and example inputs.",
            ),
        ]
    ):
        command = option(command)
    return command


def quantize_options(command: F) -> F:
    """-q and its parameters."""
    for option in reversed(
        [
            click.option(
                "-q", "--quantize", "quantized", is_flag=True, help="Quantize Linear and Embedding."
            ),
            click.option("--q-bits", type=int, metavar="BITS", help="Default 4 (8 for mxfp8)."),
            click.option(
                "--q-group-size", type=int, metavar="SIZE", help="Default 64 (32 mxfp, 16 nvfp4)."
            ),
            click.option(
                "--q-mode", type=click.Choice(list(QUANTIZATIONS)), help="Default affine."
            ),
        ]
    ):
        command = option(command)
    return command


def quantization(
    quantized: bool, bits: int | None, group_size: int | None, mode: str | None
) -> dict[str, Any] | None:
    """The options as {"bits", "group_size", "mode"}, or None; a combination that MLX lacks is a usage error."""
    if not quantized:
        for name, value in (("--q-bits", bits), ("--q-group-size", group_size), ("--q-mode", mode)):
            if value is not None:
                raise click.UsageError(f"{name} says how to quantize: add -q.")
        return None
    mode = mode or "affine"
    all_bits, sizes = QUANTIZATIONS[mode]
    bits = all_bits[0] if bits is None else bits
    group_size = sizes[0] if group_size is None else group_size
    for name, value, allowed in (
        ("--q-bits", bits, all_bits),
        ("--q-group-size", group_size, sizes),
    ):
        if value not in allowed:
            choices = ", ".join(map(str, sorted(allowed)))
            raise click.UsageError(
                f"{name} {value} is not to be had in mode {mode}: choose from {choices}."
            )
    return {"bits": bits, "group_size": group_size, "mode": mode}
