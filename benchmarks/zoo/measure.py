"""Measures one case: export, port, agreement with torch, other sizes, mx.compile, gradients, style."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import torch
from torch.utils import _pytree as pytree

from benchmarks.zoo import generation, sharded
from benchmarks.zoo.case import Built, Case
from benchmarks.zoo.first_difference import first_difference
from benchmarks.zoo.gradients import TOLERANCE as GRADIENT_TOLERANCE
from benchmarks.zoo.gradients import gradient_error
from benchmarks.zoo.weights import randomize
from porter.compile import Port, compile_port
from porter.errors import PorterError
from porter.frontends.input_dims import argument_names, named_dims, named_tensors
from porter.frontends.known_dataclasses import know_dataclasses
from porter.loading import Compiled, instantiate
from porter.sources import Source, SourceOptions
from porter.sources.built import built_source
from porter.sources.constructors import record_constructors
from porter.sources.running import deterministic
from porter.style import check
from porter.validate import decoding
from porter.validate.budget import UNIT_ROUNDOFF
from porter.validate.candidate import leaves
from porter.validate.data import permuted, restored
from porter.validate.metrics import Array, difference, rms
from porter.validate.variation import (
    carries_state,
    declared_axes,
    named_axes,
    proposals,
    resized,
    sizes_of,
)
from porter.weights import recipes
from porter.weights.overlay import Overlay

#: Relative RMS error against torch in float32; beyond it, against float64, as many times torch's own error.
TOLERANCE, TIMES_TORCH = 1e-4, 8.0
#: The part of the output that depends on the input must agree to this: biases must not hide a wrong trunk.
SENSITIVE_TOLERANCE = 1e-2
COMPILED_TOLERANCE = 1e-5

Send = Callable[[dict[str, Any]], None]


def measure(case: Case, send: Send, gradients: bool = True) -> None:
    """Sends the columns as they become known; what it raises is the case's failure."""
    send({"stage": "build"})
    with deterministic(0), record_constructors() as log:
        built = case.build()
    if case.randomize:
        randomize(built.module)
    source = built_source(
        case.name, SourceOptions(), "factory", case.name, built.module, built.args, built.kwargs,
        built.dynamic, log,
    )  # fmt: skip
    source.config = built.config or None
    module = source.materialize()
    send({"stage": "reference"})
    expected = reference(module, source.args, source.kwargs)
    port = compiled_port(source, send)
    send({"stage": "load"})
    tensors = Overlay(source.tensors, port.kept) if port.kept else source.tensors
    weights = {path: recipes.evaluate(recipe, tensors) for path, recipe in port.recipes.items()}
    for path, array in weights.items():
        if array.dtype == mx.float64:  # the writer stores it so
            weights[path] = array.astype(mx.float32)
    model = instantiate(port.model_py, port.config, weights)
    send({"stage": "run"})
    inputs = arranged(port, module, source)
    found = run(model, inputs, port)
    gap = compare(
        found, expected, lambda: truth(module, source.args, source.kwargs), roundoffs(port)
    )
    gap = gap or wrong_types(port, expected)
    send({"error": gap, "correct": gap == ""})
    if gap:
        culprit = first_difference(
            module, lambda: reference(module, source.args, source.kwargs), model,
            lambda: run(model, inputs, port), port,
        )  # fmt: skip
        raise AssertionError("; ".join(filter(None, (gap, culprit))))
    if decoding.takes_cache(model):
        send({"stage": "decode"})
        send(decoder_columns(model, inputs))
        if hasattr(model, "shard"):
            send({"stage": "shard"})
            gap = sharded.gap(port.model_py, port.config, weights, model, inputs[0])
            send({"shard": gap <= TOLERANCE, "shard_error": gap})
    if generation.writes(model):
        send({"stage": "generate"})
        names = [given["name"] for given in port.inputs]
        send(generation.columns(model, names, inputs, module, source.kwargs))
    send({"stage": "other sizes"})
    send(other_sizes(model, port, module, source))
    send({"stage": "mx.compile"})
    try:
        fast = run(Compiled(model), inputs, port)
    except ValueError as error:
        if "during function transformations" not in str(error):
            raise
        send({"stage": "done", "compiled": None, "host": True})  # sizes that depend on the data
        return
    errors = [difference(a, wide(b)).rms_rel for a, b in zip(fast, found, strict=True)]
    allowed = [max(COMPILED_TOLERANCE, step) for step in roundoffs(port)]
    equal = all(error <= most for error, most in zip(errors, allowed, strict=True))
    send({"compiled": equal, "compiled_error": max(errors)})
    if gradients:
        send({"stage": "gradients"})
        found_error = gradient_error(module, source, port, model, inputs)
        if found_error is not None:
            worst, own, where = found_error
            send({
                "gradients": worst <= max(GRADIENT_TOLERANCE, TIMES_TORCH * own),
                "gradients_error": worst, "torchs_gradients_error": own, "at": where,
            })  # fmt: skip
    send({"stage": "done"})


