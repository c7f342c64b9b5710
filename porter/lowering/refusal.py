"""How a lowering says that it has no exact form for the arguments it was given."""

from __future__ import annotations

from porter.errors import Gap, UnsupportedError
from porter.ir import Value
from porter.lowering.registry import Call


def refuse(call: Call, reason: str, decompose: bool = True) -> UnsupportedError:
    """The error to raise; `reason` says which argument it is and what would be needed.

    Without `decompose` torch's decomposition is not tried: it is not what torch's own kernel computes.
    """
    where = str(call.location or "the root")
    error = UnsupportedError(
        f"{call.name} can't be ported exactly here:", (Gap(call.name, 1, where, reason),)
    )
    error.is_final = not decompose
    return error


def absent(call: Call, position: int, what: str) -> Value:
    """Stands for an output that is not ported; where a graph reads it, the verifier names it."""
    shape, dtype = call.outputs[position] if position < len(call.outputs) else ((), "int64")
    return Value(shape, dtype, name=f"{what} of {call.name}, which porter does not compute")
