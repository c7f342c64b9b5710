"""Which layers of a model.py are used as plain arrays (`self.embed.weight`), told from its syntax alone.

A quantized layer's `weight` holds packed codes, so such a layer must stay as it is.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass

ANY = "*"  #: in a chain: any one item of a list
BELOW = "**"  #: as a whole chain: whatever lies below, since the code does not say what


@dataclass(frozen=True, slots=True)
class FunctionalUse:
    """Class name -> attribute chains from `self` to layers whose weight is read; "" is code outside of classes."""

    chains: Mapping[str, frozenset[tuple[str, ...]]]

    @classmethod
    def of(cls, source: str) -> FunctionalUse:
        """What the text of a model.py reads; it is parsed and not run."""
        found: dict[str, set[tuple[str, ...]]] = {}
        for statement in ast.parse(source).body:
            owner = statement.name if isinstance(statement, ast.ClassDef) else ""
            for node in ast.walk(statement):
                read = _weight_of(node)
                if read is not None and (chain := _chain(read)) != ():
                    found.setdefault(owner, set()).add((BELOW,) if chain is None else chain)
        return cls({owner: frozenset(chains) for owner, chains in found.items()})

    def reads(self, classes: Mapping[str, str], path: str) -> bool:
        """Whether the layer at `path` has its weight read; `classes` are the model's, by their paths."""
        parts = path.split(".")
        for depth in range(len(parts)):
            owner, rest = classes.get(".".join(parts[:depth])), parts[depth:]
            chains = self.chains.get(owner, frozenset()) if owner is not None else frozenset()
            if depth == 0:
                chains = chains | self.chains.get("", frozenset())
            if any(_matches(chain, rest) for chain in chains):
                return True
        return False


def _matches(chain: tuple[str, ...], rest: list[str]) -> bool:
    if chain == (BELOW,):
        return True
    return len(chain) == len(rest) and all(a in (ANY, b) for a, b in zip(chain, rest, strict=True))


def _weight_of(node: ast.AST) -> ast.expr | None:
    """The X of `X.weight`, `X["weight"]` and `getattr(X, "weight")`."""
    match node:
        case ast.Attribute(value=layer, attr="weight", ctx=ast.Load()):
            return None if isinstance(layer, ast.Name) and layer.id == "args" else layer
        case ast.Subscript(value=layer, slice=ast.Constant("weight"), ctx=ast.Load()):
            return layer
        case ast.Call(func=ast.Name("getattr"), args=[layer, ast.Constant("weight"), *_]):
            return layer
    return None


def _chain(node: ast.expr) -> tuple[str, ...] | None:
    """`self.layers[0].fc` as ("layers", "0", "fc"); None for what does not start at self."""
    match node:
        case ast.Name("self"):
            return ()
        case ast.Attribute(value=inner, attr=name):
            last = name
        case ast.Subscript(value=inner, slice=ast.Constant(int() | str() as index)):
            last = str(index)
        case ast.Subscript(value=inner):
            last = ANY
        case ast.Call(func=ast.Name("getattr"), args=[inner, ast.Constant(str(name)), *_]):
            last = name
        case _:
            return None
    before = _chain(inner)
    return None if before is None else (*before, last)
