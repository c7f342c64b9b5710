"""One port serves a second size of its family: the same model.py with other settings, proven against torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from porter.validate import validation
from tests import families
from tests.porting import convert, facts

SPEC = f"{Path(families.__file__)}:"


@pytest.fixture(autouse=True)
def untimed(monkeypatch):
    monkeypatch.setattr(validation, "SPEED_SECONDS", 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["vit", "bert", "convnext", "resnet", "swin"])
def test_a_second_size_is_loaded_and_proven(tmp_path, family):
    first, second = tmp_path / "first", tmp_path / "second"
    assert convert(f"{SPEC}{family}", first, "--no-proof").exit_code == 0
    result = convert(f"{SPEC}{family}_other", second, "--mapping", first / "mapping.toml")
    assert result.exit_code == 0, result.output
    assert "another size of the model" in result.stderr
    assert (second / "model.py").read_bytes() == (first / "model.py").read_bytes()
    assert facts(second)["proof"]["verdict"] == "pass"
