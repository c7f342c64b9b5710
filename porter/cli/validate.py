"""porter validate."""

from __future__ import annotations

from pathlib import Path

import click

from porter.cli.exits import exit_code_of_verdict
from porter.cli.options import debug_option, json_option
from porter.cli.output import print_result
from porter.cli.progress import Progress
from porter.cli.verdicts import summary


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--reference",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A recording to compare with, in place of the source.",
)
@click.option(
    "--source", metavar="SOURCE", help="Where the source is now; default is porter.json's."
)
@click.option("--no-speed", is_flag=True, help="Take no timings.")
@click.option("--no-probes", is_flag=True, help="Compare on the example inputs alone.")
@json_option
@debug_option
def validate(
    directory: Path,
    reference: Path | None,
    source: str | None,
    no_speed: bool,
    no_probes: bool,
    json_target: str | None,
) -> None:
    """Compare the port in DIR with its source, or with a recording: numerics and speed."""
    from porter.validate import validate as run

    with Progress() as progress:
        report = run(
            directory,
            reference,
            source,
            speed=not no_speed,
            probes=not no_probes,
            progress=progress,
        )
    result = report.to_dict()
    print_result(json_target, result, summary(directory, report.verdict, report))
    raise click.exceptions.Exit(exit_code_of_verdict(report.verdict))
