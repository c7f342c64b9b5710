"""`python -m porter.style FILE|DIR...`: what the checks find; exit status 1 where one that is hard finds something."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from porter.artifact import MODEL_FILE
from porter.style import CHECKS, Finding, check


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE|DIR...")
@click.option("--expert", type=click.Path(exists=True, dir_okay=False), help="An expert's port.")
@click.option("--only", multiple=True, metavar="ID", help="A check to run, such as S5; repeatable.")
@click.option("--rates", is_flag=True, help="Count the files that each check finds something in.")
@click.option("--json", "as_json", is_flag=True, help="One object a file, as JSON.")
def main(
    paths: tuple[str, ...], expert: str | None, only: tuple[str, ...], rates: bool, as_json: bool
) -> None:
    """Run the style checks on emitted files, or on converted folders (S12 and S13 too)."""
    reference = Path(expert).read_text("utf-8") if expert else None
    found: dict[str, list[Finding]] = {}
    for name in paths:
        path = Path(name)
        folder = path.is_dir()
        source = (path / MODEL_FILE if folder else path).read_text("utf-8")
        found[name] = check(source, expert=reference, only=only or None)
        if folder:
            from porter.style.folder import check_folder

            found[name] += [f for f in check_folder(path) if not only or f.check in only]
    if rates:
        for name in only or CHECKS:
            count = sum(any(row.check == name for row in rows) for rows in found.values())
            click.echo(f"{name:4} {count:4} of {len(found)}  {_sentence(name)}")
        return
    if as_json:
        click.echo(json.dumps({name: [asdict(f) for f in rows] for name, rows in found.items()}))
    else:
        for name, rows in found.items():
            for row in rows:
                click.echo(f"{name}:{row}")
    hard = sum(finding.hard for rows in found.values() for finding in rows)
    raise click.exceptions.Exit(1 if hard else 0)


def _sentence(name: str) -> str:
    text = CHECKS[name].__doc__ or ""
    return text.partition(": ")[2].splitlines()[0]


if __name__ == "__main__":
    main(prog_name="python -m porter.style")
