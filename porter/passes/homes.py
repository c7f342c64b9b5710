"""In which class a node will stand: modules that hold no parameter become a part of the module around them."""

from __future__ import annotations

from typing import Any

from porter.ir import Program


class Homes:
    """Scopes by whether they hold a parameter."""

    __slots__ = ("holders",)

    def __init__(self, program: Program):
        self.holders: set[Any] = set()
        for node in program.nodes:
            if any(value.is_parameter for value in node.inputs()):
                self.holders |= {node.scope[:depth] for depth in range(len(node.scope) + 1)}

    def home(self, scope: Any) -> Any:
        """The scope without the calls of modules that hold no parameter."""
        while scope and scope not in self.holders:
            scope = scope[:-1]
        return scope
