"""porter ops."""

from __future__ import annotations

import click

from porter.cli.options import debug_option, json_option
from porter.cli.output import print_result, table


@click.command()
@click.option(
    "--all", "everything", is_flag=True, help="List the ops outside the core ATen set too."
)
@click.option("--missing", is_flag=True, help="List only what has no lowering.")
@json_option
@debug_option
def ops(everything: bool, missing: bool, json_target: str | None) -> None:
    """Print the coverage table: every ATen and ONNX op, lowered or not, and why not."""
    from porter.coverage import coverage, totals

    rows = coverage()
    shown = [
        row
        for row in rows
        if (everything or row.core or row.lowered) and not (missing and row.lowered)
    ]
    counts = totals(rows)
    text = "\n".join(
        [
            table(
                ("op", "lowered"),
                [(row.name, "yes" if row.lowered else f"no: {row.reason}") for row in shown],
            ),
            "",
            "An op that is lowered may still refuse arguments that have no exact form in MLX; convert names them.",
            *(f"{name}: {done} of {total} lowered" for name, (done, total) in counts.items()),
        ]
    )
    result = {
        "totals": {
            name: {"lowered": done, "total": total} for name, (done, total) in counts.items()
        },
        "ops": [
            {
                "name": row.name,
                "dialect": row.dialect,
                "core": row.core,
                "lowered": row.lowered,
                "reason": row.reason,
            }
            for row in rows
        ],
    }
    print_result(json_target, result, text)
