"""porter inspect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from porter.cli.options import debug_option, json_option, source_options
from porter.cli.output import print_result, table
from porter.errors import UnsupportedError

if TYPE_CHECKING:
    from porter.inspect import Inspection


@click.command()
@click.argument("source")
@source_options
@json_option
@debug_option
def inspect(source: str, json_target: str | None, **options: Any) -> None:
    """Say what SOURCE needs before any work: size, route, ops without a lowering, and where it fits."""
    from porter.inspect import inspect as run
    from porter.sources import SourceOptions

    inspection = run(source, SourceOptions(**options))
    for note in inspection.notes:
        click.echo(f"note: {note}", err=True)
    print_result(json_target, inspection.to_dict(), summary(inspection))
    if inspection.gaps:
        raise click.exceptions.Exit(UnsupportedError.exit_code)


def summary(inspection: Inspection) -> str:
    """The inspection as text: a few facts, then tables."""
    lines = [
        f"{inspection.source}: {inspection.name} ({inspection.kind}), route {inspection.route}",
        f"{inspection.parameters:,} parameters; {sum(inspection.ops.values())} ops of {len(inspection.ops)} kinds",
        "",
        table(
            ("weights", "MB"),
            [(name, f"{size / 1e6:,.1f}") for name, size in inspection.bytes.items()],
            right=(1,),
        ),
        "",
    ]
    if inspection.gaps:
        lines.append(
            table(
                ("without a lowering", "count", "first use"),
                [(gap.name, str(gap.count), gap.location) for gap in inspection.gaps],
                right=(1,),
            )
        )
    else:
        lines.append("every op has a lowering")
    lines += [
        "",
        table(
            ("weights fit", "as", "from GB", "read once, ms"),
            [
                (
                    fit.machine,
                    fit.dtype,
                    "no" if fit.memory is None else str(fit.memory),
                    f"{fit.read_ms:.2f}",
                )
                for fit in inspection.fits
            ],
            right=(2, 3),
        ),
        "Weights alone: activations and a decoder's KV cache come on top.",
    ]
    return "\n".join(lines)
