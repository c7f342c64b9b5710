"""How many tokens an export holds for, where the source goes another way with more of them."""

from __future__ import annotations

from porter.ir import Program
from porter.passes.cache.tokenwise import STATEFUL

#: Settings that say how long a text may be.
_LONGEST = (
    "max_position_embeddings", "max_target_positions", "n_positions", "n_ctx", "max_sequence_length", "max_seq_len",
    "max_text_len", "seq_length",
)  # fmt: skip

_RECURRENCES = STATEFUL - {"fn.with_past", "fn.token_before"}


def bound_length(program: Program) -> int:
    """Says it, unless a text can't be longer anyway, or a recurrence was found, which holds for any length.

    Returns 1 where the bound stays.
    """
    longest, program.longest = program.longest, None
    if longest is None or any(node.op in _RECURRENCES for node in program.nodes):
        return 0
    limits = [
        program.config[name] for name in _LONGEST if isinstance(program.config.get(name), int)
    ]
    tables = {size for value in program.parameters.values() for size in value.shape[:-1]}
    if any(limit <= longest for limit in limits) or tables & {longest, longest + 1, longest + 2}:
        return 0
    program.longest = longest
    program.notes.append(
        f"length: the port holds for up to {longest} tokens; with more the source goes another way, which it must be traced for"
    )
    return 1
