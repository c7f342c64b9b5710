"""Ops of the user's own: the example of docs/PLUGINS.md as it stands there, and files that can't be plugins."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from porter.compile import compile_port
from porter.convert import convert
from porter.errors import InputError, UnsupportedError
from porter.sources import SourceOptions, resolve
from porter.sources.plugins import load_plugins
from porter.weights.readers import ModuleTensors
from tests.random_modules.parity import Ported, loaded

TEXT = (Path(__file__).parents[1] / "docs" / "PLUGINS.md").read_text("utf-8")
FILES = {
    match[1]: match[2] for match in re.finditer(r"```python\n# (\w+\.py)\n(.*?)```", TEXT, re.S)
}


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example")
    for name in ("ops.py", "lowerings.py"):
        (folder / name).write_text(FILES[name])
    return folder


def test_the_example_of_the_docs(example: Path) -> None:
    spec = f"{example / 'ops.py'}:head"
    without = resolve(spec, SourceOptions())
    with pytest.raises(UnsupportedError) as gaps:
        compile_port(without)
    assert {gap.name for gap in gaps.value.gaps} == {
        "mylib.soft_cap.default",
        "mylib.swiglu.default",
    }
    source = resolve(spec, SourceOptions(plugins=(str(example / "lowerings.py"),)))
    port = compile_port(source)
    for piece in re.split(r"\n\n\n", FILES["model.py"].strip()):
        assert piece in port.model_py
    module = source.materialize()
    Ported(module, port, loaded(port, ModuleTensors(module.state_dict()))).check(torch.randn(3, 8))


@pytest.mark.slow
def test_the_example_converts(example: Path, tmp_path: Path) -> None:
    """Its reference, a process of its own, runs the ops' forms for the CPU."""
    spec, plugin = f"{example / 'ops.py'}:head", str(example / "lowerings.py")
    assert convert(spec, tmp_path / "head", plugins=(plugin,)).verdict == "pass"


def test_a_plugin_is_run_once(tmp_path: Path) -> None:
    file = tmp_path / "counted.py"
    file.write_text(f"open({str(tmp_path / 'runs')!r}, 'a').write('x')\n")
    load_plugins([str(file)])
    load_plugins([str(file)])
    assert (tmp_path / "runs").read_text() == "x"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "import porter\n\n\n@porter.lowering('aten.relu.default')\ndef relu(call, x):\n    return x\n",
            "has a lowering already",
        ),
        ("def grid_sample(x):\n    return x\n", "grid_sample is in"),
        ("raise RuntimeError('no')\n", "RuntimeError: no"),
    ],
)  # fmt: skip
def test_a_file_that_can_not_be_a_plugin(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "bad.py"
    file.write_text(text)
    with pytest.raises(InputError, match=says):
        load_plugins([str(file)])


def test_a_missing_plugin(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_plugins([str(tmp_path / "none.py")])
