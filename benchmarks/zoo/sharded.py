"""A port shared by two processes of this machine against the port alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

PROCESSES = 2
SECONDS = 120

#: What each process runs: the whole text, then its last token behind the others in a cache.
_WORKER = """
import sys, json
from pathlib import Path
import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import make_prompt_cache
from porter.loading import instantiate
folder = Path(sys.argv[1])
weights = mx.load(str(folder / "weights.safetensors"))
model = instantiate((folder / "model.py").read_text(), json.loads((folder / "config.json").read_text()), weights)
group = mx.distributed.init(strict=True, backend="ring")
assert group.size() == {processes}
model.shard(group)
ids = mx.array(np.load(folder / "ids.npy"))
cache = make_prompt_cache(model)
before = model(ids[:, :-1], cache=cache)
result = mx.concatenate([model(ids)[:, :-1], before, model(ids[:, -1:], cache=cache)], axis=1)
np.save(folder / f"logits_{{group.rank()}}.npy", np.array(result.astype(mx.float32)))
"""


def gap(model_py: str, config: dict[str, Any], weights: dict[str, mx.array], model: Any, ids: mx.array) -> float:  # fmt: skip
    """The largest difference of any process's logits from those of `model`, which is whole, over the largest logit."""
    whole = model(ids)
    expected = np.array(mx.concatenate([whole[:, :-1], whole], axis=1).astype(mx.float32))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mx.save_safetensors(str(folder / "weights.safetensors"), weights)
        (folder / "model.py").write_text(model_py)
        (folder / "config.json").write_text(json.dumps(config))
        np.save(folder / "ids.npy", np.array(ids))
        (folder / "worker.py").write_text(_WORKER.format(processes=PROCESSES))
        run(folder / "worker.py", folder)
        found = [np.load(folder / f"logits_{rank}.npy") for rank in range(PROCESSES)]
    return float(max(np.abs(y - expected).max() for y in found) / np.abs(expected).max())


def run(script: Path, *arguments: Any) -> None:
    """Runs a script in processes that form MLX's ring on this machine. Raises RuntimeError with what a process said last."""
    with tempfile.TemporaryDirectory() as name:
        hosts = Path(name) / "hosts.json"
        hosts.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in _free_ports()]))
        started = [
            subprocess.Popen(
                [sys.executable, str(script), *map(str, arguments)],
                env={**os.environ, "MLX_RANK": str(rank), "MLX_HOSTFILE": str(hosts)},
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            for rank in range(PROCESSES)
        ]  # fmt: skip
        try:
            said = [process.communicate(timeout=SECONDS)[0] for process in started]
        finally:
            for process in started:
                process.kill()
    for process, text in zip(started, said, strict=True):
        if process.returncode:
            raise RuntimeError(f"a process of the ring failed: {text[-800:]}")


def _free_ports() -> list[int]:
    sockets = [socket.socket() for _ in range(PROCESSES)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
