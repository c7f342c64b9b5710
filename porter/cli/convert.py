"""porter convert."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from porter.cli.exits import exit_code_of_verdict
from porter.cli.options import (
    debug_option,
    json_option,
    quantization,
    quantize_options,
    source_options,
)
from porter.cli.output import print_result
from porter.cli.progress import Progress
from porter.cli.verdicts import summary

if TYPE_CHECKING:
    from porter.ir import Program


@click.command()
@click.argument("source")
@click.option(
    "-o", "--out", required=True, metavar="DIR", help="Folder to write: whole, or not at all."
)
@source_options
@quantize_options
@click.option(
    "--input-layout",
    type=click.Choice(["nhwc", "nchw"]),
    default="nhwc",
    show_default=True,
    help="Order of the axes that the port's image inputs have.",
)
@click.option(
    "--route",
    type=click.Choice(["auto", "graph", "mlx-lm"]),
    default="auto",
    show_default=True,
    help="auto hands an architecture that mlx-lm ships to mlx-lm; graph ports it anyway.",
)
@click.option(
    "--fold-batchnorm",
    is_flag=True,
    help="Fold each BatchNorm into the convolution before it: faster, and no longer to be trained.",
)
@click.option("--overwrite", is_flag=True, help="Replace DIR.")
@click.option(
    "--no-proof", is_flag=True, help="Do not compare with the source; DIR is marked unproven."
)
@click.option("--dump-passes", is_flag=True, help="Print the program to stderr after each pass.")
@json_option
@debug_option
def convert(
    source: str,
    out: str,
    quantized: bool,
    q_bits: int | None,
    q_group_size: int | None,
    q_mode: str | None,
    no_proof: bool,
    dump_passes: bool,
    json_target: str | None,
    **options: Any,
) -> None:
    """Port SOURCE to MLX, and prove that the port computes the same."""
    quantize = quantization(quantized, q_bits, q_group_size, q_mode)
    from porter.convert import convert as run

    if dump_passes:
        options["dump_passes"] = print_program
    with Progress() as progress:
        conversion = run(
            source, Path(out), quantize=quantize, proof=not no_proof, progress=progress, **options
        )
    for note in conversion.notes:
        click.echo(f"note: {note}", err=True)
    result = conversion.to_dict()
    text = summary(conversion.directory, conversion.verdict, conversion.report)
    print_result(json_target, result, text)
    raise click.exceptions.Exit(exit_code_of_verdict(conversion.verdict, proof=not no_proof))


def print_program(name: str, program: Program) -> None:
    """What --dump-passes prints after the pass of that name."""
    from porter.ir.printer import to_text

    click.echo(f"\n# after {name}\n{to_text(program)}", err=True)
