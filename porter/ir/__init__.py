"""The intermediate representation: a flat, typed program of MLX calls."""

from porter.ir.program import (
    Frame,
    Location,
    Memory,
    ModuleInfo,
    Node,
    Program,
    Shards,
    Size,
    Value,
    Variant,
    map_values,
    values_in,
)
from porter.ir.verifier import VerificationError, verify

__all__ = [
    "Frame",
    "Location",
    "Memory",
    "ModuleInfo",
    "Node",
    "Program",
    "Shards",
    "Size",
    "Value",
    "Variant",
    "VerificationError",
    "map_values",
    "values_in",
    "verify",
]
