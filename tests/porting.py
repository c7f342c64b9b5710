"""Whole conversions in this process, as the command line runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from click.testing import CliRunner, Result

from porter.cli import main
from porter.convert import convert as convert_model
from porter.loading import load
from tests.random_modules.parity import check_source

NETS = Path(__file__).with_name("tiny_nets.py")


def porter(*words: object) -> Result:
    """`porter WORDS`, with its exit code, stdout and stderr."""
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="porter")


def convert(source: object, out: Path, *words: object) -> Result:
    """`porter convert SOURCE -o OUT WORDS`."""
    return porter("convert", source, "-o", out, *words)


def facts(folder: Path) -> dict[str, Any]:
    """porter.json."""
    return dict(json.loads((folder / "porter.json").read_text()))


def refused(result: Result, out: Path, code: int, *parts: str) -> None:
    """The command ended with `code` and one sentence that has `parts`, and left nothing behind."""
    assert result.exit_code == code, result.output
    message = result.stderr.rpartition("porter: ")[2]
    for part in parts:
        assert part in message
    assert "Traceback" not in result.stderr
    assert not out.exists()
    assert [p.name for p in out.parent.iterdir() if p.name.startswith(f".{out.name}.")] == []


def saved_and_ported(module: Any, folder: Path) -> Any:
    """The port of a transformers model with weights that are neither zero nor one, saved and converted in `folder`."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    module.save_pretrained(folder / "source")
    convert_model(str(folder / "source"), folder / "port", proof=False)
    check_source((folder / "port" / "model.py").read_text())
    return load(folder / "port")