def decoder_columns(model: Any, inputs: list[mx.array]) -> dict[str, Any]:
    """The caches of a decoder, and whether it does with them what it does without."""
    from mlx_lm.models.cache import make_prompt_cache

    kinds = Counter(type(cache).__name__ for cache in make_prompt_cache(model))
    columns = {"caches": ", ".join(f"{n} {kind}" for kind, n in kinds.items())}
    columns["decode"] = decoding.decoded(model, inputs)["gaps"][0] <= TOLERANCE
    padded = decoding.padded(model, inputs)
    return columns | ({} if padded is None else {"padding": padded["gaps"][0] <= TOLERANCE})


def compiled_port(source: Source, send: Send) -> Port:
    """The port, with what is known on the way: whether torch exports, the nodes, the seconds."""
    nodes: list[int] = []

    def progress(what: str, *_: Any) -> None:
        send({"stage": what} | ({"exported": True} if what == "lowering to MLX" else {}))

    started = time.process_time()
    send({"exported": False, "converted": False})
    port = compile_port(source, progress=progress, dump=lambda _, p: nodes.append(len(p.nodes)))
    send({
        "converted": True, "seconds": round(time.process_time() - started, 2),
        "timings": {k: round(v, 2) for k, v in port.timings.items()}, "nodes": nodes[0],
        "lines": len(port.model_py.splitlines()), "transposes": port.model_py.count("transpose("),
        "notes": port.notes, "source": port.model_py,
    })  # fmt: skip
    hard = [finding for finding in check(port.model_py) if finding.hard]
    send({"style": not hard, "findings": dict(Counter(finding.check for finding in hard))})
    return port


def reference(module: torch.nn.Module, args: tuple, kwargs: dict) -> list[Array]:
    """The outputs; what the module keeps from call to call is as it was afterwards."""
    buffers = [(m, {k: (b, clones(b)) for k, b in m._buffers.items()}) for m in module.modules()]
    try:
        with torch.no_grad():
            return tensors_of(module(*clones(args), **clones(kwargs)))
    finally:
        for owner, before in buffers:
            for name, (buffer, value) in before.items():
                owner._buffers[name] = buffer
                if buffer is not None and not torch.equal(buffer, value):
                    buffer.copy_(value)


def truth(module: torch.nn.Module, args: tuple, kwargs: dict) -> list[Array]:
    """The outputs in float64; the module is float32 again afterwards."""
    try:
        return reference(
            module.double(), clones(args, torch.float64), clones(kwargs, torch.float64)
        )
    finally:
        module.float()


def clones(tree: Any, dtype: torch.dtype | None = None) -> Any:
    """Copies, since a module may write into its inputs; floating tensors in `dtype` where it is given."""

    def clone(t: torch.Tensor) -> torch.Tensor:
        if dtype is not None and t.is_complex():
            return t.to(torch.complex128)
        return t.to(dtype) if dtype is not None and t.is_floating_point() else t.clone()

    return pytree.tree_map_only(torch.Tensor, clone, tree)


def tensors_of(result: Any) -> list[Array]:
    return [
        _numpy(t)
        for t in pytree.tree_leaves(know_dataclasses(result))
        if isinstance(t, torch.Tensor)
    ]


def _numpy(tensor: torch.Tensor) -> Array:
    """numpy has no bfloat16: those as float32."""
    tensor = tensor.detach().resolve_conj().resolve_neg()
    array: Array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def roundoffs(port: Port) -> list[float]:
    """The relative error of rounding each output to its type, where that is coarser than TOLERANCE."""
    steps = [UNIT_ROUNDOFF.get(given["dtype"], 0.0) for given in port.outputs]
    return [2 * step if step > TOLERANCE else 0.0 for step in steps]


def wrong_types(port: Port, expected: list[Array]) -> str:
    """Which output has another type than torch's; float64 is float32 in MLX, and complex128 complex64."""
    for index, (y, given) in enumerate(zip(expected, port.outputs, strict=True)):
        dtype = {"float64": "float32", "complex128": "complex64"}.get(str(y.dtype), str(y.dtype))
        own = "float32" if given["dtype"] == "bfloat16" else given["dtype"]  # as numpy has it
        if own != dtype:
            return f"output {index} is {given['dtype']}, torch's is {dtype}"
    return ""


def arranged(port: Port, module: torch.nn.Module, source: Source) -> list[mx.array]:
    """The example inputs in the port's order and layout."""
    return _to_port(port, _named(module, source.args, source.kwargs))


def _named(module: torch.nn.Module, args: tuple, kwargs: dict) -> dict[str, torch.Tensor]:
    names = argument_names(module, args, kwargs)
    return named_tensors(dict(zip(names, [*args, *kwargs.values()], strict=True)))


def _to_port(port: Port, named: dict[str, torch.Tensor]) -> list[mx.array]:
    by_place = list(named.values())
    arrays = []
    for place, given in enumerate(port.inputs):
        tensor = named.get(given["name"], by_place[place] if place < len(by_place) else None)
        assert tensor is not None, f"the port has an input {given['name']} that the module lacks"
        array = mx.array(np.asarray(permuted(_numpy(tensor), given["permute"]), order="C"))
        arrays.append(array.astype(mx.bfloat16) if tensor.dtype == torch.bfloat16 else array)
    return arrays


