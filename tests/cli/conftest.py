"""The command line is tested against a stand-in of the Python API: it parses, calls, prints and maps errors."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from porter.cli import main
from porter.report import OutputResult, Report


@dataclass
class StubConversion:
    directory: Path
    verdict: str = "pass"
    notes: tuple[str, ...] = ("height stayed fixed",)

    @property
    def report(self) -> Report | None:
        return None if self.verdict == "unproven" else report(self.verdict)

    def to_dict(self) -> dict[str, Any]:
        content = self.report.to_dict() if self.report else None
        return {"directory": str(self.directory), "verdict": self.verdict, "report": content}


def report(verdict: str) -> Report:
    output = OutputResult("logits", (1, 10), "float32", 1e-6, 1e-5, 1e-6, 1.0, 0.3, "pass")
    return Report(verdict, "timm:resnet18", {"backend": "torch-cpu"}, [output])


@dataclass
class Stub:
    """Takes the place of porter.convert.convert: records its call; raises or returns what the test says."""

    verdict: str = "pass"
    error: BaseException | None = None
    calls: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)

    def __call__(self, source: str, out: Path, **options: Any) -> StubConversion:
        self.calls.append(((source, out), options))
        options["progress"]("weights", 1, 2)
        if self.error is not None:
            raise self.error
        return StubConversion(out, self.verdict)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    module = types.ModuleType("porter.convert")
    module.convert = Stub()
    monkeypatch.setitem(sys.modules, "porter.convert", module)
    return module.convert


@pytest.fixture
def run() -> Callable[..., Result]:
    def invoke(*words: str) -> Result:
        return CliRunner().invoke(main, list(words), prog_name="porter")

    return invoke
