"""In which class a node will stand: modules that hold no parameter, or one layer, become a part of the module around them."""

from __future__ import annotations

from typing import Any

from porter.ir import Program
from porter.passes.factor.layer_names import layer_path


class Homes:
    """Scopes by whether they hold a parameter."""

    __slots__ = ("holders",)

    def __init__(self, program: Program):
        self.holders: set[Any] = set()
        for node in program.nodes:
            if any(value.is_parameter for value in node.inputs()):
                within = len(node.scope)
                if within and node.is_layer and node.params:
                    within -= layer_path(node) == node.scope[-1].path  # the layer is all that stays
                self.holders |= {node.scope[:depth] for depth in range(within + 1)}

    def home(self, scope: Any) -> Any:
        """The scope without the calls of modules that have no class of their own."""
        while scope and scope not in self.holders:
            scope = scope[:-1]
        return scope
