"""porter record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from porter.cli.options import debug_option, json_option, source_options
from porter.cli.output import print_result
from porter.cli.progress import Progress


@click.command()
@click.argument("source")
@click.option("-o", "--out", required=True, metavar="FILE", help="Recording to write.")
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where the timings are taken; the values are always the CPU's.",
)
@click.option("--no-speed", is_flag=True, help="Take no timings.")
@source_options
@json_option
@debug_option
def record(
    source: str, out: str, device: str, no_speed: bool, json_target: str | None, **options: Any
) -> None:
    """Run SOURCE's reference here and save what `porter validate DIR --reference FILE` compares with elsewhere."""
    from porter.sources import SourceOptions
    from porter.validate import record as run

    with Progress() as progress:
        file = run(
            source,
            SourceOptions(**options),
            Path(out),
            device=device,
            speed=not no_speed,
            progress=progress,
        )
    print_result(json_target, {"source": source, "recording": str(file)}, f"{file}: recorded")
