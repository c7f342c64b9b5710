"""The decoders that both transformers and mlx-lm have: does mlx-lm's file load the checkpoint, and agree with torch?

    python -m benchmarks.zoo.mlx_lm -o FOLDER [TYPE ...]

For each type a small random checkpoint, saved by transformers, is given to mlx-lm twice: as it is, and with the config and
weights of porter's route to mlx-lm. "equal": the logits are no further from torch in float64 than 30 times what torch in
float32 is. Types that are in FOLDER/mlx_lm.jsonl already are not run again; the table goes to stdout.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Record = dict[str, Any]
#: CPU time of one type.
SECONDS = 240
#: Above this multiple of torch's own error a difference is no rounding (VALIDATION: "semantic").
SEMANTIC = 30.0
WIDTH = 96


def types() -> Iterator[str]:
    """transformers' causal types for which mlx-lm has a file."""
    from mlx_lm.utils import MODEL_REMAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    for kind in sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        file = MODEL_REMAPPING.get(kind, kind)
        if importlib.util.find_spec(f"mlx_lm.models.{file}") is not None:
            yield kind


def measure(kind: str) -> Record:
    """One type, in a process of its own."""
    import torch
    from mlx_lm.utils import load_model
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    from benchmarks.zoo.suites import transformers as suite
    from benchmarks.zoo.weights import randomize
    from porter.mlx_lm_route import choose_route
    from porter.sources import resolve
    from porter.weights.recipes import evaluate

    torch.manual_seed(0)
    module = suite.build(kind, suite._name(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind])).module
    randomize(module)
    for part in (
        module.config,
        *(getattr(module.config, n, None) for n in module.config.sub_configs),
    ):
        if part is not None:
            part._experts_implementation = "eager"  # the only one in float64
    ids = torch.randint(3, 60, (2, 24), generator=torch.Generator().manual_seed(1))
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        module.save_pretrained(folder)
        own = module(input_ids=ids).logits.double().numpy()
        exact = module.double()(input_ids=ids).logits.numpy()
        rounding = relative_rms(own, exact)

        def judged(load: Callable[[], Any]) -> dict[str, Any]:
            return _judged(load, ids.numpy(), exact, rounding)

        def by_porter() -> Any:
            handover = choose_route(resolve(folder), "mlx-lm").handover
            assert handover is not None
            weights = [(p, evaluate(r, handover.tensors)) for p, r in handover.recipes.items()]
            handover.model.load_weights(weights)
            return handover.model

        return {
            "type": kind, "torch_error": rounding,
            "stored": judged(lambda: load_model(Path(folder))[0]), "porter": judged(by_porter),
        }  # fmt: skip


def _judged(load: Callable[[], Any], ids: Any, exact: Any, rounding: float) -> dict[str, Any]:
    import mlx.core as mx

    try:
        found = np.array(load()(mx.array(ids)).astype(mx.float32), np.float64)
    except Exception as error:  # noqa: BLE001 -- mlx-lm's files raise anything
        return {"state": "fails", "why": f"{type(error).__name__}: {error}"[:300]}
    gap = relative_rms(found, exact)
    equal = gap <= SEMANTIC * max(rounding, 2.0**-24)
    return {"state": "equal" if equal else "off", "error": gap}


def relative_rms(z: Any, y: Any) -> float:
    """RMS(z - y) / RMS(y)."""
    return float(np.sqrt(((z - y) ** 2).mean() / (y**2).mean()))


def table(records: list[dict[str, Any]]) -> str:
    """Markdown: the counts, then a row for each type."""
    ran = [r for r in records if "failed" not in r]
    lines = ["| | equal | off | does not load or run |", "|---|---|---|---|"]
    for key, label in (
        ("stored", "the checkpoint as transformers saves it"),
        ("porter", "by porter's route to mlx-lm"),
    ):
        counts = [sum(r[key]["state"] == s for r in ran) for s in ("equal", "off", "fails")]
        lines.append(f"| {label} | " + " | ".join(map(str, counts)) + " |")
    lines += ["", "| type | as saved | by the route | why not |", "|---|---|---|---|"]
    for record in records:
        if "failed" in record:
            lines.append(f"| {record['type']} | | | not run: {_cell(record['failed'])} |")
            continue
        why = record["porter"].get("why", "")
        if record["porter"]["state"] == "off":
            why = "mlx-lm's file computes something else; the automatic route ports the graph"
        lines.append(
            f"| {record['type']} | {_state(record['stored'])} | {_state(record['porter'])} | {_cell(why)} |"
        )
    return "\n".join(lines)


def _state(found: dict[str, Any]) -> str:
    return f"off by {found['error']:.0e}" if found["state"] == "off" else found["state"]


def _cell(text: str) -> str:
    text = text.removeprefix("UnsupportedError: ").replace("|", "/").replace("\n", " ")
    return text if len(text) <= WIDTH else text[:WIDTH] + "…"


def run_types(
    about: str | None,
    file: str,
    measure: Callable[[str], Record],
    table: Callable[[list[Record]], str],
) -> None:
    """The command line: measures each type that has no record in `file` yet, then prints the table of all records."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("types", nargs="*")
    chosen = parser.parse_args()
    chosen.output.mkdir(parents=True, exist_ok=True)
    output = chosen.output / file
    import torch
    import transformers
    import transformers.modeling_utils

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    done = {record["type"] for record in _records(output)}
    for kind in chosen.types or list(types()):
        if kind not in done:
            _run(kind, measure, output)
    print(table(_records(output)))


def _records(file: Path) -> list[Record]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _run(kind: str, measure: Callable[[str], Record], output: Path) -> None:
    """Appends the record of one type, which is measured in a process of its own, to `output`."""
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
        try:
            record = measure(kind)
        except Exception as error:  # noqa: BLE001 -- one type of many
            text = "".join(traceback.format_exception_only(error)).strip().splitlines()[0]
            record = {"type": kind, "failed": text[:300]}
        with output.open("a") as out:
            out.write(json.dumps(record) + "\n")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        with output.open("a") as out:
            out.write(json.dumps({"type": kind, "failed": f"ended with status {status}"}) + "\n")


if __name__ == "__main__":
    run_types(__doc__, "mlx_lm.jsonl", measure, table)
