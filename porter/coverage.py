"""The coverage table: every ATen and ONNX op, whether porter lowers it, and why not."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

NO_ONNX_FRONTEND = "porter has no ONNX frontend yet"

# The frontend reads these itself: sizes are symbols, and assertions are left out.
FRONTEND = ("aten.sym_", "aten._assert_")

# Tag of the op -> why such an op has no lowering. From aten/src/ATen/native/tags.yaml.
REASONS_BY_TAG = (
    ("nondeterministic_seeded", "draws random numbers, which MLX and torch draw differently"),
    ("data_dependent_output", "its result is a Python number, known only when the model runs"),
    ("dynamic_output_shape", "the shape of its result depends on the data; MLX has no such shapes"),
    ("inplace_view", "changes a tensor's shape in place; MLX arrays do not change"),
)

# Piece of the op's name -> why.
REASONS_BY_NAME = (
    ("_backward", "only training runs it; MLX differentiates the port itself"),
    ("cudnn", "one backend's kernel; torch.export gives the op above it"),
    ("miopen", "one backend's kernel; torch.export gives the op above it"),
    ("mkldnn", "one backend's kernel; torch.export gives the op above it"),
    ("mps_", "one backend's kernel; torch.export gives the op above it"),
    ("sparse", "MLX has no sparse arrays"),
    ("quantize", "torch's quantized tensors are unpacked when weights are read"),
    ("fake_quant", "only quantization-aware training runs it"),
    ("nested", "MLX has no nested tensors"),
    (
        "linalg_eig.",
        "the order of eigenvalues and the factor of each eigenvector are each library's own",
    ),
    ("linalg_eigvals.", "the order of eigenvalues is each library's own"),
    ("jagged", "MLX has no nested tensors"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """An op of a dialect ("aten", "onnx", or a user's own namespace); `reason` is empty where it is lowered."""

    name: str
    dialect: str
    core: bool
    lowered: bool
    reason: str = ""


def coverage() -> list[Row]:
    """All rows: ATen by name, then ops of other namespaces that have a lowering, then ONNX."""
    from porter.lowering import registry

    known = set(registry())
    rows = []
    for name, is_core, reason in sorted(_aten()):
        lowered = name in known or name.startswith(FRONTEND)
        rows.append(Row(name, "aten", is_core, lowered, "" if lowered else reason))
    listed = {row.name for row in rows}
    rows += [Row(name, name.partition(".")[0], False, True) for name in sorted(known - listed)]
    return rows + [Row(name, "onnx", False, False, NO_ONNX_FRONTEND) for name in _onnx()]


def totals(rows: list[Row]) -> dict[str, tuple[int, int]]:
    """Lowered and all, of core ATen, of all ATen, and of every other dialect."""
    groups: dict[str, list[Row]] = {"core aten": [row for row in rows if row.core]}
    for row in rows:
        groups.setdefault(row.dialect, []).append(row)
    return {name: (sum(row.lowered for row in group), len(group)) for name, group in groups.items()}


def _aten() -> Iterator[tuple[str, bool, str]]:
    """Name, whether it is a core ATen op, and why it may lack a lowering, of each op that an exported graph can hold.

    Variants that write to a given output (`out=`) and functions of Python types alone are never in one.
    """
    torch: Any = importlib.import_module("torch")
    for packet_name in dir(torch.ops.aten):
        packet = getattr(torch.ops.aten, packet_name)
        if not hasattr(packet, "overloads"):
            continue
        for overload_name in packet.overloads():
            op = getattr(packet, overload_name)
            arguments = op._schema.arguments
            # Some out variants are registered without marking their argument, once torch has generated them.
            if overload_name == "out" or any(argument.is_out for argument in arguments):
                continue
            if not any("Tensor" in str(item.type) for item in [*arguments, *op._schema.returns]):
                continue
            yield (
                str(op),
                torch.Tag.core in op.tags,
                _reason(str(op), {str(tag) for tag in op.tags}),
            )


def _reason(name: str, tags: set[str]) -> str:
    for piece, reason in REASONS_BY_NAME:
        if piece in name:
            return reason
    for tag, reason in REASONS_BY_TAG:
        if any(tag in item for item in tags):
            return reason
    return "nobody has written it yet"


def _onnx() -> list[str]:
    """Names of the standard ONNX ops; one line in their place without the onnx package."""
    if importlib.util.find_spec("onnx") is None:
        return ["onnx.* (install porter[onnx] to list them)"]
    defs: Any = importlib.import_module("onnx.defs")
    return sorted(
        {f"onnx.{schema.name}" for schema in defs.get_all_schemas() if schema.domain == ""}
    )