def run(model: Any, inputs: list[mx.array], port: Port) -> list[Array]:
    """The port's outputs, in the source's layout."""
    values = list(leaves(model(*inputs)))
    mx.eval(values)
    assert len(values) == len(port.outputs), f"{len(values)} outputs, not {len(port.outputs)}"
    for value, given in zip(values, port.outputs, strict=True):
        own = str(value.dtype).rpartition(".")[2].rstrip("_")
        assert own == given["dtype"], f"an output is {own}, declared {given['dtype']}"
    values = [v.astype(mx.float32) if v.dtype == mx.bfloat16 else v for v in values]
    return [
        restored(np.array(value), given["permute"])
        for value, given in zip(values, port.outputs, strict=True)
    ]


def wide(y: Array) -> Array:
    return y.astype(np.float64) if y.dtype.kind == "f" else y


def compare(
    found: list[Array], expected: list[Array], exact: Callable[[], list[Array]], steps: Sequence[float] = ()
) -> str:  # fmt: skip
    """What is wrong with `found`, or nothing.

    `exact` gives the float64 truth where it is needed, `steps` what rounding to each output's type costs.
    """
    if len(found) != len(expected):
        return f"{len(found)} outputs, torch has {len(expected)}"
    for index, (z, y) in enumerate(zip(found, expected, strict=True)):
        gap = difference(z, wide(y))
        if gap.problem:
            return f"output {index}: {gap.problem}"
        error, sensitivity = gap.rms_rel, _sensitivity(y)
        if steps and error <= steps[index]:
            continue
        if error <= TOLERANCE and error <= SENSITIVE_TOLERANCE * sensitivity:
            continue
        y64 = exact()[index]
        own, torchs = difference(z, y64).rms_rel, difference(y, y64).rms_rel
        if own > max(TIMES_TORCH * torchs, steps[index] if steps else 0.0):
            return f"output {index}: relative RMS error {own:.1e}, torch's own {torchs:.1e}"
    return ""


def _sensitivity(y: Array) -> float:
    """How much the output changes from one sample to the next, relative to its size; 1 where that says nothing."""
    if y.dtype.kind != "f" or y.ndim == 0 or y.shape[0] < 2 or not np.isfinite(y).all():
        return 1.0
    y = wide(y)
    return rms(y[1:] - y[:-1]) / (rms(y) or 1.0) or 1.0


def other_sizes(model: Any, port: Port, module: torch.nn.Module, source: Source) -> dict[str, Any]:
    """Agreement at another size of each dim that may vary in the source, and the dims that the port has fixed."""
    names = list(_named(module, source.args, source.kwargs))
    axes = named_axes(names, named_dims(source))
    for place, dims in declared_axes(port.inputs, [name.lower() for name in names]).items():
        axes.setdefault(place, {}).update(dims)  # what the export found to be one size has one name
    sizes = sizes_of(source.args, source.kwargs, axes)
    free = {d for given in port.inputs for d in given["shape"] if isinstance(d, str)}
    # A smaller height with a larger width: not square, and no dearer than it must be.
    carries = carries_state(port.model_py)
    changed = {
        d: proposals(d, size, carries)[-1 if d == "height" else 0] for d, size in sizes.items()
    }
    attempts = [changed] + [{dim: size} for dim, size in changed.items()] * (len(changed) > 1)
    tried: list[str] = []
    fixed: set[str] = set()
    for attempt in attempts:
        todo = {dim: size for dim, size in attempt.items() if dim not in tried}
        if not todo:
            continue
        args, kwargs = resized(source.args, source.kwargs, axes, todo)
        try:
            expected = reference(module, args, kwargs)
        except Exception:  # noqa: BLE001, S112 -- the source does not take this size
            continue
        fixed |= todo.keys() - free
        kept = {dim: size for dim, size in todo.items() if dim in free}
        if kept.keys() < todo.keys():
            continue  # what is free is tried by itself
        gap = compare(
            run(model, _to_port(port, _named(module, args, kwargs)), port), expected,
            lambda args=args, kwargs=kwargs: truth(module, args, kwargs),  # type: ignore[misc]
        )  # fmt: skip
        if gap:
            return {"other_sizes": False, "reason": f"at {todo}: {gap}", "fixed": sorted(fixed)}
        tried += todo
    return {
        "other_sizes": True if tried else None,
        "tried": tried,
        "fixed": sorted(fixed - set(tried)),
    }


def reason_of(error: BaseException) -> str:
    """The failure in one line."""
    text = " ".join(str(error).split()) or "no message"
    name = "" if isinstance(error, (PorterError, AssertionError)) else f"{type(error).__name__}: "
    return f"{name}{text}"[:400]


__all__ = ["Built", "measure", "reason_of"]
