"""The gradients that the port's are compared with: torch's, over every parameter and every floating input.

Differentiated is the sum of all outputs times fixed noise, so that every element of every output counts. One file holds the
truth in float64, out0, ..., and as in0, ... the values of the tensors that a recipe does not take linearly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from porter.validate.candidate_results import GRADIENTS
from porter.validate.data import write_arrays
from porter.validate.entries import array
from porter.validate.graph import float64
from porter.validate.metrics import cotangent, gradient_errors
from porter.weights.mapping import Mapping
from porter.weights.recipes import Recipe, sources, walk

#: Above this many parameters their gradients are not computed.
MOST_PARAMETERS = 300_000_000
#: What a recipe may hold and stay linear in its sources; products with a number are.
LINEAR = {
    "source",
    "permute",
    "reshape",
    "concatenate",
    "split",
    "slice",
    "take",
    "cast",
    "negative",
    "add",
    "subtract",
}


def write_gradients(
    module: torch.nn.Module, args: Any, kwargs: Any, keys: dict[str, str], names: list[str],
    directory: Path, folder: Path,
) -> dict[str, Any] | None:  # fmt: skip
    """Writes GRADIENTS; returns the manifest's "gradients", None where there is nothing to differentiate.

    module: float32. keys: its names -> checkpoint keys. names: those of the tensor inputs, in order.
    Raises what torch raises where it has no gradient for an op.
    """
    owners = [(name, p) for name, p in module.named_parameters() if p.is_floating_point()]
    if not owners or sum(p.numel() for _, p in owners) > MOST_PARAMETERS:
        return None
    rows = [{"key": keys.get(name, name), "name": name} for name, _ in owners]
    floating = [
        name
        for name, value in zip(names, _tensors((args, kwargs)), strict=True)
        if value.is_floating_point()
    ]
    rows += [{"input": name, "name": f"input {name}"} for name in floating]
    own = _gradients(module, args, kwargs)
    if own is None:
        return None
    module.double()
    try:
        with float64():
            wide = pytree.tree_map(
                lambda v: (
                    v.double() if isinstance(v, torch.Tensor) and v.is_floating_point() else v
                ),
                (args, kwargs),
            )
            truth = _gradients(module, *wide)
    finally:
        module.float()
    assert truth is not None
    exact = [array(g, wide=True) for g in truth]
    values = _values(module, keys, directory)
    write_arrays(folder / GRADIENTS, [array(v) for v in values.values()], list(exact))
    errors = gradient_errors([array(g, wide=True) for g in own], exact)
    return {"rows": rows, "torch_error": errors, "values": list(values)}


def _gradients(module: torch.nn.Module, args: Any, kwargs: Any) -> list[torch.Tensor] | None:
    """By the floating parameters, then by the floating inputs; zero where an output does not depend on one."""
    parameters = [p for p in module.parameters() if p.is_floating_point()]
    before = [p.requires_grad for p in parameters]
    given, spec = pytree.tree_flatten((args, kwargs))
    given = [v.clone() if isinstance(v, torch.Tensor) else v for v in given]
    floating = [v for v in given if isinstance(v, torch.Tensor) and v.is_floating_point()]
    for tensor in (*parameters, *floating):
        tensor.requires_grad_(True)
    try:
        own_args, own_kwargs = pytree.tree_unflatten([*map(_alias, given)], spec)
        with torch.enable_grad():
            outputs = _tensors(module(*own_args, **own_kwargs))
            terms = [
                (y * torch.from_numpy(cotangent(i, tuple(y.shape))).to(y.dtype)).sum()
                for i, y in enumerate(outputs)
                if y.is_floating_point() and y.requires_grad
            ]
            if not terms:
                return None
            wanted = [*parameters, *floating]
            found = torch.autograd.grad(sum(terms), wanted, allow_unused=True)  # type: ignore[arg-type]
    finally:
        for parameter, state in zip(parameters, before, strict=True):
            parameter.requires_grad_(state)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, wanted, strict=True)]


def _alias(value: Any) -> Any:
    """A view that the module may write into."""
    wanted = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value * 1 if wanted else value


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [v for v in pytree.tree_leaves(tree) if isinstance(v, torch.Tensor)]


def _values(module: torch.nn.Module, keys: dict[str, str], directory: Path) -> dict[str, Any]:
    """Checkpoint key -> value, for the sources of recipes that are not linear."""
    table = Mapping.load(directory / "mapping.toml").tensors
    needed = {key for recipe in table.values() if not _linear(recipe) for key in sources(recipe)}
    state = {keys.get(name, name): tensor for name, tensor in module.state_dict().items()}
    return {key: state[key] for key in sorted(needed & state.keys())}


def _linear(recipe: Recipe) -> bool:
    for part in walk(recipe):
        by_number = part.function in ("multiply", "divide") and not (
            isinstance(part.arguments[0], Recipe) and isinstance(part.arguments[1], Recipe)
        )
        if part.function not in LINEAR and not (
            by_number and isinstance(part.arguments[0], Recipe)
        ):
            return False
    return True
