import json
import sys
import types
from dataclasses import dataclass, field

import pytest
import torch
from click.testing import CliRunner

from porter.cli import main
from porter.errors import Gap
from porter.inspect import Machine, fits, inspect, machines, weight_bytes


@dataclass
class Plan:
    gaps: tuple = ()
    notes: tuple = ()
    ops: dict = field(default_factory=lambda: {"aten.relu.default": 1, "aten.linear.default": 2})


@pytest.fixture
def plan(monkeypatch):
    """Takes the place of porter.convert.plan."""
    module = types.ModuleType("porter.convert")
    planned = Plan()
    module.plan = lambda source: planned
    monkeypatch.setitem(sys.modules, "porter.convert", module)
    return planned


@pytest.fixture
def factory(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(
        "import torch\n"
        "def make():\n"
        "    first, second = torch.nn.Linear(64, 64, bias=False), torch.nn.Linear(64, 64, bias=False)\n"
        "    second.weight = first.weight\n"
        "    return torch.nn.Sequential(first, torch.nn.ReLU(), second), (torch.ones(1, 64),)\n"
    )
    return f"{path}:make"


def test_tied_weights_count_once(plan, factory):
    inspection = inspect(factory)
    assert inspection.parameters == 64 * 64
    assert inspection.bytes["float32"] == 4 * 64 * 64
    assert list(inspection.ops) == ["aten.linear.default", "aten.relu.default"]
    assert inspection.gaps == ()


def test_the_command(plan, factory):
    result = CliRunner().invoke(main, ["inspect", factory])
    assert result.exit_code == 0
    assert "4,096 parameters; 3 ops of 2 kinds" in result.stdout
    assert "every op has a lowering" in result.stdout
    assert "Apple M4" in result.stdout


def test_gaps_are_3_and_all_named(plan, factory):
    plan.gaps = (Gap("aten.foo.default", 3, "net.py:5"), Gap("aten.bar.default", 1, "net.py:6"))
    plan.notes = ("height stayed fixed",)
    result = CliRunner().invoke(main, ["inspect", factory, "--json", "-"])
    assert result.exit_code == 3
    answer = json.loads(result.stdout)
    assert answer["schema"] == 1
    assert [gap["name"] for gap in answer["gaps"]] == ["aten.foo.default", "aten.bar.default"]
    assert "note: height stayed fixed" in result.stderr
    assert "aten.bar.default" in CliRunner().invoke(main, ["inspect", factory]).stdout


def test_weight_bytes():
    specs = [("float32", (128, 64)), ("float32", (7, 63)), ("float32", (64,)), ("int64", (10,))]
    floats, rest = 128 * 64 + 7 * 63 + 64, 40
    sizes = weight_bytes(specs)
    assert sizes["float32"] == 4 * floats + rest
    assert sizes["bfloat16"] == sizes["float16"] == 2 * floats + rest
    # Only the first tensor's rows divide into groups of 64: 4 bits, and a 16-bit scale and bias a group.
    assert sizes["4-bit"] == 128 * 64 * 4.5 / 8 + 2 * (7 * 63 + 64) + rest


def test_quantized_bytes_are_those_of_mlx():
    import mlx.core as mx

    parts = mx.quantize(mx.zeros((128, 256), dtype=mx.float16), group_size=64, bits=4)
    assert weight_bytes([("float32", (128, 256))])["4-bit"] == sum(part.nbytes for part in parts)


def test_fits():
    machine = Machine("M", "apple", (8, 16), 100.0, 0.5)
    sizes = {"float32": 9_000_000_000, "bfloat16": 4_500_000_000, "8-bit": 3, "4-bit": 2}
    (fit,) = fits(sizes, [machine])
    assert (fit.dtype, fit.memory, fit.read_ms) == ("bfloat16", 16, 45.0)
    huge = dict.fromkeys(sizes, 10**12)
    assert fits(huge, [machine])[0].memory is None


def test_machines():
    rows = machines()
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    for family in ("M1", "M2", "M3", "M4", "M5"):
        assert any(name.startswith(f"Apple {family}") for name in names)
    for row in rows:
        assert row.kind in ("apple", "nvidia")
        assert list(row.memory) == sorted(row.memory)
        assert 0.5 < row.usable < 1
        assert 60 <= row.bandwidth <= 10_000


def test_a_module_is_a_source_too(plan):
    module = torch.nn.Linear(3, 5)
    assert inspect(module, example_inputs=(torch.ones(2, 3),)).parameters == 20
