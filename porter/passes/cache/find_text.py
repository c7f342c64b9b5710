"""Which input is the text that a model continues, and which attentions look at what."""

from __future__ import annotations

from dataclasses import dataclass, field

import sympy

from porter.ir import Node, Program, Value
from porter.passes.fuse.fuse_attention import ATTENTION


@dataclass(slots=True)
class Text:
    """Token ids (batch, length), and the logits (batch, length, words) that come of them.

    `depends` are the values that the ids bear on. An attention over the text alone is in `own`, one of the text over
    something else in `crossed`; those that see none of the text are in neither.
    """

    ids: Value
    length: sympy.Symbol
    logits: Value
    depends: set[Value] = field(default_factory=set)
    own: list[Node] = field(default_factory=list)
    crossed: list[Node] = field(default_factory=list)


def find_text(program: Program) -> Text | None:
    """The text that the program continues: the one input of ids along a dim of its own, from which logits are made."""
    for ids in program.inputs:
        if ids.rank != 2 or not ids.dtype.startswith("int"):
            continue
        length = ids.shape[1]
        alone = not any(length in value.shape for value in program.inputs if value is not ids)
        if not isinstance(length, sympy.Symbol) or not alone:
            continue
        logits = [v for v in program.output_values() if v.rank == 3 and v.shape[:2] == ids.shape]
        if len(logits) == 1:
            text = Text(ids, length, logits[0])
            _sort(program, text)
            if text.logits in text.depends:
                return text
    return None


def _sort(program: Program, text: Text) -> None:
    text.depends.add(text.ids)
    for node in program.nodes:
        if any(value in text.depends for value in node.inputs()):
            text.depends.update(node.outputs)
        if node.op not in ATTENTION or node.args[0] not in text.depends:
            continue
        seen = [value in text.depends for value in node.args[1:3]]
        (text.own if any(seen) else text.crossed).append(node)
