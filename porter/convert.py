"""The whole conversion: source, port, weights, proof, and the folder that appears at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from porter import artifact
from porter.compile import Port, compile_port, plan
from porter.errors import UsageError
from porter.ir import Program
from porter.mlx_lm_route import Choice, Handover, choose_route, write_handover
from porter.report import Report
from porter.reuse import reuse
from porter.sources import Source, SourceOptions, from_module, resolve
from porter.weights import writer
from porter.weights.mapping import Mapping
from porter.weights.overlay import Overlay
from porter.weights.quantization import quantization
from porter.weights.quantize import quantize_folder
from porter.weights.readers import Tensors
from porter.weights.recipes import sources

__all__ = ["Conversion", "convert", "plan"]

Progress = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion gave. `verdict` is "pass", "fail", "incomplete" or "unproven"; `timings` are seconds."""

    directory: Path
    verdict: str
    report: Report | None
    notes: tuple[str, ...] = ()
    timings: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "directory": str(self.directory),
            "verdict": self.verdict,
            "report": self.report.to_dict() if self.report else None,
            "notes": list(self.notes),
            "timings": self.timings,
        }


def convert(
    source: Any,
    out: str | Path,
    *,
    example_inputs: Any = None,
    dtype: str | None = None,
    quantize: dict[str, Any] | None = None,
    input_layout: str = "nhwc",
    mapping: str | None = None,
    route: str = "auto",
    inputs: tuple[str, ...] = (),
    checkpoint: str | None = None,
    trust_pickle: bool = False,
    trust_remote_code: bool = False,
    overwrite: bool = False,
    proof: bool = True,
    progress: Progress = lambda *_: None,
    dump_passes: Callable[[str, Program], None] | None = None,
    seed: int = 0,
    plugins: tuple[str, ...] = (),
    fold_batchnorm: bool = False,
) -> Conversion:
    """Ports `source` (a SOURCE, or a torch module with `example_inputs`) to the folder `out`.

    `example_inputs` is a tuple of positional or a dict of keyword arguments; `plugins` are files with lowerings for ops of the
    user's own. `out` appears whole or not at all, and unless `proof` is off it has been compared with the source before.
    Raises a PorterError; a port that fails its proof is no exception but the Conversion's verdict.
    """
    start = time.perf_counter()
    options = SourceOptions(
        tuple(inputs),
        checkpoint,
        mapping,
        trust_pickle,
        trust_remote_code,
        None,
        seed,
        tuple(plugins),
    )
    if quantize is not None:
        quantize = quantization(quantize).to_dict()  # a wrong one is refused before any work
    progress("resolving the source")
    resolved = _resolved(source, example_inputs, options)
    with artifact.stage(out, overwrite) as folder:

        def finish(notes: list[str], provable: bool = True) -> Report | None:
            if quantize is not None:
                progress("quantizing")
                notes += quantize_folder(folder, quantize)
            return _proof(resolved, folder, proof and provable, progress)

        timings: dict[str, float] = {}
        if mapping is not None:
            notes, provable = reuse(resolved, Path(mapping), folder, dtype, proof, progress)
            report = finish(notes, provable)
        else:
            choice, report = choose_route(resolved, route), None
            notes = [choice.reason] if choice.reason else []
            if choice.handover is not None:
                notes += write_handover(resolved, choice.handover, folder, dtype, progress)
                report = finish(notes)
                if route == "auto" and report is not None and not report.passed:
                    notes = [_why_not(choice.handover, report)]
                    artifact.clear(folder)
                    choice = Choice(None, notes[0])
            if choice.handover is None:
                port = compile_port(resolved, input_layout, progress, dump_passes, fold_batchnorm)
                notes += port.notes
                timings = dict(port.timings)
                (folder / artifact.MODEL_FILE).write_text(port.model_py, "utf-8")
                timings["until_source"] = time.perf_counter() - start
                _write(resolved, port, folder, dtype, progress)
                report = finish(notes)
        _card(folder, resolved, report)
    timings["total"] = time.perf_counter() - start
    verdict = report.verdict if report else "unproven"
    return Conversion(Path(out), verdict, report, tuple(notes), timings)


