"""What mx.quantize offers: its modes, with the bits and group sizes of each. Data only, without MLX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from porter.errors import UsageError

#: mode -> (bits it allows, group sizes it allows); the first of each is the default.
MODES = {
    "affine": ((4, 2, 3, 5, 6, 8), (64, 32, 128)),
    "mxfp4": ((4,), (32,)),
    "mxfp8": ((8,), (32,)),
    "nvfp4": ((4,), (16,)),
}


@dataclass(frozen=True, slots=True)
class Quantization:
    """How one layer is quantized, as mx.quantize takes it."""

    group_size: int
    bits: int
    mode: str = "affine"

    def to_dict(self) -> dict[str, Any]:
        """As config.json has it."""
        return {"group_size": self.group_size, "bits": self.bits, "mode": self.mode}


def quantization(how: Mapping[str, Any]) -> Quantization:
    """`how` with the mode's defaults for what it leaves out; UsageError for a combination that MLX lacks."""
    if unknown := sorted(set(how) - {"bits", "group_size", "mode"}):
        raise UsageError(f"quantize has no {', '.join(unknown)}: give bits, group_size and mode.")
    mode = how.get("mode") or "affine"
    if mode not in MODES:
        raise UsageError(f"there is no quantization mode {mode!r}: choose from {', '.join(MODES)}.")
    chosen = []
    for name, allowed in zip(("bits", "group_size"), MODES[mode], strict=True):
        value = allowed[0] if how.get(name) is None else how[name]
        if value not in allowed:
            choices = ", ".join(map(str, sorted(allowed)))
            raise UsageError(f"{name} {value} is not to be had in mode {mode}: {choices} is.")
        chosen.append(int(value))
    return Quantization(chosen[1], chosen[0], mode)
