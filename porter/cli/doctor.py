"""porter doctor."""

from __future__ import annotations

import click

from porter.cli.options import debug_option, json_option
from porter.cli.output import print_result


@click.command()
@json_option
@debug_option
def doctor(json_target: str | None) -> None:
    """Say what this machine has (torch, MLX backend, BLAS, device), and what to do about what it lacks."""
    from porter.doctor import examine, format_findings, to_dict

    findings = examine()
    print_result(json_target, to_dict(findings), format_findings(findings))
    if any(finding.state == "missing" for finding in findings):
        raise click.exceptions.Exit(5)
