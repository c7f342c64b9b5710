"""report.json, schema 1, as dataclasses."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from porter.errors import InputError

SCHEMA = 1
VERDICTS = ("pass", "fail", "incomplete")
BANDS = ("pass", "warn", "fail")


@dataclass(frozen=True, slots=True)
class OutputResult:
    """One output of the whole model; at other sizes its name says which: "logits (batch=3)"."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    max_abs: float
    max_rel: float
    rms_rel: float
    cosine: float
    margin: float
    verdict: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class ModuleResult:
    """One module fed the reference's own input; its worst case of all probes."""

    path: str
    cls: str
    max_abs: float
    margin: float
    verdict: str
    hint: str = ""


@dataclass(slots=True)
class Report:
    """What a validation found. `verdict` is "pass" only if everything was compared and equal."""

    verdict: str
    source: str
    reference: dict[str, Any]
    outputs: list[OutputResult] = field(default_factory=list)
    modules: list[ModuleResult] = field(default_factory=list)
    culprits: list[str] = field(default_factory=list)
    uncompared: list[str] = field(default_factory=list)
    tokens: dict[str, float] | None = None
    gradients: dict[str, Any] | None = None
    compile: dict[str, Any] | None = None
    speed: dict[str, Any] | None = None
    memory: dict[str, Any] = field(default_factory=dict)
    checks: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return self.verdict == "pass"

    @property
    def exit_code(self) -> int:
        """0 where the port is proven, 1 where it failed or is incomplete."""
        return 0 if self.passed else 1

    def to_dict(self) -> dict[str, Any]:
        """The JSON object; numbers that JSON lacks (NaN, infinity) are null."""
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        content["outputs"] = [asdict(o) for o in self.outputs]
        content["modules"] = [_renamed(asdict(m), "cls", "class") for m in self.modules]
        result: dict[str, Any] = _finite({"schema": SCHEMA, **content})
        return result

    @staticmethod
    def from_dict(content: dict[str, Any]) -> Report:
        """The inverse of `to_dict`; raises InputError where the object is no report."""
        validate(content)
        known = {f.name for f in fields(Report)}
        kept = {k: v for k, v in content.items() if k in known}
        kept["outputs"] = [_output(o) for o in content["outputs"]]
        kept["modules"] = [
            ModuleResult(**_renamed(_nan(m), "class", "cls")) for m in content["modules"]
        ]
        return Report(**kept)


def validate(content: Any) -> None:
    """Raises InputError unless `content` is a report of schema 1."""
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise InputError("This is no porter report of schema 1; run porter validate again.")
    kinds: dict[str, type | tuple[type, ...]] = {
        "source": str, "reference": dict, "outputs": list, "modules": list, "culprits": list,
        "uncompared": list, "tokens": (dict, type(None)), "gradients": (dict, type(None)),
        "compile": (dict, type(None)), "speed": (dict, type(None)), "memory": dict,
    }  # fmt: skip
    for name, kind in kinds.items():
        if name not in content or not isinstance(content[name], kind):
            raise InputError(f"The report's {name!r} is missing or of the wrong kind.")
    if content.get("verdict") not in VERDICTS:
        raise InputError(f"The report's verdict {content.get('verdict')!r} is none of {VERDICTS}.")
    numbers = ("max_abs", "margin", "verdict")
    for row in [*content["outputs"], *content["modules"]]:
        wrong = not isinstance(row, dict) or any(k not in row for k in numbers)
        if wrong or row["verdict"] not in BANDS or not ("name" in row or "path" in row):
            raise InputError("A row of the report lacks a field; run porter validate again.")


def _output(row: dict[str, Any]) -> OutputResult:
    return OutputResult(**{**_nan(row), "shape": tuple(row["shape"])})


def _renamed(row: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    return {new if k == old else k: v for k, v in row.items()}


def _nan(row: dict[str, Any]) -> dict[str, Any]:
    return {k: math.nan if v is None else v for k, v in row.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
