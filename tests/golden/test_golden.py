"""The emitted source of known models, byte for byte; `make golden` writes the files anew."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from porter.compile import compile_port
from porter.sources import SourceOptions, resolve
from tests.golden import sources
from tests.random_modules.parity import check_source

GOLDEN = Path(__file__).parents[2] / "fixtures" / "golden"
SPEC = f"{Path(sources.__file__)}:"


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in sources.FAST else pytest.mark.slow) for n in sources.NAMES],
)
def test_golden(name: str, update: bool) -> None:
    emitted = compile_port(resolve(f"{SPEC}{name}", SourceOptions())).model_py
    check_source(emitted)
    path = GOLDEN / f"{name}.py"
    if update:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(emitted, "utf-8")
        return
    assert path.exists(), f"{path} is missing; write it with `make golden`"
    golden = path.read_text("utf-8")
    difference = difflib.unified_diff(
        golden.splitlines(), emitted.splitlines(), "golden", "emitted", lineterm=""
    )
    assert emitted == golden, "\n".join(difference)


def test_there_is_a_golden_file_for_each_name_and_no_other() -> None:
    assert {path.stem for path in GOLDEN.glob("*.py")} == set(sources.NAMES)


@pytest.mark.parametrize(
    "name", ["vit", *(pytest.param(n, marks=pytest.mark.slow) for n in sources.FAST if n != "vit")]
)
def test_compiling_is_deterministic(name: str) -> None:
    """The second compile of one process reads the file that the first one did."""
    first, second = (compile_port(resolve(f"{SPEC}{name}", SourceOptions())) for _ in range(2))
    assert first.model_py == second.model_py
    assert list(first.recipes.items()) == list(second.recipes.items())
