"""What must hold of every program between two passes."""

from __future__ import annotations

from porter.errors import PorterError
from porter.ir.program import Program, Value


class VerificationError(PorterError):
    """A pass left a program that is not one: a defect of porter's."""


def verify(program: Program) -> None:
    """Raises VerificationError unless every value read is an input, a parameter or an earlier node's output."""
    known: set[Value] = set(program.inputs)
    for node in program.nodes:
        for value in node.inputs():
            if value not in known and not value.is_parameter:
                raise VerificationError(
                    f"{node.op} at {node.location} reads {value!r}, which nothing before it writes."
                )
        for value in node.outputs:
            if value in known:
                raise VerificationError(
                    f"{node.op} at {node.location} writes {value!r}, which exists already."
                )
            if value.node is not node:
                raise VerificationError(f"{value!r} does not name {node.op} as its node.")
            known.add(value)
    for name, value in program.outputs:
        if value not in known and not value.is_parameter:
            raise VerificationError(f"output {name!r} is {value!r}, which nothing writes.")
