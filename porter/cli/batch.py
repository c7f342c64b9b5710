"""porter batch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from porter.cli.options import debug_option, json_option, writable
from porter.cli.output import print_result, table
from porter.cli.progress import Progress


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("-j", "--jobs", type=click.IntRange(1), help="Jobs at a time.  [default: by CPUs]")
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="For each job."
)
@click.option("--fresh", is_flag=True, help="Run every job, whatever passed before.")
@click.option("--junit", metavar="FILE", callback=writable, help="Write JUnit XML.")
@json_option
@debug_option
def batch(
    manifest: Path,
    jobs: int | None,
    timeout: float | None,
    fresh: bool,
    junit: str | None,
    json_target: str | None,
) -> None:
    """Run the conversions and validations of MANIFEST, a TOML file with [[job]] tables.

    Jobs that passed and whose source, options and versions are as they were are skipped, so a batch that was
    interrupted goes on where it stopped.
    """
    from porter.batch import junit_xml, read_manifest, run_batch
    from porter.batch.cache import Cache
    from porter.batch.workers import default_workers

    plan = read_manifest(manifest)
    cache = Cache(manifest.with_suffix(".batch.json"))
    if fresh:
        cache.jobs.clear()
    with Progress() as progress:
        results = run_batch(
            plan, workers=jobs or default_workers(), cache=cache, timeout=timeout, progress=progress
        )
    if junit is not None:
        Path(junit).write_text(junit_xml(results, manifest.name), encoding="utf-8")
    for result in results:
        if not result.ok:
            click.echo(f"{result.job.name}: {result.message or result.state}", err=True)
    counts = Counter(result.state for result in results)
    text = "\n".join(
        [
            table(
                ("job", "result", "seconds"),
                [(result.job.name, result.state, f"{result.seconds:.1f}") for result in results],
                right=(2,),
            ),
            ", ".join(f"{count} {state}" for state, count in counts.items()),
        ]
    )
    ok = all(result.ok for result in results)
    answer = {"ok": ok, "counts": dict(counts), "jobs": [result.to_dict() for result in results]}
    print_result(json_target, answer, text)
    if not ok:
        raise click.exceptions.Exit(1)
