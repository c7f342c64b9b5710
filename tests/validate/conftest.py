"""A hand-made DIR for tiny_torch, its recording, and a way to plant a bug in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from porter.frontends.export import export_program
from porter.sources import SourceOptions, resolve
from porter.validate import record
from porter.validate.graph import Graph
from porter.validate.scopes import scopes

HERE = Path(__file__).parent
SPEC = f"{HERE / 'tiny_torch.py'}:net"
IMAGE = [0, 2, 3, 1]


def tiny_entries(source) -> list[dict]:
    """The graph's module calls; in the port, 4-D values are channels last."""
    program, _ = export_program(source)
    graph = Graph.bind(program, source.materialize())
    entries = scopes(graph)
    for entry in entries:
        for value in [*entry["inputs"], *entry["outputs"]]:
            if graph.nodes[value["value"]].meta["val"].ndim == 4:
                value["permute"] = IMAGE
    return entries


@pytest.fixture(scope="session")
def tiny_port(tmp_path_factory) -> Path:
    """A correct port: never edited, copied by `port`."""
    directory = tmp_path_factory.mktemp("tiny") / "port"
    directory.mkdir()
    source = resolve(SPEC, SourceOptions())
    module = source.materialize()
    weights = {
        name: np.ascontiguousarray(t.numpy().transpose(0, 2, 3, 1) if t.ndim == 4 else t.numpy())
        for name, t in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(weights, directory / "model.safetensors", metadata={"format": "mlx"})
    shutil.copy(HERE / "tiny_mlx.py", directory / "model.py")
    config = {"dim": 32, "classes": 10, "model_type": "net", "model_file": "model.py"}
    (directory / "config.json").write_text(json.dumps(config))
    lines = ["schema = 1", f'source = "{SPEC}"', "[tensors]"]
    for name, t in module.state_dict().items():
        if name in weights:
            recipe = f'source("{name}")'
            recipe = f"permute({recipe}, [0, 2, 3, 1])" if t.ndim == 4 else recipe
            lines.append(f"\"{name}\" = '{recipe}'")
    (directory / "mapping.toml").write_text("\n".join(lines) + "\n")
    facts = {
        "schema": 1, "porter": "0", "mlx": "0", "torch": "0", "source": SPEC, "sha256": "",
        "route": "graph",
        "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 6, 8, 3], "permute": IMAGE}],
        "outputs": [{"name": "head", "dtype": "float32", "shape": ["batch", 10], "permute": None}],
        "proof": {"modules": tiny_entries(source)},
    }  # fmt: skip
    (directory / "porter.json").write_text(json.dumps(facts))
    return directory


@pytest.fixture(scope="session")
def recording(tmp_path_factory) -> Path:
    return record(SPEC, None, tmp_path_factory.mktemp("recorded") / "tiny.zip", speed=False)


@pytest.fixture
def port(tiny_port, tmp_path) -> Path:
    """A copy of the correct port that a test may spoil."""
    return Path(shutil.copytree(tiny_port, tmp_path / "port"))


class Plant:
    """Plants bugs in a port."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def code(self, old: str, new: str) -> None:
        file = self.directory / "model.py"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def weight(self, name: str, change) -> None:
        file = self.directory / "model.safetensors"
        weights = load_file(file)
        weights[name] = np.ascontiguousarray(change(weights[name]))
        save_file(weights, file, metadata={"format": "mlx"})

    def facts(self, change) -> None:
        file = self.directory / "porter.json"
        facts = json.loads(file.read_text())
        change(facts)
        file.write_text(json.dumps(facts))


@pytest.fixture
def plant(port) -> Plant:
    return Plant(port)