def _why_not(handover: Handover, report: Report) -> str:
    """Why a port that mlx-lm would serve is thrown away."""
    worst = max((output.margin for output in report.outputs), default=0.0)
    what = f"its logits are {worst:.3g} times the allowed difference from torch's"
    if report.culprits:
        what += f", first in {report.culprits[0]}"
    elif report.verdict == "incomplete" and report.uncompared:
        what = f"the comparison is incomplete ({report.uncompared[0]})"
    elif failed := [
        f"{name}: {text}" for name, text in report.checks.items() if text.startswith("fail")
    ]:
        what = failed[0]
    return f"route graph: {handover.file} is not this model: {what}"


def _resolved(source: Any, example_inputs: Any, options: SourceOptions) -> Source:
    if isinstance(source, (str, Path)):
        if example_inputs is not None:
            raise UsageError(
                "example_inputs goes with a module; for a SOURCE give inputs=('NAME=SPEC',)."
            )
        return resolve(str(source), options)
    args, kwargs = (
        ((), example_inputs)
        if isinstance(example_inputs, dict)
        else (tuple(example_inputs or ()), {})
    )
    return from_module(source, args, kwargs, options)


def _write(source: Source, port: Port, folder: Path, dtype: str | None, progress: Progress) -> None:
    """Weights, config, mapping and porter.json of a fresh port."""
    tensors: Tensors = Overlay(source.tensors, port.kept) if port.kept else source.tensors
    used = {key for recipe in port.recipes.values() for key in sources(recipe)}
    ignored = {
        key: _why_unused(key, source)
        for key in source.tensors.keys()  # noqa: SIM118 (Tensors is no dict)
        if key not in used
    }
    _write_weights(port.recipes, tensors, folder, dtype, progress)
    artifact.write_config(folder, port.config, port.model_type, source.config)
    Mapping(source.spec, port.recipes, port.config, ignored).save(folder / artifact.MAPPING_FILE)
    artifact.pass_through(folder, source.passthrough)
    options = {
        k: v for k, v in asdict(source.options).items() if v and k not in ("mapping", "dtype")
    }
    facts = artifact.Facts(
        source.spec, source.sha256, "graph", tuple(port.inputs), tuple(port.outputs),
        {"verdict": "unproven", "options": options, "modules": port.modules},
    )  # fmt: skip
    artifact.write_facts(folder, facts)


def _write_weights(
    recipes: Any, tensors: Tensors, folder: Path, dtype: str | None, progress: Progress
) -> None:
    writer.write(
        recipes, tensors, folder, dtype=dtype,
        progress=lambda name, done, total: progress("writing weights", done, total),
    )  # fmt: skip


def _why_unused(key: str, source: Source) -> str:
    if key.endswith("num_batches_tracked"):
        return "a training counter"
    return (
        "the module has no place for it" if key in source.unused else "the forward does not read it"
    )


def _proof(source: Source, folder: Path, wanted: bool, progress: Progress) -> Report | None:
    """Compares the folder with its source; None where no proof was asked for."""
    if not wanted:
        return None
    from porter.validate import validate

    progress("comparing with the source")
    in_memory = source if source.kind == "module" else None
    return validate(folder, source=in_memory, progress=progress)


def _card(folder: Path, source: Source, report: Report | None) -> None:
    """README.md: how to load the port, and what its proof said."""
    from porter.report import markdown

    facts = artifact.read_facts(folder)
    takes = "\n".join(f"- `{row['name']}`: {row['dtype']} {row['shape']}" for row in facts.inputs)
    proof = (
        markdown.render(report) if report else "This port has not been compared with its source.\n"
    )
    text = (
        f"# {markdown.escape(source.name)}, for MLX\n\n"
        f"Ported from `{markdown.escape(source.spec)}` by porter {facts.porter}.\n\n"
        '```python\nimport porter\n\nmodel = porter.load("PATH/TO/THIS/FOLDER")\n```\n\n'
        f"Inputs, as MLX arrays:\n\n{takes}\n\n{proof}"
    )
    (folder / "README.md").write_text(text, "utf-8")
