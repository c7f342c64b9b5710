"""`python -m benchmarks.zoo run|table`."""

from __future__ import annotations

import datetime
import random
from fnmatch import fnmatch
from pathlib import Path

import click
import torch

from benchmarks.zoo import decoder_table, results
from benchmarks.zoo.case import Case, suite_cases, suite_names
from benchmarks.zoo.processes import run_all
from benchmarks.zoo.table import render

MARKS = {True: "yes", False: "NO", None: "-"}


@click.group()
def main() -> None:
    """Ports every model of the suites and measures what comes out."""


@main.command()
@click.option(
    "--suite",
    "suites",
    multiple=True,
    type=click.Choice(suite_names()),
    help="All, where none is named.",
)
@click.option("--only", multiple=True, metavar="PATTERN", help="Cases by shell pattern.")
@click.option("--sample", type=int, metavar="N", help="N cases of each suite, drawn at random.")
@click.option("--seed", default=0, show_default=True, help="Of the sample.")
@click.option("--jobs", default=1, show_default=True, help="Processes at a time.")
@click.option("--limit-seconds", default=300, show_default=True, help="CPU time of one case.")
@click.option("--limit-gigabytes", default=8.0, show_default=True, help="Memory of one case.")
@click.option("--again", is_flag=True, help="Also what has a result.")
@click.option(
    "--failed", is_flag=True, help="Also what has a result and was not correct in every column."
)
@click.option("--gradients/--no-gradients", default=True, show_default=True)
@click.option(
    "--results",
    "folder",
    type=click.Path(path_type=Path),
    default=results.FOLDER,
    show_default=True,
)
def run(
    suites: tuple[str, ...], only: tuple[str, ...], sample: int | None, seed: int, jobs: int,
    limit_seconds: int, limit_gigabytes: float, again: bool, failed: bool, gradients: bool, folder: Path,
) -> None:  # fmt: skip
    """Runs the cases that have no result yet."""
    torch.set_num_threads(1)  # also: no thread is lost in a fork

    def work(case: Case, send) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        from benchmarks.zoo.measure import measure

        measure(case, send, gradients)

    commit = results.commit()
    for suite in suites or suite_names():
        known = results.read(folder, suite)
        cases = [
            case
            for case in suite_cases(suite)
            if not only or any(fnmatch(case.name, pattern) for pattern in only)
        ]
        if sample is not None:
            cases = random.Random(seed).sample(cases, min(sample, len(cases)))
        todo = [
            case
            for case in cases
            if again or case.name not in known or (failed and not _whole(known[case.name]))
        ]
        for record in run_all(todo, work, jobs, limit_seconds, limit_gigabytes, folder / suite):
            record["when"] = datetime.datetime.now().isoformat(timespec="seconds")
            record["commit"] = commit
            results.append(folder, suite, record)
            columns = ("converted", "correct", "other_sizes", "compiled", "gradients")
            marks = " ".join(f"{name} {MARKS[record.get(name)]:3}" for name in columns)
            seconds = f"{record.get('seconds', 0):6.1f} s"
            click.echo(f"{record['case']:40} {marks} {seconds} {record.get('reason', '')[:160]}")


def _whole(record: dict) -> bool:
    """Nothing failed in it."""
    columns = ("converted", "correct", "other_sizes", "compiled", "gradients", "decode", "greedy")
    return record.get("stage") == "done" and all(record.get(name) is not False for name in columns)


@main.command()
@click.option(
    "--results",
    "folder",
    type=click.Path(path_type=Path),
    default=results.FOLDER,
    show_default=True,
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("docs/COVERAGE.md"),
    show_default=True,
)
def table(folder: Path, output: Path) -> None:
    """Writes docs/COVERAGE.md from the results that are there."""
    found = {suite: records for suite in suite_names() if (records := results.read(folder, suite))}
    sizes = {suite: sum(1 for _ in suite_cases(suite)) for suite in found}
    output.write_text(render(found, datetime.date.today().isoformat(), sizes), "utf-8")
    click.echo(f"wrote {output}: {', '.join(f'{s} {len(r)}' for s, r in found.items())}")


@main.command()
@click.option(
    "--results",
    "folder",
    type=click.Path(path_type=Path),
    default=results.FOLDER,
    show_default=True,
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("docs/DECODERS.md"),
    show_default=True,
)
def decoders(folder: Path, output: Path) -> None:
    """Writes docs/DECODERS.md from the results of the suite "decoders"."""
    found = results.read(folder, "decoders")
    count = sum(1 for _ in suite_cases("decoders"))
    text = decoder_table.render(found, datetime.date.today().isoformat(), count)
    output.write_text(text, "utf-8")
    click.echo(f"wrote {output}: {len(found)} of {count} types")


if __name__ == "__main__":
    main()
