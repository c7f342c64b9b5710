"""Positions that are one op in the graph (frontends/picture_positions.py)."""

from __future__ import annotations

from porter.ir import Value
from porter.lowering.registry import Call, lowering


@lowering("porter.picture_positions.default")
def picture_positions(call: Call, ids: Value, token: int, rows: int, columns: int) -> Value:
    return call.build.op(
        "fn.picture_positions", ids, token, rows, columns, shape=call.shape, dtype=call.dtype
    )
