"""One port serves a second size of its family: the same model.py with other settings, proven against torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from porter.style import check
from porter.validate import validation
from tests import families
from tests.porting import convert, facts

SPEC = f"{Path(families.__file__)}:"


@pytest.fixture(autouse=True)
def untimed(monkeypatch):
    monkeypatch.setattr(validation, "SPEED_SECONDS", 0.0)


def prove_second_size(tmp_path: Path, family: str) -> str:
    """The port's source, which serves `family` and `family_other` both."""
    first, second = tmp_path / "first", tmp_path / "second"
    assert convert(f"{SPEC}{family}", first, "--no-proof").exit_code == 0
    result = convert(f"{SPEC}{family}_other", second, "--mapping", first / "mapping.toml")
    assert result.exit_code == 0, result.output
    assert "another size of the model" in result.stderr
    assert (second / "model.py").read_bytes() == (first / "model.py").read_bytes()
    assert facts(second)["proof"]["verdict"] == "pass"
    return (first / "model.py").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["vit", "bert", "convnext", "resnet", "swin"])
def test_a_second_size_is_loaded_and_proven(tmp_path, family):
    prove_second_size(tmp_path, family)


def test_a_block_s_width_is_its_input_s_too(tmp_path):
    """The other size is followed through a graph of its own, by inputs of its width."""
    source = prove_second_size(tmp_path, "pooled_keys")
    assert not [finding for finding in check(source) if finding.hard]


def test_an_image_s_size_is_no_number_that_happens_to_be_as_large(tmp_path):
    """The example image does not suit another size: one that is as large is tried, with as many blocks."""
    source = prove_second_size(tmp_path, "denoiser")
    assert "mx.arange(8" in source
    assert "self.p, self.p" in source
